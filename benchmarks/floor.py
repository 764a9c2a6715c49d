"""The training-free floor of the accuracy tables: smoothed principal components and a tied Gaussian mixture.

usage: floor.py INPUT.h5ad K OUTPUT.csv [--seed S] [--use-rep KEY]

3,000 highly variable genes (seurat_v3), 1e4 counts per spot, log1p, scale (max 10), 15 principal
components, mean over a spot and its 18 nearest spatial neighbours, Gaussian mixture with one tied
covariance, 5 starts.
"""

from __future__ import annotations

import argparse
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy import sparse
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors

NEIGHBORS, COMPONENTS = 18, 15


def components(adata: ad.AnnData, use_rep: str | None, seed: int) -> np.ndarray:
    if use_rep:
        return np.asarray(adata.obsm[use_rep], dtype=np.float64)[:, :COMPONENTS]
    if adata.n_vars > 600:
        sc.pp.filter_genes(adata, min_cells=max(3, min(100, adata.n_obs // 40)))
    if adata.n_vars > 3000:
        sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=3000)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    if "highly_variable" in adata.var:
        adata = adata[:, adata.var["highly_variable"]].copy()
    sc.pp.scale(adata, max_value=10)
    sc.pp.pca(adata, n_comps=min(COMPONENTS, adata.n_vars - 1), random_state=seed)
    return adata.obsm["X_pca"].astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("k", type=int)
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--use-rep")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    adata = ad.read_h5ad(args.input)
    pcs = components(adata, args.use_rep, args.seed)
    n = adata.n_obs
    index = NearestNeighbors(n_neighbors=NEIGHBORS).fit(adata.obsm["spatial"]).kneighbors(return_distance=False)
    near = sparse.csr_matrix((np.ones(index.size), (np.repeat(np.arange(n), NEIGHBORS), index.ravel())), shape=(n, n))
    smooth = (near @ pcs + pcs) / (NEIGHBORS + 1)
    mixture = GaussianMixture(args.k, covariance_type="tied", n_init=5, reg_covar=1e-4, random_state=args.seed)
    pd.DataFrame({"domain": mixture.fit_predict(smooth)}, index=adata.obs_names).to_csv(args.output, index_label="spot")


if __name__ == "__main__":
    main()

"""Clusterings that ignore space: what counts alone tell about domains.

usage: baselines.py {mixture,leiden} INPUT.h5ad K OUTPUT.csv [--seed S] [--use-rep KEY]

Both start from the principal components of the floor. ``mixture``: Gaussian mixture, tied covariance, 5 starts.
``leiden``: 15 nearest neighbours, modularity with a resolution searched for K communities.
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from pathlib import Path

import anndata as ad
import igraph
import numpy as np
import pandas as pd
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import kneighbors_graph

from floor import components

sys.path.append(str(Path(__file__).resolve().parent / "peers"))
from common import search_resolution


def mixture(pcs: np.ndarray, k: int, seed: int) -> np.ndarray:
    model = GaussianMixture(k, covariance_type="tied", n_init=5, reg_covar=1e-4, random_state=seed)
    return model.fit_predict(pcs)


def leiden(pcs: np.ndarray, k: int, seed: int) -> np.ndarray:
    near = kneighbors_graph(pcs, 15)
    near = near.maximum(near.T).tocoo()
    upper = near.row < near.col
    graph = igraph.Graph(len(pcs), np.column_stack([near.row[upper], near.col[upper]]).tolist())

    def cluster(resolution: float) -> np.ndarray:
        random.seed(seed)
        found = graph.community_leiden("modularity", resolution=resolution, n_iterations=2)
        return np.asarray(found.membership)

    return search_resolution(cluster, k)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=("mixture", "leiden"))
    parser.add_argument("input")
    parser.add_argument("k", type=int)
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--use-rep")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    adata = ad.read_h5ad(args.input)
    pcs = components(adata, args.use_rep, args.seed)
    labels = {"mixture": mixture, "leiden": leiden}[args.method](pcs, args.k, args.seed)
    pd.DataFrame({"domain": labels}, index=adata.obs_names).to_csv(args.output, index_label="spot")


if __name__ == "__main__":
    main()

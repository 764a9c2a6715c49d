"""SpaGCN without a histology image, refined by its own majority vote.

Settings: https://github.com/jianhuupenn/SpaGCN/blob/master/tutorial/tutorial.md (p = 0.5; search_l, then search_res for
K with tol 5e-3, lr 0.05, 20 epochs; training for 200 epochs from Louvain; refine on a hexagonal grid for Visium, and on
a square one for other data). A given embedding takes the place of the normalised expression; its principal components
are those of SpaGCN.
"""

import random

import common
import numpy as np
import scanpy as sc
import SpaGCN as spg  # noqa: N813
import torch
from scipy import sparse
from sklearn.neighbors import NearestNeighbors


def domains(adata, args):
    if args.use_rep:
        adata = common.embedded(adata, args.use_rep)
    adata.X = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    x, y = np.asarray(adata.obsm["spatial"], dtype=float).T.tolist()
    adj = spg.calculate_adj_matrix(x=x, y=y, histology=False)
    if not args.use_rep:
        spg.prefilter_genes(adata, min_cells=3)
        spg.prefilter_specialgenes(adata)
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    l = spg.search_l(0.5, adj, start=0.01, end=1000, tol=0.01, max_run=100)  # noqa: E741
    seeds = {"r_seed": args.seed, "t_seed": args.seed, "n_seed": args.seed}
    resolution = spg.search_res(
        adata, adj, l, args.k, start=0.7, step=0.1, tol=5e-3, lr=0.05, max_epochs=20, max_run=10, **seeds
    )
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002
    model = spg.SpaGCN()
    model.set_l(l)
    model.train(adata, adj, init_spa=True, init="louvain", res=resolution, tol=5e-3, lr=0.05, max_epochs=200)
    found, _ = model.predict()
    grid = spg.calculate_adj_matrix(x=x, y=y, histology=False)
    shape = "hexagon" if hexagonal(np.column_stack([x, y])) else "square"
    return spg.refine(sample_id=adata.obs_names.tolist(), pred=found.tolist(), dis=grid, shape=shape)


def hexagonal(xy):
    """Tell a hexagonal grid: half of its spots or more have six neighbours at about the same distance."""
    distance, _ = NearestNeighbors(n_neighbors=7).fit(xy).kneighbors(xy)
    return np.mean(distance[:, 6] < 1.3 * distance[:, 1]) > 0.5


if __name__ == "__main__":
    common.main(domains)

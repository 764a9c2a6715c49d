"""BANKSY: own and neighbours' expression side by side, principal components, Leiden on shared neighbours.

Settings: https://github.com/prabhakarlab/Banksy_py, DLPFC_concatenate_multisample.ipynb for arrays of spots
(lambda 0.2, 6 neighbours, no gradient term) and starmap_analysis.ipynb for cells (lambda 0.8, 15 neighbours, with it);
20 components, 50 neighbours and Leiden to convergence in both. There the genes of DLPFC are a list made in R; here
2,000 are chosen by seurat_v3 where there are more. The resolution is searched for K. A given embedding
takes the place of the normalised expression.
"""

import contextlib
import io

import common
import leidenalg
import matplotlib as mpl
import numpy as np
import scanpy as sc
from banksy.embed_banksy import generate_banksy_matrix
from banksy.initialize_banksy import initialize_banksy
from banksy.main import LeidenPartition
from banksy_utils.umap_pca import pca_umap

mpl.use("Agg")
SETTINGS = {"spots": (0.2, 6, 0), "cells": (0.8, 15, 1)}
SILENT = {"plt_edge_hist": False, "plt_nbr_weights": False, "plt_agf_angles": False, "plt_theta": False}


def domains(adata, args):
    weight, neighbours, order = SETTINGS[args.kind]
    if args.use_rep:
        adata = common.embedded(adata, args.use_rep)
    else:
        sc.pp.filter_genes(adata, min_cells=1)
        if adata.n_vars > 2000:
            sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3", subset=True)
        sc.pp.normalize_total(adata)
    adata.obs["x"], adata.obs["y"] = np.asarray(adata.obsm["spatial"], dtype=float).T
    with contextlib.redirect_stdout(io.StringIO()):
        graphs = initialize_banksy(
            adata, ("x", "y", "spatial"), neighbours, nbr_weight_decay="scaled_gaussian", max_m=order, **SILENT
        )
        matrices, _ = generate_banksy_matrix(adata, graphs, [weight], max_m=order, verbose=False)
        pca_umap(matrices, pca_dims=[20], plt_remaining_var=False, add_umap=False)
        reduced = matrices["scaled_gaussian"][weight]["adata"].obsm["reduced_pc_20"]
        partitioner = LeidenPartition(reduced, num_nn=50, shared_nn_max_rank=3, shared_nn_min_shared_nbrs=5)

        def cluster(resolution):
            found, _ = partitioner.partition(
                resolution=resolution,
                partition_metric=leidenalg.RBConfigurationVertexPartition,
                n_iterations=-1,
                seed=args.seed,
            )
            return found.dense

        return common.search_resolution(cluster, args.k)


if __name__ == "__main__":
    common.main(domains)

"""CellCharter: neighbourhood layers of a latent space side by side, then a Gaussian mixture.

Settings: https://cellcharter.readthedocs.io/en/latest/notebooks/codex_mouse_spleen.html (Delaunay graph, long links
removed, 3 layers) and, for arrays of spots, the authors' own DLPFC benchmark,
https://github.com/CSOgroup/cellcharter_analyses/blob/main/src/benchmarking/CellCharter/individual.py (5,000 genes by
seurat_v3, 1e6 counts a spot, 4 layers). There the latent space is scVI's; here it is 10 principal components.
"""

import cellcharter as cc
import common
import numpy as np
import scanpy as sc
import squidpy as sq
import torch


def domains(adata, args):
    if args.use_rep:
        adata.obsm["X_latent"] = np.asarray(adata.obsm[args.use_rep], dtype=np.float32)[:, :10]
    else:
        sc.pp.filter_genes(adata, min_counts=3)
        if adata.n_vars > 5000:
            sc.pp.highly_variable_genes(adata, n_top_genes=5000, flavor="seurat_v3", subset=True)
        sc.pp.normalize_total(adata, target_sum=1e6)
        sc.pp.log1p(adata)
        sc.pp.pca(adata, n_comps=10, random_state=args.seed)
        adata.obsm["X_latent"] = adata.obsm["X_pca"].astype(np.float32)
    sq.gr.spatial_neighbors(adata, coord_type="generic", delaunay=True)
    cc.gr.remove_long_links(adata)
    layers = 4 if args.kind == "spots" else 3
    cc.gr.aggregate_neighbors(adata, n_layers=layers, use_rep="X_latent", out_key="X_cellcharter")
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    torch.manual_seed(args.seed)  # Cluster's random_state does not reach the generator it draws from
    model = cc.tl.Cluster(args.k, random_state=args.seed, trainer_params=quiet)
    model.fit(adata, use_rep="X_cellcharter")
    return model.predict(adata, use_rep="X_cellcharter")


if __name__ == "__main__":
    common.main(domains)

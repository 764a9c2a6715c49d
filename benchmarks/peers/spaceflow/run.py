"""SpaceFlow: deep graph infomax with a spatial penalty, then Leiden.

Settings: https://github.com/hongleir/SpaceFlow (README: 3,000 genes, penalty 0.1, 50 dimensions, at most 1,000 epochs,
50 neighbours). The resolution, a free parameter there, is searched for K.
"""

import tempfile
from pathlib import Path

import common
import numpy as np
import scanpy as sc
from scipy import sparse
from SpaceFlow import SpaceFlow


def domains(adata, args):
    sc.pp.filter_genes(adata, min_cells=3)
    adata.X = adata.X.toarray() if sparse.issparse(adata.X) else adata.X
    adata.obsm["spatial"] = np.asarray(adata.obsm["spatial"], dtype=float)
    flow = SpaceFlow.SpaceFlow(adata)
    flow.preprocessing_data(n_top_genes=min(3000, adata.n_vars))
    with tempfile.TemporaryDirectory() as folder:
        embedding = flow.train(
            embedding_save_filepath=str(Path(folder, "embedding.tsv")),
            spatial_regularization_strength=0.1,
            z_dim=50,
            lr=0.001,
            epochs=1000,
            max_patience=50,
            min_stop=100,
            random_seed=args.seed,
        )
    found = sc.AnnData(embedding)
    sc.pp.neighbors(found, n_neighbors=50, use_rep="X", random_state=args.seed)

    def cluster(resolution):
        sc.tl.leiden(found, resolution=resolution, random_state=args.seed)
        return found.obs["leiden"].to_numpy()

    return common.search_resolution(cluster, args.k)


if __name__ == "__main__":
    common.main(domains)

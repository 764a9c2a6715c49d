"""squidpy's niches, flavour "cellcharter": the one that takes K and needs no cell types.

Settings: https://squidpy.readthedocs.io/en/stable/api/squidpy.gr.calculate_niche.html (expression
averaged over the neighbours of 3 rings, principal components, Gaussian mixture with K components) on squidpy's default
spatial graph of 6 neighbours, after total counts and log1p. In 1.8.2 a given embedding (``use_rep``) is clustered as it
is, without the averages, so counts are needed.
"""

import common
import scanpy as sc
import squidpy as sq


def domains(adata, args):
    sc.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=6)
    sq.gr.calculate_niche(
        adata,
        flavor="cellcharter",
        distance=3,
        aggregation="mean",
        n_components=args.k,
        random_state=args.seed,
    )
    return adata.obs["cellcharter_niche"]


if __name__ == "__main__":
    common.main(domains)

"""squidpy's niches, flavour "utag": expression averaged over spatial neighbours, principal components, Leiden.

Settings: https://squidpy.readthedocs.io/en/stable/api/squidpy.gr.calculate_niche.html (flavour "utag", which needs no
cell types; 15 neighbours in expression) on squidpy's default spatial graph of 6 neighbours, after total counts and
log1p. The resolution, a free parameter there, is searched for K. The seed changes nothing: squidpy fixes it.
A given embedding takes the place of the normalised expression.
"""

import common
import scanpy as sc
import squidpy as sq


def domains(adata, args):
    if args.use_rep:
        adata = common.embedded(adata, args.use_rep)
    else:
        sc.pp.filter_genes(adata, min_cells=3)
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    sq.gr.spatial_neighbors(adata, coord_type="generic", n_neighs=6)

    def cluster(resolution):
        sq.gr.calculate_niche(adata, flavor="utag", n_neighbors=15, resolutions=[resolution])
        column = next(name for name in adata.obs if name.startswith("utag_niche"))
        return adata.obs.pop(column).astype(str).to_numpy()

    return common.search_resolution(cluster, args.k)


if __name__ == "__main__":
    common.main(domains)

"""NichePCA: mean over 25 neighbours, principal components, Leiden.

Settings: https://github.com/imsb-uke/nichepca (README: knn=25, the value for brain; 30 components; scanpy's neighbours
and Leiden). The resolution, a free parameter there, is searched for K. A given embedding
takes the place of the normalised expression.
"""

import common
import nichepca as npc
import scanpy as sc


def domains(adata, args):
    steps = ("norm", "log1p", "agg", "pca")
    if args.use_rep:
        adata, steps = common.embedded(adata, args.use_rep), ("agg", "pca")
    npc.wf.nichepca(adata, knn=25, n_comps=min(30, adata.n_vars - 1), pipeline=steps)
    sc.pp.neighbors(adata, use_rep="X_npca", random_state=args.seed)

    def cluster(resolution):
        sc.tl.leiden(adata, resolution=resolution, random_state=args.seed)
        return adata.obs["leiden"].to_numpy()

    return common.search_resolution(cluster, args.k)


if __name__ == "__main__":
    common.main(domains)

"""NichePCA: mean over 25 neighbours, principal components, Leiden.

Settings: https://github.com/imsb-uke/nichepca (README: knn=25, the value for brain; 30 components; scanpy's neighbours
and Leiden). The resolution, a free parameter there, is searched for K.
"""

import common
import nichepca as npc
import scanpy as sc


def domains(adata, args):
    npc.wf.nichepca(adata, knn=25, n_comps=min(30, adata.n_vars - 1))
    sc.pp.neighbors(adata, use_rep="X_npca", random_state=args.seed)

    def cluster(resolution):
        sc.tl.leiden(adata, resolution=resolution, random_state=args.seed)
        return adata.obs["leiden"].to_numpy()

    return common.search_resolution(cluster, args.k)


if __name__ == "__main__":
    common.main(domains)

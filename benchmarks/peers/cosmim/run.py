"""CoSMIM: covariances of neighbourhoods over 64 spatially variable genes at three scales, Leiden. No training.

Settings: the defaults of https://github.com/barondu/cosmim (64 genes; 5, 15 and 45 neighbours), K given. The seed
is that of its clustering.
"""

import common
import cosmim


def domains(adata, args):
    result = cosmim.run(adata, max_labels=args.k, random_state=args.seed)
    labels = result.obs["cosmim"].astype(str)
    # Spots that its filters leave out have no domain of its own; they are one more.
    return labels.reindex(adata.obs_names).fillna("none").to_numpy()


if __name__ == "__main__":
    common.main(domains)

"""Does the denoised expression predict molecules that were held out?

usage: denoising.py [DATA] [-o TABLE.tsv] [--seeds N]

Count splitting (Neufeld et al. 2024): each molecule goes to a training or a held-out half by a fair coin. stMFG is
trained on one half; its ``stmfg_denoised`` layer and plain averages of that half are then scored by the Poisson
log-likelihood of the other half, per molecule, over the genes the decoder knows. Each prediction is scaled to the
spot's depth in the held-out half, so that only the profile counts; higher is better, and the profile of the
whole tissue is 0.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import protocol
import stmfg
from stmfg.model import graphs

HERE = Path(__file__).resolve().parent


def halves(counts: sparse.csr_matrix, seed: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Split every count by a fair coin."""
    first = counts.copy()
    first.data = np.random.default_rng(seed).binomial(counts.data.astype(np.int64), 0.5).astype(np.float32)
    second = (counts - first).tocsr()
    first.eliminate_zeros()
    return first, second


def gain(held_out: np.ndarray, predicted: np.ndarray) -> float:
    """Poisson log-likelihood per molecule of profiles scaled to each spot's depth, over that of the mean profile."""
    depth = held_out.sum(axis=1, keepdims=True)
    mean = held_out.sum(axis=0, keepdims=True) / held_out.sum()

    def likelihood(profile: np.ndarray) -> float:
        profile = np.maximum(profile / np.maximum(profile.sum(axis=1, keepdims=True), 1e-12), 1e-9)
        return float((held_out * np.log(profile * np.maximum(depth, 1))).sum() / held_out.sum())

    return likelihood(predicted) - likelihood(np.broadcast_to(mean, held_out.shape))


def main() -> None:
    """Score the predictions on every set with counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "denoising.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rows = []
    for source in (s for s in protocol.manifest(data=args.data) if not s.rep):
        with tempfile.TemporaryDirectory() as scratch:
            bare = ad.read_h5ad(protocol.prepare(source, Path(args.data), Path(scratch)).input)
        for seed in range(args.seeds):
            train, test = halves(sparse.csr_matrix(bare.X), seed)
            adata = ad.AnnData(X=train, obs=bare.obs, var=bare.var, obsm={"spatial": bare.obsm["spatial"]})
            for method, options in (("default", {}), ("default, 200 epochs", {"epochs": 200})):
                fitted = stmfg.tl.embed(adata, denoised=True, random_state=seed, copy=True, **options)
                denoised = fitted.layers["stmfg_denoised"]
                # Genes that are not decoded are missing, and spots without a count in the training half.
                used = ~np.isnan(denoised).all(axis=0) & (np.asarray(test.sum(axis=0)).ravel() > 0)
                spots = ~np.isnan(denoised).all(axis=1)
                truth = test[spots][:, used].toarray()
                rows.append((source.name, method, seed, gain(truth, denoised[spots][:, used])))
            profile = train[spots][:, used].toarray()
            operator = graphs.walk_operator(graphs.spatial_graph(np.asarray(bare.obsm["spatial"])[spots]))
            pseudo = 0.01 * profile.mean(axis=0)
            for name, steps in (("own counts", 0), ("mean of 18 neighbours", 1), ("mean, two steps", 2)):
                rows.append((source.name, name, seed, gain(truth, graphs.walk(operator, profile, steps) + pseudo)))
    table = pd.DataFrame(rows, columns=["set", "method", "seed", "gain"])
    table.to_csv(args.output, sep="\t", index=False, float_format="%.5f")
    wide = table.pivot_table(index="method", columns="set", values="gain", sort=False)
    print("| nats per molecule over the mean profile | " + " | ".join(wide.columns) + " |")
    print("|---" * (len(wide.columns) + 1) + "|")
    for name, row in wide.iterrows():
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in row) + " |")


if __name__ == "__main__":
    main()

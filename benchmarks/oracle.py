"""The best epoch by the true labels, as the relatives of the paper report it: not what a user gets.

usage: oracle.py [DATA] [-o TABLE.tsv] [--sets NAME ...] [--seeds N] [--every N]

The ``paper`` preset is trained; every so many epochs its embedding is clustered and scored with the labels. ``last`` is
the honest result, ``oracle`` the best of them all. Only this script sees the labels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

import protocol
import stmfg
from stmfg.config import Config
from stmfg.model import cluster

HERE = Path(__file__).resolve().parent


class Watch:
    """A term of the loss that is always zero and keeps the embedding after every so many epochs."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.epoch = 0
        self.embeddings: list[np.ndarray] = []

    def __call__(self, encoded: Any, *_: Any) -> Any:
        if self.epoch % self.every == 0:
            self.embeddings.append(encoded.embedding.detach().numpy().copy())
        self.epoch += 1
        return encoded.embedding.new_zeros(())


def train(adata: ad.AnnData, rep: str | None, every: int, **options: Any) -> list[np.ndarray]:
    """Return the embedding after every so many epochs and after the last, in the order of the AnnData."""
    watch = Watch(every)
    last = stmfg.STMFG(n_domains=None, extra_losses=[watch], **options).fit(adata, use_rep=rep).result.embedding
    # Training has an order of its own, which the untrained embedding tells.
    first = stmfg.STMFG(n_domains=None, epochs=0, **options).fit(adata, use_rep=rep).result.embedding
    order = cKDTree(watch.embeddings[0]).query(first)[1]
    return [embedding[order] for embedding in watch.embeddings[1:]] + [last]


def main() -> None:
    """Score the epochs of every run, and print last and best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "oracle.tsv")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=10)
    args = parser.parse_args()
    config = Config.preset("paper")
    rows = []
    for source in protocol.manifest(data=args.data):
        if args.sets and source.name not in args.sets:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(args.data), Path(scratch))
            adata = ad.read_h5ad(task.input)
        for seed in range(args.seeds):
            scores = []
            options = {"preset": "paper", "random_state": seed, "device": "cpu"}
            for embedding in train(adata, source.rep or None, args.every, **options):
                posterior = cluster.kmeans(embedding, source.k, n_starts=config.n_starts, random_state=seed)
                labels = pd.Series(posterior.argmax(axis=1), index=adata.obs_names).loc[task.truth.index]
                scores.append(stmfg.metrics.ari(task.truth, labels))
            best = int(np.argmax(scores))
            epoch = config.epochs if best + 1 == len(scores) else args.every * (best + 1)
            rows.append((source.name, seed, scores[-1], scores[best], epoch))
    table = pd.DataFrame(rows, columns=["set", "seed", "last", "oracle", "oracle_epoch"])
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    print("| set | last epoch (honest) | best epoch by the labels (oracle) |\n|---|---|---|")
    for name, part in table.groupby("set"):
        cells = [f"{part[column].mean():.3f} ± {part[column].std(ddof=0):.3f}" for column in ("last", "oracle")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

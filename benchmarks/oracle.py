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
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import torch

import protocol
import stmfg
from stmfg.config import Config
from stmfg.model import cluster, train
from stmfg.model import tissue as _slice

HERE = Path(__file__).resolve().parent


class Watched(stmfg.STMFG):
    """The model, keeping its embedding after every so many epochs and the order of its spots."""

    def __init__(self, every: int, **options: Any) -> None:
        super().__init__(**options)
        self.every = every
        self.epoch = 0
        self.embeddings: list[np.ndarray] = []
        self.order = np.zeros(0, dtype=np.int64)
        self._losses = train._losses

    def take(self, *args: Any) -> Any:
        """Stand in for the model's: note the order of the spots."""
        part = _slice.take(*args)
        self.order = part.order
        return part

    def losses(self, net: Any, data: Any, *args: Any) -> Any:
        """Stand in for the loss of a step: note the embedding of the epochs before it."""
        if self.epoch and self.epoch % self.every == 0:
            with torch.inference_mode():
                self.embeddings.append(net.eval().encode(data.features, data.operators).embedding.numpy())
            net.train()
        self.epoch += 1
        return self._losses(net, data, *args)


def main() -> None:
    """Score the epochs of every run, and print last and best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "oracle.tsv")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=10)
    args = parser.parse_args()
    config = Config.preset("paper")
    rows = []
    for source in protocol.manifest():
        if args.sets and source.name not in args.sets:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(args.data), Path(scratch))
            adata = ad.read_h5ad(task.input)
        for seed in range(args.seeds):
            model = Watched(args.every, preset="paper", random_state=seed, device="cpu")
            with mock.patch.object(train, "_losses", model.losses), mock.patch("stmfg.model.take", model.take):
                fitted = model.fit_apply(adata, use_rep=source.rep or None)
            model.embeddings.append(fitted.embedding[model.order])
            names = adata.obs_names[model.order]
            scores = []
            for embedding in model.embeddings:
                posterior = cluster.kmeans(embedding, source.k, n_starts=config.n_starts, random_state=seed)
                found = pd.Series(posterior.argmax(axis=1), index=names).loc[task.truth.index]
                scores.append(stmfg.metrics.ari(task.truth, found))
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

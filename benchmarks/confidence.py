"""Is the confidence honest? Spots in bins of confidence, and the share of each bin whose domain is right.

usage: confidence.py [DATA] [-o TABLE.tsv] [--seed N]

The default preset is run with K given. Domains are matched to the annotation one to one (Hungarian method), after the
run and by this script alone; a spot is right where its domain's partner is its annotation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

import protocol
import stmfg

HERE = Path(__file__).resolve().parent
EDGES = np.array([0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])


def right(truth: pd.Series, found: pd.Series) -> np.ndarray:
    """Tell for each spot whether its domain is the one matched to its annotation."""
    table = pd.crosstab(found, truth)
    rows, columns = linear_sum_assignment(-table.to_numpy())
    partner = dict(zip(table.index[rows], table.columns[columns], strict=True))
    return (found.map(partner) == truth).to_numpy()


def main() -> None:
    """Run every set of the manifest once and print the reliability table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "confidence.tsv")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for source in protocol.manifest():
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(args.data), Path(scratch))
            adata = ad.read_h5ad(task.input)
        stmfg.tl.domains(adata, n_domains=source.k, use_rep=source.rep or None, random_state=args.seed)
        obs = adata.obs.loc[task.truth.index]
        correct = right(task.truth, obs["stmfg_domain"].astype(str))
        bins = np.clip(np.digitize(obs["stmfg_confidence"], EDGES) - 1, 0, len(EDGES) - 2)
        for i in np.unique(bins):
            here = bins == i
            rows.append(
                {
                    "set": source.name,
                    "from": EDGES[i],
                    "to": EDGES[i + 1],
                    "spots": int(here.sum()),
                    "confidence": obs["stmfg_confidence"].to_numpy()[here].mean(),
                    "right": correct[here].mean(),
                }
            )
    table = pd.DataFrame(rows)
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    print("| confidence | spots | mean confidence | right, mean over sets | sets |\n|---|---|---|---|---|")
    for (low, high), part in table.groupby(["from", "to"]):
        print(
            f"| {low:g} to {high:g} | {part['spots'].sum()} "
            f"| {np.average(part['confidence'], weights=part['spots']):.2f} "
            f"| {part['right'].mean():.2f} | {len(part)} |"
        )


if __name__ == "__main__":
    main()

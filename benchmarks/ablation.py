"""What every ingredient of the default is worth: each turned off or changed alone, over all sets.

usage: ablation.py [DATA] [-o TABLE.tsv] [--seeds N] [--variants NAME ...]

Runs share one process; each is given the unlabelled data and K. Runs that are in the table are not repeated.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

import network
import protocol
import stmfg

HERE = Path(__file__).resolve().parent
FIELDS = ("variant", "set", "seed", "ari")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    # The network.
    "no training": {"epochs": 0},
    "network alone votes": {"averages": False},
    "late fusion": {"fusion": "late"},
    "spatial view only": {"views": ("spatial",)},
    "expression view only": {"views": ("feature",)},
    "trained weights (relu)": {"convolution": "relu"},
    # The loss.
    "no held-out factors": {"held_out_weight": 0.0},
    "no likelihood of counts": {"reconstruction_weight": 0.0},
    "no contrastive term": {"contrastive_weight": 0.0},
    "no spatial term": {"spatial_weight": 0.0},
    # Features and vote.
    "factors everywhere": {"features": "factors"},
    "components everywhere": {"features": "components"},
    "one start": {"n_starts": 1},
    "two votes in place of four": {"n_votes": 2},
    "eight votes in place of four": {"n_votes": 8},
    "k-means in place of the mixture": {"clusterer": "kmeans"},
    # Sensitivity.
    "one layer": {"n_layers": 1},
    "five layers": {"n_layers": 5},
    "6 spatial neighbours": {"spatial_neighbors": 6},
    "30 spatial neighbours": {"spatial_neighbors": 30},
    "5 expression neighbours": {"feature_neighbors": 5},
    "40 expression neighbours": {"feature_neighbors": 40},
    "30 components": {"n_components": 30},
}


def run(
    variants: dict[str, dict[str, Any]], sources: list[protocol.Source], data: Path, seeds: int, output: Path
) -> None:
    """Append a row for every variant, set and seed that the table does not have."""
    if not output.exists():
        output.write_text("\t".join(FIELDS) + "\n")
    with output.open() as file:
        done = {tuple(row[:3]) for row in csv.reader(file, delimiter="\t")}
    for source in sources:
        with tempfile.TemporaryDirectory() as scratch:
            task = protocol.prepare(source, Path(data), Path(scratch))
            bare = ad.read_h5ad(task.input)
        for variant, options in variants.items():
            for seed in range(seeds):
                if (variant, source.name, str(seed)) in done:
                    continue
                adata = bare.copy()
                stmfg.tl.domains(
                    adata, n_domains=source.k, use_rep=source.rep or None, random_state=seed, device="cpu", **options
                )
                found = adata.obs["stmfg_domain"].astype(str).loc[task.truth.index]
                with output.open("a") as file:
                    score = stmfg.metrics.ari(task.truth, found)
                    file.write("\t".join((variant, source.name, str(seed), f"{score:.4f}")) + "\n")


def main() -> None:
    """Run what is missing in the table and print it, the change against the default last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "ablation.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()
    run(
        {name: VARIANTS[name] for name in args.variants},
        protocol.manifest(data=args.data),
        args.data,
        args.seeds,
        args.output,
    )
    table = pd.read_csv(args.output, sep="\t")
    means = table.pivot_table(index="variant", columns="set", values="ari", sort=False)
    means = means.reindex([name for name in VARIANTS if name in means.index])
    families = means.T.groupby(network.family).mean().T
    families["mean of families"] = families.mean(axis=1)
    change = means - means.loc["default"]
    families["change"] = families["mean of families"] - families.loc["default", "mean of families"]
    print("| variant | " + " | ".join(families.columns) + " | worst set |")
    print("|---" * (families.shape[1] + 2) + "|")
    for name, row in families.iterrows():
        cells = " | ".join(f"{value:.3f}" for value in row[:-1])
        worst = f"{change.loc[name].min():+.3f} ({change.loc[name].idxmin()})" if name != "default" else ""
        print(f"| {name} | {cells} | {row['change']:+.3f} | {worst} |")


if __name__ == "__main__":
    main()

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
import numpy as np
import pandas as pd

import protocol
import stmfg

HERE = Path(__file__).resolve().parent
FIELDS = ("variant", "set", "seed", "ari")
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    # The method's own ingredients.
    "late fusion": {"fusion": "late"},
    "spatial view only": {"views": ("spatial",)},
    "expression view only": {"views": ("feature",)},
    "no contrastive term": {"contrastive_weight": 0.0},
    "no spatial term": {"spatial_weight": 0.0},
    "no held-out factors": {"held_out_weight": 0.0},
    "no held-out counts": {"reconstruction_weight": 0.0},
    "no training": {"epochs": 0},
    "trained weights (relu)": {"convolution": "relu"},
    # Around it.
    "factors everywhere": {"features": "factors"},
    "components everywhere": {"features": "components"},
    "no plain averages": {"averages": False},
    "expression graph not smoothed": {"feature_steps": 0},
    "no vote": {"scales": "embedding", "n_votes": 1},
    "embedding alone votes": {"scales": "embedding"},
    "one start": {"n_starts": 1},
    "k-means in place of the mixture": {"clusterer": "kmeans"},
    "Potts refinement": {"refine": 3.0},
    # Sensitivity.
    "one layer": {"n_layers": 1},
    "two layers": {"n_layers": 2},
    "five layers": {"n_layers": 5},
    "6 spatial neighbours": {"spatial_neighbors": 6},
    "30 spatial neighbours": {"spatial_neighbors": 30},
    "radius of 4 spacings": {"spatial_radius": 4.0},
    "5 expression neighbours": {"feature_neighbors": 5},
    "40 expression neighbours": {"feature_neighbors": 40},
    "contrastive weight 1": {"contrastive_weight": 1.0},
    "spatial weight 1": {"spatial_weight": 1.0},
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
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "ablation.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()
    run({name: VARIANTS[name] for name in args.variants}, protocol.manifest(), args.data, args.seeds, args.output)
    table = pd.read_csv(args.output, sep="\t")
    means = table.pivot_table(index="variant", columns="set", values="ari", sort=False)
    spread = table.pivot_table(index="variant", columns="set", values="ari", aggfunc=lambda a: np.std(a), sort=False)
    means = means.reindex([name for name in VARIANTS if name in means.index])
    print("| variant | " + " | ".join(means.columns) + " | mean | change | largest sd |")
    print("|---" * (len(means.columns) + 4) + "|")
    for name, row in means.iterrows():
        cells = " | ".join(f"{value:.3f}" for value in row)
        change = row.mean() - means.loc["default"].mean()
        print(f"| {name} | {cells} | {row.mean():.3f} | {change:+.3f} | {spread.loc[name].max():.3f} |")


if __name__ == "__main__":
    main()

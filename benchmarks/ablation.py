"""What every ingredient of the default is worth: each turned off or changed alone, over all sets.

usage: ablation.py [DATA] [-o TABLE.tsv] [--seeds N] [--jobs N] [--sets NAME ...] [--variants NAME ...]

Each run is given the unlabelled data and K; processes are used again, each on one thread. Runs that are in the table
are not repeated, so that it can be made in pieces. Printed at the end: means over seeds by family, and the change
against the default of the same seeds, worst first; TABLE.md has the same.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

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
    "network alone, no training": {"averages": False, "epochs": 0},
    "late fusion": {"fusion": "late"},
    "spatial view only": {"views": ("spatial",)},
    "expression view only": {"views": ("feature",)},
    "one layer": {"n_layers": 1},
    "trained weights (relu)": {"convolution": "relu"},
    # The loss, but for the likelihood of counts: that trains the decoder alone.
    "no held-out factors": {"held_out_weight": 0.0},
    "no contrastive term": {"contrastive_weight": 0.0},
    "no spatial term": {"spatial_weight": 0.0},
    # Features and vote.
    "factors everywhere": {"features": "factors"},
    "components everywhere": {"features": "components"},
    "a single clustering": {"averages": False, "scales": "embedding", "n_votes": 1},
    "k-means in place of the mixture": {"clusterer": "kmeans"},
}


@cache
def _read(source: protocol.Source, data: Path) -> tuple[Any, pd.Series]:
    return network.read_set(source, data)


def score(source: protocol.Source, data: Path, seed: int, options: dict[str, Any]) -> float:
    """Run once and return the adjusted Rand index; neither tree nor confidence, which change no domain."""
    bare, truth = _read(source, data)
    adata = bare.copy()
    given: dict[str, Any] = {"n_domains": source.k, "use_rep": source.rep or None, "random_state": seed}
    stmfg.tl.domains(adata, device="cpu", **given, **network.ONLY_DOMAINS, **options)
    return float(stmfg.metrics.ari(truth, adata.obs["stmfg_domain"].astype(str).loc[truth.index]))


def run(
    variants: dict[str, dict[str, Any]],
    sources: list[protocol.Source],
    data: Path,
    seeds: int,
    output: Path,
    jobs: int = 1,
) -> None:
    """Append a row for every variant, set and seed that the table does not have."""
    if not output.exists():
        output.write_text("\t".join(FIELDS) + "\n")
    with output.open() as file:
        done = {tuple(row[:3]) for row in csv.reader(file, delimiter="\t")}
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = {
            pool.submit(score, source, data, seed, options): (variant, source.name, str(seed))
            for seed in range(seeds)
            for source in sources
            for variant, options in variants.items()
            if (variant, source.name, str(seed)) not in done
        }
        for future in as_completed(runs):
            row = (*runs[future], f"{future.result():.4f}")
            print(*row, file=sys.stderr)
            with output.open("a") as file:
                file.write("\t".join(row) + "\n")


def report(table: pd.DataFrame) -> str:
    """Return the table as Markdown: mean ± standard deviation over seeds, what costs most first."""
    cells = table.pivot_table(index=["variant", "seed"], columns="set", values="ari")
    families = cells.T.groupby(network.family).mean().T
    families["mean of families"] = families.mean(axis=1)
    default = cells.loc["default"]
    rows = {}
    for variant, scores in cells.groupby("variant"):
        scores = scores.droplevel("variant")
        by_family = families.loc[variant]
        seeds = scores.index.intersection(default.index)
        by_set = (scores.loc[seeds] - default.loc[seeds]).mean()
        change = (by_family.loc[seeds] - families.loc["default"].loc[seeds])["mean of families"]
        shown = [_show(column) for _, column in by_family.items()]
        if variant == "default":
            rows[variant] = (-9.0, [*shown, "", ""])
            continue
        worst = f"{by_set.min():+.3f} ({by_set.idxmin()})"
        rows[variant] = (change.mean(), [*shown, _show(change, "+.3f"), worst])
    lines = ["# What every ingredient is worth", "", "ARI, K given; made by `python benchmarks/ablation.py`.", ""]
    lines += [f"| | {' | '.join(families.columns)} | change | worst set |", "|---" * (families.shape[1] + 3) + "|"]
    for variant, (_, shown) in sorted(rows.items(), key=lambda row: row[1][0]):
        lines.append(f"| {variant} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _show(values: pd.Series, digits: str = ".3f") -> str:
    return f"{values.mean():{digits}}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def main() -> None:
    """Run what is missing in the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "ablation.tsv")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--sets", nargs="*", help="names of the manifest (default: all)")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    args = parser.parse_args()
    sources = [s for s in protocol.manifest(data=args.data) if not args.sets or s.name in args.sets]
    run({name: VARIANTS[name] for name in args.variants}, sources, args.data, args.seeds, args.output, args.jobs)
    text = report(pd.read_csv(args.output, sep="\t"))
    args.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

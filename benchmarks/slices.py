"""Slices of different make-up, together and each by itself: are domains of two slices named alike?

usage: slices.py [DATA] [-o TABLE.tsv] [--seeds N] [--epochs N]

Simulated slices, of which the first alone has the last domain, and pairs of real slices of one tissue from which layers
were taken away. K is given, labels are seen only when scoring. ``together`` is the ARI over both slices at once, which
only names that mean the same on both can score; ``within`` the mean ARI of the slices of the same run; ``alone`` the
mean ARI of slices run each by itself. One row a run; from the table, TABLE.md is made.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import stmfg
from stmfg import metrics

HERE = Path(__file__).resolve().parent
DRAWS: dict[str, dict[str, object]] = {
    "simulated, 3 domains": {"n_obs": 400, "n_genes": 100, "n_domains": 3, "difficulty": 0.4},
    "simulated, 5 domains": {"n_obs": 700, "n_genes": 300, "n_domains": 5, "difficulty": 0.7},
    "simulated cells": {"n_obs": 1000, "n_genes": 200, "n_domains": 4, "difficulty": 0.7, "layout": "cells"},
}
PAIRS = {
    "cortex, all layers": ("dlpfc_151673", (), "dlpfc_151676", ()),
    "cortex, WM on one": ("dlpfc_151673", (), "dlpfc_151676", ("WM",)),
    "cortex, L3 on one, L6 on the other": ("dlpfc_151673", ("L3",), "dlpfc_151676", ("L6",)),
    "cortex, L3 and L4 alone on both": ("dlpfc_151673", ("L5", "L6", "WM"), "dlpfc_151676", ("L1", "L2")),
    "STARmap, all layers": ("starmap_mpfc_BZ5", (), "starmap_mpfc_BZ9", ()),
    "STARmap, L6 on one": ("starmap_mpfc_BZ5", (), "starmap_mpfc_BZ9", ("L6",)),
    "STARmap, L5 on one, L6 on the other": ("starmap_mpfc_BZ5", ("L5",), "starmap_mpfc_BZ9", ("L6",)),
}
FIELDS = ["pair", "seed", "together", "within", "alone"]


def take_slice(path: Path, without: tuple[str, ...]) -> ad.AnnData:
    """Return counts, places and labels of an annotated set without some of its layers."""
    adata = ad.read_h5ad(path)
    kept = ~adata.obs["ground_truth"].isin(without) & adata.obs["ground_truth"].notna()
    part = adata[kept.to_numpy()]
    return ad.AnnData(part.X, part.obs[["ground_truth"]], part.var[[]], obsm={"spatial": part.obsm["spatial"]})


def pairs(data: Path, seed: int) -> Iterator[tuple[str, ad.AnnData]]:
    """Yield the slices that are run together, by name, labels in ``obs["ground_truth"]``."""
    for name, options in DRAWS.items():
        yield name, stmfg.datasets.simulate_slices(2, random_state=seed, **options)  # type: ignore[arg-type]
    for name, (one, without_one, other, without_other) in PAIRS.items():
        paths = [data / f"{slice_name}.h5ad" for slice_name in (one, other)]
        if all(path.is_file() for path in paths):
            slices = [take_slice(*each) for each in zip(paths, (without_one, without_other), strict=True)]
            yield name, ad.concat(dict(zip("AB", slices, strict=True)), label="slice", index_unique="_")


def find(adata: ad.AnnData, seed: int, options: dict[str, object], **where: object) -> pd.Series:
    """Return the domains of observations whose labels are taken away."""
    blind = adata.copy()
    n_domains = blind.obs.pop("ground_truth").nunique()
    stmfg.tl.domains(blind, n_domains=n_domains, random_state=seed, **(options | where))
    return blind.obs["stmfg_domain"]


def score(adata: ad.AnnData, seed: int, options: dict[str, object]) -> dict[str, float]:
    """Return the three scores of slices run together and each by itself."""
    truth, slices = adata.obs["ground_truth"].astype(str), adata.obs["slice"].astype(str)
    domains = find(adata, seed, options, library_key="slice")
    rows = [(slices == name).to_numpy() for name in slices.unique()]
    within = [metrics.ari(truth[of_slice], domains[of_slice]) for of_slice in rows]
    alone = [metrics.ari(truth[of_slice], find(adata[of_slice], seed, options)) for of_slice in rows]
    return {"together": metrics.ari(truth, domains), "within": float(np.mean(within)), "alone": float(np.mean(alone))}


def report(table: pd.DataFrame) -> str:
    """Return mean and standard deviation over seeds as Markdown, with the lowest run."""
    lines = [
        "# Slices of different make-up",
        "",
        "ARI, K given, mean ± standard deviation over seeds and the lowest seed;",
    ]
    lines += ["made by `python benchmarks/slices.py`.", ""]
    lines += ["| pair | together | lowest | within slices | each alone |", "|---|---|---|---|---|"]
    for name, runs in table.groupby("pair", sort=False):
        cells = [f"{runs[column].mean():.3f} ± {runs[column].std():.3f}" for column in ("together", "within", "alone")]
        lines.append(f"| {name} | {cells[0]} | {runs['together'].min():.3f} | {cells[1]} | {cells[2]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run every pair with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "slices.tsv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="0 for the untrained network (default: as the package has it)")
    args = parser.parse_args()
    options: dict[str, object] = {"finest_level": 0, "redraws": 0}
    options |= {} if args.epochs is None else {"epochs": args.epochs}
    rows = []
    for seed in range(args.seeds):
        for name, adata in pairs(args.data, seed):
            rows.append({"pair": name, "seed": seed} | score(adata, seed, options))
            print(*(f"{value:.3f}" if isinstance(value, float) else value for value in rows[-1].values()), flush=True)
    table = pd.DataFrame(rows, columns=FIELDS).sort_values(["pair", "seed"], ignore_index=True)
    table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
    args.output.with_suffix(".md").write_text(report(table))


if __name__ == "__main__":
    main()

"""How much each setting matters: one hyperparameter at a time over a grid, all others as the preset has them.

usage: sensitivity.py [DATA] [--preset default|paper] [--sets NAME ...] [--seeds N] [-o TABLE.tsv]

Appended to the table; what is there is not repeated. ``TABLE.md`` and ``TABLE.png`` are made at the end.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import ablation
import figures
import protocol
import tables
from stmfg.config import Config

HERE = Path(__file__).resolve().parent
SMALL = ("her2st_B1", "starmap_mpfc_BZ9")  # spots and cells; seconds a run
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "default": {
        "spatial_neighbors": (6, 12, 30, 60),
        "spatial_radius": (1.5, 2.0, 3.0, 4.0),
        "feature_neighbors": (5, 10, 25, 40),
        "n_layers": (1, 2, 4, 5),
        "contrastive_weight": (0.0, 0.01, 1.0, 10.0),
        "spatial_weight": (0.0, 0.01, 1.0, 10.0),
        "reconstruction_weight": (0.0, 0.1, 10.0),
        "held_out_weight": (0.0, 0.1, 10.0),
    },
    "paper": {
        "spatial_radius": (1.5, 2.0, 3.0, 6.0),
        "feature_neighbors": (7, 28),
        "n_layers": (1, 3),
        "contrastive_weight": (0.0, 0.01, 1.0),
        "spatial_weight": (0.0, 1.0, 10.0),
        "reconstruction_weight": (0.0, 10.0),
    },
}


def variants(preset: str) -> dict[str, dict[str, Any]]:
    """Return the preset and every change of one of its values, by name."""
    grid = {f"{preset}, {key}={v:g}": {key: v} for key, values in GRIDS[preset].items() for v in values}
    return {name: {"preset": preset, **change} for name, change in {preset: {}, **grid}.items()}


def report(runs: pd.DataFrame) -> str:
    """Return a table for each preset: mean ± standard deviation over seeds, and the change of the mean over sets."""
    parts = [
        "# Sensitivity\n\nMade from the table of runs of the same name by `benchmarks/sensitivity.py`: ARI, K given."
    ]
    for preset in GRIDS:
        rows = runs[runs["variant"].str.split(",").str[0] == preset]
        if rows.empty:
            continue
        scores = tables.scores(rows.rename(columns={"variant": "method"}).assign(exit="ok"), "ari").drop(columns="sets")
        means = rows.pivot_table(index="variant", columns="set", values="ari", sort=False).dropna()
        change = means.mean(axis=1) - means.loc[preset].mean()
        scores["change"] = [f"{change[name]:+.3f}" if name in change else "" for name in scores.index]
        scores.index = scores.index.str.removeprefix(f"{preset}, ")
        parts.append(f"## `{preset}`\n\n{tables.markdown(scores, 'setting')}")
    return "\n\n".join(parts) + "\n"


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Draw ARI over each grid of the default, a line a set; the preset's own value is ringed."""
    grid, config = GRIDS["default"], Config.preset("default")
    sets = [name for name in runs["set"].unique() if ((runs["set"] == name) & (runs["variant"] == "default")).any()]
    means = runs.groupby(["variant", "set"])["ari"].mean()
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels = figure.subplots(2, 4, sharey=True).ravel()
    for axes, (key, values) in zip(panels, grid.items(), strict=True):
        own = getattr(config, key)
        # The radius is off in the preset: neighbours are counted there.
        steps = sorted({*values, *([own] if key != "spatial_radius" else [])})
        for name, style in figures.styles(sets).items():
            named = {v: "default" if v == own else f"default, {key}={v:g}" for v in steps}
            y = [means.get((named[v], name), np.nan) for v in steps]
            axes.plot(
                range(len(steps)), y, lw=1, ms=4, label=name if axes.get_subplotspec().num1 == 0 else None, **style
            )
            if own in steps:
                at = steps.index(own)
                axes.plot(at, y[at], "o", ms=9, mfc="none", mec=style["color"], mew=1)
        axes.set_xticks(range(len(steps)), [f"{v:g}" for v in steps], fontsize=8)
        axes.set_title(key, fontsize=9)
        axes.grid(alpha=0.3)
    figure.supylabel("ARI, mean over seeds", fontsize=9)
    figure.legend(loc="outside lower center", ncols=len(sets), fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run what is missing in the table, then make the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA", "."))
    parser.add_argument("--preset", choices=GRIDS, default="default")
    parser.add_argument("--sets", nargs="*", default=SMALL, help="names of the manifest (default: two small ones)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "sensitivity.tsv")
    args = parser.parse_args()
    sources = [source for source in protocol.manifest(data=args.data) if source.name in args.sets]
    ablation.run(variants(args.preset), sources, args.data, args.seeds, args.output)
    runs = pd.read_csv(args.output, sep="\t")
    args.output.with_suffix(".md").write_text(report(runs))
    if (runs["variant"] == "default").any():
        draw(runs, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()

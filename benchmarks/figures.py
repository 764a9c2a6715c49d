"""Figures of the benchmark: accuracy against time, every set in a row of dots, growth with the number of cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator, NullFormatter

from tables import by_set, shared

# Distinct for every kind of colour vision (Okabe and Ito 2008), with a shape as a second cue.
COLORS = (
    *("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31", "#7F7F7F", "#B2B200"),
    *("#6A3D9A", "#A6761D"),
)
MARKERS = "osD^vP*Xhdp"
"""One fewer than colours: no two methods look alike before 132 of them."""


def styles(names: list[str]) -> dict[str, dict[str, str]]:
    """Return a colour and a marker for each name."""
    return {
        name: {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]} for i, name in enumerate(names)
    }


def accuracy(runs: pd.DataFrame, stem: Path) -> None:
    """Draw ``STEM-time.png`` and ``STEM-sets.png``."""
    means, seconds = by_set(runs, "ari"), by_set(runs, "cpu")
    style = styles(list(means.index))
    fair = shared(means)

    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, row in fair.iterrows():
        x, y = seconds.loc[name, fair.columns].mean(), row.mean()
        axes.scatter(x, y, s=55, label=name, **style[name])
    axes.set(xscale="log", xlabel="CPU seconds, mean", ylabel="ARI, mean")
    axes.set_title(f"over the {fair.shape[1]} sets that most methods share", fontsize=9)
    axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_formatter=NullFormatter())
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(f"{stem}-time.png", dpi=110)

    figure = Figure(figsize=(7.5, 0.45 * means.shape[1] + 1.6), layout="constrained")
    axes = figure.add_subplot()
    spread = runs.groupby(["method", "set"])["ari"].std().unstack().reindex_like(means).fillna(0)
    for name in means.index[means.notna().any(axis=1)]:
        at = {"x": means.loc[name], "y": range(means.shape[1]), "xerr": spread.loc[name]}
        axes.errorbar(**at, ls="none", ms=6, alpha=0.85, elinewidth=1, label=name, **style[name])
    axes.set(yticks=range(means.shape[1]), yticklabels=means.columns, xlabel="ARI, mean ± sd over seeds")
    axes.invert_yaxis()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(f"{stem}-sets.png", dpi=110)


def growth(runs: pd.DataFrame, path: Path) -> None:
    """Draw CPU seconds and peak memory against the number of cells."""
    runs = runs[(runs["stage"] == "") & (runs["exit"] == "ok")]
    style = styles(list(runs["method"].unique()))
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2), (("cpu", "CPU seconds"), ("peak_mb", "peak MB")), strict=True):
        for name, group in runs.groupby("method", sort=False):
            line = group.groupby("n")[key].mean()
            axes.plot(line.index, line.to_numpy(), label=name if key == "cpu" else None, **style[name])
        axes.set(xscale="log", yscale="log", xlabel="cells", ylabel=label)
        for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            which(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)

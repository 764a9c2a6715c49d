"""How much of each sample the domains take, and how conditions differ in that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from stmfg._keys import DOMAIN
from stmfg.errors import InputError
from stmfg.tl._study import CONDITION, Study, compare_samples

_MARKERS: Final = ("o", "o", "s", "^", "D", "v")
_CLAIMED: Final = 0.05
_LEAST_RANGE: Final = 2.0  # odds: where samples are alike, the axis still shows what would be a difference


def abundance(
    adata: AnnData,
    *,
    sample_key: str,
    reference: str | None = None,
    key: str = DOMAIN,
    axes: tuple[Axes, Axes] | None = None,
) -> tuple[Axes, Axes]:
    """Draw the share of every sample that each domain takes, by condition, and beside it the effect with its interval.

    On the left every sample is a mark and the mean of a condition a bar. On the right is the ratio of odds of each
    condition to the reference with its 95 % interval, filled where the adjusted p-value is below 0.05.

    Parameters
    ----------
    adata
        Annotated data of several samples, with ``obs["condition"]`` and where wanted ``obs["donor"]``.
    sample_key, reference, key
        As of :func:`stmfg.tl.abundance`.
    axes
        Two axes to draw on; new ones by default.

    Raises
    ------
    InputError
        If conditions cannot be compared.
    """
    study = compare_samples(adata, sample_key, reference=reference, key=key)
    if study.abundance is None:
        raise InputError(*study.sentences or ("there is no obs['condition'] with two conditions to compare",))
    if axes is None:
        import matplotlib.pyplot as plt  # chooses a display; not needed by those who bring their own axes

        left, right = draw_study(study, plt.figure).axes
        return left, right
    return draw_abundance(study.composition, study.abundance, axes)


def draw_study(study: Study, new_figure: Callable[..., Figure] = Figure) -> Figure:
    """Return a figure of a study whose conditions were compared; one of pyplot is shown."""
    if study.abundance is None:
        raise ValueError("conditions were not compared")
    figure = new_figure(figsize=(8.5, 1.3 + 0.42 * study.abundance["domain"].nunique()), layout="constrained")
    draw_abundance(study.composition, study.abundance, figure.subplots(1, 2, sharey=True))
    return figure


def draw_abundance(shares: pd.DataFrame, tests: pd.DataFrame, axes: tuple[Axes, Axes]) -> tuple[Axes, Axes]:
    """Draw the two tables of a study."""
    left, right = axes
    domains, first = list(dict.fromkeys(tests["domain"].astype(str))), str(tests["reference"].iloc[0])
    conditions = [first, *dict.fromkeys(tests["condition"].astype(str))]
    row = {name: i for i, name in enumerate(domains)}
    shift = dict(zip(conditions, np.linspace(-0.22, 0.22, len(conditions)).tolist(), strict=True))
    for place, condition in enumerate(conditions):
        marker = _MARKERS[place % len(_MARKERS)]
        part = shares[shares[CONDITION].astype(str) == condition]
        y = part["domain"].astype(str).map(row).to_numpy(dtype=float) + shift[condition]
        face = "none" if place == 0 else "0.3"
        marks: dict[str, Any] = {"s": 22, "marker": marker, "facecolors": face, "edgecolors": "0.3", "zorder": 3}
        left.scatter(part["proportion"], y, label=condition, **marks)
        means = part.groupby(part["domain"].astype(str))["proportion"].mean()
        at = np.array([row[name] for name in means.index]) + shift[condition]
        left.vlines(means, at - 0.16, at + 0.16, color="black", linewidth=2, zorder=4)
    for place, condition in enumerate(conditions[1:], 1):
        part = tests[tests["condition"].astype(str) == condition]
        y = part["domain"].astype(str).map(row).to_numpy(dtype=float) + (shift[condition] if len(conditions) > 2 else 0)
        right.hlines(y, np.exp(part["ci_low"]), np.exp(part["ci_high"]), color="0.3", linewidth=1.4)
        claimed = part["p_adjusted"].to_numpy() < _CLAIMED
        marker = _MARKERS[place % len(_MARKERS)]
        right.scatter(np.exp(part["effect"]), y, s=34, marker=marker, edgecolors="0.3", zorder=3,
                      facecolors=["0.15" if c else "white" for c in claimed])  # fmt: skip
    right.axvline(1.0, color="0.6", linewidth=1, zorder=0)
    right.set_xscale("log")
    low, high = right.get_xlim()
    right.set_xlim(min(low, 1 / _LEAST_RANGE), max(high, _LEAST_RANGE))
    decades = np.log10(np.divide(*right.get_xlim()[::-1]))
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.xaxis.set_minor_formatter("")
    left.set_yticks(range(len(domains)), domains)
    left.set(ylim=(len(domains) - 0.4, -0.6), ylabel="Domain", xlabel="Share of the sample's spots", xlim=(0, None))
    left.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.set(xlabel=f"Odds, relative to {first}")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="x", color="0.92", zorder=0)
    legend = left.legend(
        frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(conditions)
    )
    for text in [*legend.get_texts(), *left.get_yticklabels(), right.xaxis.label]:
        text.set_parse_math(False)  # a name with two dollar signs is a name
    return axes

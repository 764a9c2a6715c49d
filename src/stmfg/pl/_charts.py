"""Numbers of a result in pictures: weights of the views, the loss, the number of domains, marker genes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from stmfg._core import checks
from stmfg._core.labels import labels
from stmfg._core.palette import palette
from stmfg._keys import DOMAIN, MARKERS, UNS, VIEW_WEIGHTS
from stmfg.errors import InputError, require
from stmfg.pl._maps import RUN, new_axes
from stmfg.tl import _marker_tests


def view_weights(adata: AnnData, *, color: str = DOMAIN, ax: Axes | None = None) -> Axes:
    """Draw the mean weight of each view in each domain, layer by layer, as a heat map.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["stmfg_view_weights"]``.
    color
        Column of ``obs`` with labels.
    ax
        Axes to draw on; new ones by default.
    """
    table = mean_view_weights(adata, labels(adata, color))
    ax = ax or new_axes(1.5 + 1.1 * table.shape[1], 1.5 + 0.35 * table.shape[0])
    drawn = ax.imshow(table.to_numpy(), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    ax.set_xticks(range(table.shape[1]), [str(c).replace(": ", "\n") for c in table.columns])
    ax.set_yticks(range(table.shape[0]), list(table.index))
    ax.set_ylabel("Domain")
    _hide_frame(ax)
    ax.figure.colorbar(drawn, ax=ax, label="Mean weight")
    return ax


def loss(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the terms of the loss over the epochs, on a logarithmic scale where all are positive.

    Parameters
    ----------
    adata
        Annotated data with ``uns["stmfg"]``.
    ax
        Axes to draw on; new ones by default.
    """
    history = require(adata, "uns", UNS, RUN).get("history", {})
    curves = {str(name): np.asarray(values, dtype=np.float64) for name, values in history.items()}
    if not curves:
        raise InputError(f"uns[{UNS!r}] has no loss history, expected one array for each term; {RUN}")
    ax = ax or new_axes(7.0, 4.5)
    legible = [colour for colour in palette(len(curves) + 1) if colour != "#f0e442"]  # yellow is too faint for a line
    for (name, values), colour in zip(curves.items(), legible, strict=False):
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, label=name, color=colour, linewidth=2.2 if name == "total" else 1.4)
    if all((values > 0).all() for values in curves.values()):
        ax.set_yscale("log")
        for set_format in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            set_format(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    ax.set(xlabel="Epoch", ylabel="Loss")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def n_domains(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw how well every number of domains is supported, which was chosen, and which are nearly as good.

    Parameters
    ----------
    adata
        Annotated data of a run with ``n_domains="auto"``.
    ax
        Axes to draw on; new ones by default.
    """
    record = require(adata, "uns", UNS, RUN).get("n_domains", {})
    if not isinstance(record, Mapping) or "score" not in record:
        raise InputError("the number of domains was given, not chosen; run stmfg.tl.domains(adata, n_domains='auto')")
    tried, score = np.asarray(record["n"]), np.asarray(record["score"])
    chosen, rivals = tried == record["chosen"], np.isin(tried, record["rivals"])
    ax = ax or new_axes(6.0, 3.5)
    ax.plot(tried, score, color="0.5", marker="o", markersize=4, linewidth=1.4)
    ax.plot(tried[rivals], score[rivals], "o", markersize=9, markeredgecolor=palette(1)[0], color="white")
    ax.plot(tried[chosen], score[chosen], "o", markersize=9, color=palette(1)[0])
    ax.set_title("\n".join(textwrap.wrap(str(record["sentence"]), 60)), fontsize="medium", loc="left")
    ax.set(xlabel="Number of domains", ylabel="Support", xticks=tried)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def markers(
    adata: AnnData,
    *,
    genes: Sequence[str] | None = None,
    n_genes: int = 3,
    color: str = DOMAIN,
    ax: Axes | None = None,
) -> Axes:
    """Draw marker genes as dots: the area is the share of spots that show the gene, the colour its mean expression.

    The mean (of log counts at median depth) is shown relative to the domain where it is highest.

    Parameters
    ----------
    adata
        Annotated data with raw counts.
    genes
        Genes to draw; by default the `n_genes` best of :func:`stmfg.tl.markers` for every domain, as far as their
        adjusted p-value is below 0.05.
    n_genes
        How many markers of each domain, where `genes` is not given.
    color
        Column of ``obs`` with labels.
    ax
        Axes to draw on; new ones by default.
    """
    counts = counts_or_none(adata)
    if counts is None:
        raise InputError("there are no raw counts in layers['counts'] or X; store them in layers['counts']")
    moments = _marker_tests.moments(counts, labels(adata, color))
    if genes is None:
        table = adata.uns.get(MARKERS) if color == DOMAIN else None
        if table is None or not set(table["domain"]) <= set(moments.domains):
            table = _marker_tests.rank(moments, adata.var_names, n_genes)
        best = _marker_tests.beyond_chance(table).groupby("domain", sort=False).head(n_genes)["gene"]
        order = list(dict.fromkeys(adata.var_names.get_indexer(best[best.isin(adata.var_names)])))
    else:
        order = list(adata.var_names.get_indexer(list(genes)))
        if -1 in order:
            raise InputError(f"gene {list(genes)[order.index(-1)]!r} is not in var_names; check the spelling")
    if not order:
        raise InputError("no gene is higher in a domain beyond chance; name the genes to draw: genes=[...]")
    mean, share = moments.log_mean[:, order], moments.share[:, order]
    relative = mean / np.maximum(mean.max(axis=0), np.finfo(float).tiny)
    ax = ax or new_axes(2.5 + 0.28 * len(order), 1.6 + 0.35 * len(mean))
    row, column = np.indices(mean.shape)
    shades: dict[str, Any] = {"c": relative, "cmap": "Blues", "vmin": 0, "vmax": 1, "edgecolors": "0.4"}
    drawn = ax.scatter(column, row, s=130 * share, linewidths=0.4, **shades)
    ax.set_xticks(range(len(order)), [str(adata.var_names[i]) for i in order], rotation=90, fontstyle="italic")
    ax.set_yticks(range(len(mean)), moments.domains)
    ax.set(xlim=(-0.7, len(order) - 0.3), ylim=(len(mean) - 0.4, -0.6), ylabel="Domain")
    _hide_frame(ax)
    for name in ax.get_xticklabels() + ax.get_yticklabels():
        name.set_parse_math(False)
    sizes = [
        Line2D([], [], ls="", marker="o", color="0.6", ms=np.sqrt(130 * s), label=f"{s:.0%}") for s in (0.25, 0.5, 1.0)
    ]
    ax.legend(handles=sizes, title="Share of spots", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.figure.colorbar(drawn, ax=ax, label="Relative mean", shrink=0.7, location="right", pad=0.12)
    return ax


def mean_view_weights(adata: AnnData, domains: pd.Categorical[Any]) -> pd.DataFrame:
    """Return the mean weight in every domain (rows) of every layer and view (columns)."""
    weights = np.asarray(require(adata, "obsm", VIEW_WEIGHTS, RUN))
    names = [str(c) for c in require(adata, "uns", UNS, RUN).get("view_weight_names", [])]
    if len(names) != weights.shape[1]:
        names = [f"weight {i + 1}" for i in range(weights.shape[1])]
    table = pd.DataFrame(weights, columns=names).groupby(np.asarray(domains.codes)).mean()
    table = table.reindex(range(len(domains.categories)))
    return table.set_axis(pd.Index(domains.categories, name="domain"))


def counts_or_none(adata: AnnData, layer: str | None = None) -> Any:
    """Return the raw counts in rows, or None where there are none."""
    try:
        return checks.counts(adata, layer)
    except InputError:
        return None


def _hide_frame(ax: Axes) -> None:
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)

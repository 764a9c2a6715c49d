"""Figures of a finished result. Every function draws on the given axes, or on new ones, and returns them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.ticker import LogFormatter
from matplotlib.transforms import AffineDeltaTransform

from stmfg import _keys
from stmfg._core import summary as _summary
from stmfg._core.palette import CONFIDENCE, MISSING, palette
from stmfg._core.spots import Spots, spots
from stmfg.errors import InputError, require
from stmfg.tl import _marker_tests as _markers

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

__all__ = ["confidence", "domains", "embedding", "loss", "markers", "n_domains", "view_weights"]

_RUN = "run stmfg.tl.domains(adata) first"
CONFIDENCE_MAP = LinearSegmentedColormap.from_list("stmfg_confidence", CONFIDENCE)
_LEGEND_ROWS = 20
_SQUARE = Path([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], closed=True)


def domains(
    adata: AnnData,
    *,
    color: str = _keys.DOMAIN,
    image: bool = True,
    library_key: str | None = None,
    size: float = 1.0,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the spots at true shape and scale, coloured by domain, over the tissue image if there is one.

    Parameters
    ----------
    adata
        Annotated data.
    color
        Column of ``obs`` with labels; spots without a label are grey.
    image
        Whether to draw the tissue image of ``uns["spatial"]``.
    library_key
        Column of ``obs`` naming the slice of each spot; slices are laid out side by side with their names above,
        without image.
    size
        Factor on the diameter of the spots.
    legend
        Whether to list the domains beside the map.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    labels = _summary.labels(adata, color)
    names = [str(c) for c in labels.categories]
    chosen = _summary.colours(adata, names, color)
    where = spots(adata, image=image, library_key=library_key)
    ax = _axes(ax, 8.0, 7.0)
    _draw_spots(ax, where, size).set_facecolor(to_rgba_array([*chosen, MISSING])[labels.codes])
    if legend:
        missing = bool((labels.codes < 0).any())
        _legend(
            ax, names + ["none"] * missing, chosen + [MISSING] * missing, "Domain" if color == _keys.DOMAIN else color
        )
    return ax


def confidence(
    adata: AnnData,
    *,
    image: bool = True,
    library_key: str | None = None,
    size: float = 1.0,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw the spots coloured by the confidence of their domain.

    Parameters
    ----------
    adata
        Annotated data.
    image, library_key, size, ax
        As in :func:`domains`.
    legend
        Whether to draw the colour scale.

    Returns
    -------
    The axes.
    """
    values = np.asarray(require(adata, "obs", _keys.CONFIDENCE, _RUN))
    where = spots(adata, image=image, library_key=library_key)
    ax = _axes(ax, 8.0, 7.0)
    drawn = _draw_spots(ax, where, size)
    drawn.set_array(values)
    drawn.set(cmap=CONFIDENCE_MAP, clim=(0.0, 1.0))
    if legend:
        _figure(ax).colorbar(drawn, ax=ax, label="Confidence", shrink=0.6)
    return ax


def embedding(
    adata: AnnData, *, color: str = _keys.DOMAIN, size: float = 1.0, legend: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw the first two principal components of the embedding, coloured by domain.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["X_stmfg"]``.
    color
        Column of ``obs`` with labels.
    size
        Factor on the size of the points.
    legend
        Whether to list the domains beside the figure.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    labels = _summary.labels(adata, color)
    names = [str(c) for c in labels.categories]
    chosen = _summary.colours(adata, names, color)
    points, share = _summary.plane(require(adata, "obsm", _keys.EMBEDDING, _RUN))
    ax = _axes(ax, 7.0, 6.0)
    area = size * np.clip(30_000 / max(len(points), 1), 1.0, 25.0)
    shades = to_rgba_array([*chosen, MISSING])[labels.codes]
    ax.scatter(points[:, 0], points[:, 1], s=area, c=shades, linewidths=0, alpha=0.8, rasterized=True)
    ax.set(xticks=[], yticks=[], xlabel=f"PC 1 ({share[0]:.0%} of variance)", ylabel=f"PC 2 ({share[1]:.0%})")
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        _legend(ax, names, chosen, "Domain" if color == _keys.DOMAIN else color)
    return ax


def view_weights(adata: AnnData, *, color: str = _keys.DOMAIN, ax: Axes | None = None) -> Axes:
    """Draw how much attention each domain pays to each view, layer by layer, as a heat map.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["stmfg_view_weights"]``.
    color
        Column of ``obs`` with labels.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    table = _summary.view_weights(adata, _summary.labels(adata, color))
    ax = _axes(ax, 1.5 + 1.1 * table.shape[1], 1.5 + 0.35 * table.shape[0])
    drawn = ax.imshow(table.to_numpy(), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 else "black")
    headings = [str(c).replace(": ", "\n") for c in table.columns]
    ax.set_xticks(range(table.shape[1]), headings)
    ax.set_yticks(range(table.shape[0]), list(table.index))
    ax.set_ylabel("Domain")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    _figure(ax).colorbar(drawn, ax=ax, label="Mean attention")
    return ax


def loss(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the terms of the loss over the epochs, on a logarithmic scale where all are positive.

    Parameters
    ----------
    adata
        Annotated data with ``uns["stmfg"]``.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    history = require(adata, "uns", _keys.UNS, _RUN).get("history", {})
    curves = {str(name): np.asarray(values, dtype=np.float64) for name, values in history.items()}
    if not curves:
        raise InputError(f"uns[{_keys.UNS!r}] has no loss history, expected one array for each term; {_RUN}")
    ax = _axes(ax, 7.0, 4.5)
    for (name, values), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, label=name, color=colour, linewidth=2.2 if name == "total" else 1.4)
    if all((values > 0).all() for values in curves.values()):
        ax.set_yscale("log")
        for axis_format in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
            axis_format(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    ax.set(xlabel="Epoch", ylabel="Loss")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return ax


def n_domains(adata: AnnData, *, ax: Axes | None = None) -> Axes:
    """Draw the evidence for every number of domains that was tried, and which was chosen.

    Parameters
    ----------
    adata
        Annotated data of a run with ``n_domains="auto"``.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    record = require(adata, "uns", _keys.UNS, _RUN)
    if "n_domains_evidence" not in record:
        raise InputError("the number of domains was given, not chosen; run stmfg.tl.domains(adata, n_domains='auto')")
    tried, evidence = np.asarray(record["n_domains_candidates"]), np.asarray(record["n_domains_evidence"])
    chosen = int(evidence.argmax())
    ax = _axes(ax, 6.0, 3.5)
    ax.plot(tried, evidence, color="0.5", marker="o", markersize=4, linewidth=1.4)
    ax.plot(tried[chosen], evidence[chosen], color=_cycle(1)[0], marker="o", markersize=9)
    ax.set(xlabel="Number of domains", ylabel="Evidence less the best (nats)", xticks=tried)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def markers(
    adata: AnnData,
    *,
    genes: Sequence[str] | None = None,
    n_genes: int = 3,
    color: str = _keys.DOMAIN,
    ax: Axes | None = None,
) -> Axes:
    """Draw marker genes as dots: the area is the share of spots that show the gene, the colour its mean expression.

    The mean (of log counts at median depth) is shown relative to the domain where it is highest.

    Parameters
    ----------
    adata
        Annotated data with raw counts.
    genes
        Genes to draw; by default the `n_genes` best markers of every domain.
    n_genes
        How many markers of each domain, where `genes` is not given.
    color
        Column of ``obs`` with labels.
    ax
        Axes to draw on; new ones by default.

    Returns
    -------
    The axes.
    """
    raw = _summary.counts(adata)
    if raw is None:
        raise InputError("found no raw counts, expected them in layers['counts'] or X; store them in layers['counts']")
    found = _markers.moments(raw, _summary.labels(adata, color))
    if genes is None:
        order = list(dict.fromkeys(_markers.rank(found, adata.var_names, n_genes).index))
    else:
        order = list(adata.var_names.get_indexer(list(genes)))
        if -1 in order:
            raise InputError(f"gene {list(genes)[order.index(-1)]!r} is not in var_names; check the spelling")
    if not order:
        raise InputError("there are no marker genes to draw, expected at least two domains and one expressed gene")
    mean, share = found.log_mean[:, order], found.share[:, order]
    relative = mean / np.maximum(mean.max(axis=0), np.finfo(float).tiny)
    ax = _axes(ax, 2.5 + 0.28 * len(order), 1.6 + 0.35 * len(mean))
    row, column = np.indices(mean.shape)
    drawn = ax.scatter(
        column, row, s=130 * share, c=relative, cmap="Blues", vmin=0, vmax=1, edgecolors="0.4", linewidths=0.4
    )
    ax.set_xticks(range(len(order)), [str(adata.var_names[i]) for i in order], rotation=90, fontstyle="italic")
    ax.set_yticks(range(len(mean)), found.domains)
    ax.set(xlim=(-0.7, len(order) - 0.3), ylim=(len(mean) - 0.4, -0.6), ylabel="Domain")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for name in ax.get_xticklabels() + ax.get_yticklabels():
        name.set_parse_math(False)
    sizes = [
        Line2D([], [], ls="", marker="o", color="0.6", ms=np.sqrt(130 * s), label=f"{s:.0%}") for s in (0.25, 0.5, 1.0)
    ]
    ax.legend(handles=sizes, title="Share of spots", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _figure(ax).colorbar(drawn, ax=ax, label="Relative mean", shrink=0.7, location="right", pad=0.12)
    return ax


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return `ax`, or new axes that a notebook shows."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt  # chooses a display; not needed by those who bring their own axes

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _figure(ax: Axes) -> Any:
    """Return the figure `ax` belongs to, typed loosely: the stubs allow for axes without one."""
    return ax.get_figure(root=False)


def _draw_spots(ax: Axes, where: Spots, size: float) -> PathCollection:
    """Add uncoloured spots, their image and the right limits to `ax`."""
    if where.image is not None:
        ax.imshow(where.image, extent=where.extent, interpolation="antialiased")
    unit = _SQUARE if where.square else Path.unit_circle()
    # The size is in the units of the coordinates, so that spots stay true when the figure is resized or zoomed.
    drawn = PathCollection(
        [Path(np.asarray(unit.vertices) * (where.diameter * size / 2), unit.codes)],
        offsets=where.xy,
        offset_transform=ax.transData,
        linewidths=0,
        rasterized=True,
    )
    to_screen: Any = ax.transData  # affine, since both axes are linear
    drawn.set_transform(AffineDeltaTransform(to_screen))
    ax.add_collection(drawn, autolim=False)
    for name, (left, top, right, _) in where.slices.items():
        place = (left + right) / 2, top - where.diameter
        ax.text(*place, name, ha="center", va="bottom", fontsize="small", parse_math=False)
    left, top, right, bottom = where.bounds()
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return drawn


def _legend(ax: Axes, names: list[str], shades: list[str], title: str) -> None:
    """List `names` to the right of `ax`."""
    dots = [Line2D([], [], ls="", marker="o", ms=8, color=c, label=n) for n, c in zip(names, shades, strict=True)]
    columns = max(1, -(-len(names) // _LEGEND_ROWS))
    shown = ax.legend(
        handles=dots, title=title, ncols=columns, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    for text in [*shown.get_texts(), shown.get_title()]:
        text.set_parse_math(False)  # a name with two dollar signs is a name


def _cycle(k: int) -> list[str]:
    """Return `k` colours for curves: without yellow, too faint for a line on white."""
    return [c for c in palette(k + 1) if c != "#f0e442"][:k]

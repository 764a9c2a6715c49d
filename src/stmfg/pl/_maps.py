"""Every spot in a colour: in the tissue, or in the plane of the embedding."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from anndata import AnnData
from matplotlib.artist import allow_rasterization
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgba_array
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.transforms import AffineDeltaTransform
from numpy.typing import NDArray

from stmfg._core.comparison import Comparison
from stmfg._core.geometry import turn
from stmfg._core.labels import colours, labels
from stmfg._core.palette import CONFIDENCE as CONFIDENCE_COLOURS
from stmfg._core.palette import MISSING, palette
from stmfg._core.spots import Spots, spots
from stmfg._keys import CONFIDENCE, DOMAIN, EMBEDDING
from stmfg.errors import InputError, require

RUN: Final = "run stmfg.tl.domains(adata) first"
CONFIDENCE_MAP: Final = LinearSegmentedColormap.from_list("stmfg_confidence", CONFIDENCE_COLOURS)
HALO: Final = [withStroke(linewidth=2.1, foreground="white")]
"""Keeps a name readable over spots, and on black paper."""
_LEGEND_ROWS = 20
_DRAWN_ONE_BY_ONE = 50_000
_LARGEST_PAINTED = 8  # pixels
_SQUARE = Path([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)], closed=True)


def domains(
    adata: AnnData,
    *,
    color: str = DOMAIN,
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
        Column of ``obs`` naming the slice of each spot; slices are laid out side by side with their names above, each
        over the image that ``uns["spatial"]`` has by its name.
    size
        Factor on the diameter of the spots.
    legend
        Whether to list the domains beside the map.
    ax
        Axes to draw on; new ones by default.
    """
    if color not in adata.obs and color in adata.var_names:
        raise InputError(f"color is {color!r}, a gene; it names a column of labels: draw genes with squidpy or scanpy")
    given, shades = labels(adata, color), colours(adata, color)
    ax = ax or new_axes(8.0, 7.0)
    drawn = draw_spots(ax, spots(adata, image=image, library_key=library_key), size)
    drawn.set_facecolor(to_rgba_array([*shades.values(), MISSING])[given.codes])
    if legend:
        unlabelled = [("none", MISSING)] if (given.codes < 0).any() else []
        _draw_legend(ax, [*shades.items(), *unlabelled], color)
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
    """
    values = np.asarray(require(adata, "obs", CONFIDENCE, RUN))
    ax = ax or new_axes(8.0, 7.0)
    drawn = draw_spots(ax, spots(adata, image=image, library_key=library_key), size)
    drawn.set(array=values, cmap=CONFIDENCE_MAP, clim=(0.0, 1.0))
    if legend:
        ax.figure.colorbar(drawn, ax=ax, label="Confidence", shrink=0.6)
    return ax


def differences(
    adata: AnnData,
    comparison: Comparison,
    *,
    image: bool = True,
    library_key: str | None = None,
    size: float = 1.0,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw where two results differ: spots on which they agree are grey, others in the colour of what the other says.

    Parameters
    ----------
    adata
        Annotated data of the first result.
    comparison
        Of :func:`stmfg.compare`, with spots named as in ``adata``.
    image, library_key, size, ax
        As in :func:`domains`.
    legend
        Whether to list the domains beside the map; those of the other that have no match are in brackets.
    """
    told = comparison.spots[~comparison.spots["same"]]
    differing = told["renamed"].reindex(adata.obs_names)
    shades = colours(adata) if DOMAIN in adata.obs else {}
    new = sorted(set(differing.dropna()) - set(shades))
    shades |= dict(zip(new, palette(len(shades) + len(new))[len(shades) :], strict=True))
    ax = ax or new_axes(8.0, 7.0)
    drawn = draw_spots(ax, spots(adata, image=image, library_key=library_key), size)
    filled: Any = to_rgba_array([shades.get(name, MISSING) for name in differing])
    drawn.set_facecolor(filled)
    if legend:
        shown = [(name, shade) for name, shade in shades.items() if (differing == name).any()]
        _draw_legend(ax, [*shown, ("the same", MISSING)], "In the other")
    return ax


def embedding(
    adata: AnnData, *, color: str = DOMAIN, size: float = 1.0, legend: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw the first two principal components of the embedding, coloured by domain.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["X_stmfg"]``.
    color, size, legend, ax
        As in :func:`domains`.
    """
    given, shades = labels(adata, color), colours(adata, color)
    points, share = principal_plane(require(adata, "obsm", EMBEDDING, RUN))
    ax = ax or new_axes(7.0, 6.0)
    area = size * np.clip(30_000 / max(len(points), 1), 1.0, 25.0)
    colour = to_rgba_array([*shades.values(), MISSING])[given.codes]
    ax.scatter(points[:, 0], points[:, 1], s=area, c=colour, linewidths=0, alpha=0.8, rasterized=True)
    ax.set(xticks=[], yticks=[], xlabel=f"PC 1 ({share[0]:.0%} of variance)", ylabel=f"PC 2 ({share[1]:.0%})")
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        _draw_legend(ax, [*shades.items()], color)
    return ax


def principal_plane(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components (n, 2) of x (n, d), and their shares of the variance."""
    plane, variances = turn(np.asarray(x), 2)
    share = variances[:2] / max(variances.sum(), np.finfo(float).tiny)
    absent = 2 - plane.shape[1]
    return np.pad(plane, ((0, 0), (0, absent))), np.pad(share, (0, absent))


def draw_spots(ax: Axes, where: Spots, size: float = 1.0) -> PathCollection:
    """Draw spots without colour, the image under them and the names of slices; set the limits of `ax`."""
    if where.image is not None:
        ax.imshow(where.image, extent=where.extent, interpolation="antialiased")
    unit = _SQUARE if where.square else Path.unit_circle()
    # The size is in the units of the coordinates, so that spots stay true when the figure is resized or zoomed.
    drawn = _SpotCollection(
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
        ax.text(*place, name, ha="center", va="bottom", fontsize="small", path_effects=HALO, parse_math=False)
    left, top, right, bottom = where.bounds()
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return drawn


class _SpotCollection(PathCollection):
    """Spots; very many, of a few pixels each, are painted pixel by pixel, which takes a twentieth of the time."""

    @allow_rasterization  # type: ignore[untyped-decorator]
    def draw(self, renderer: Any) -> None:
        """Draw all spots; where they overlap, a pixel shows the one whose middle is closest."""
        centers = self.get_offset_transform().transform(self.get_offsets())
        radius = self.get_transform().transform_path(self.get_paths()[0]).get_extents().width / 2
        if len(centers) <= _DRAWN_ONE_BY_ONE or radius > _LARGEST_PAINTED or not self.get_visible():
            super().draw(renderer)
            return
        self.update_scalarmappable()
        shades = np.rint(255 * np.broadcast_to(self.get_facecolor(), (len(centers), 4))).astype(np.uint8)
        axes: Any = self.axes
        left, bottom, width, height = (int(x) for x in axes.bbox.padded(1).bounds)
        column, row = np.floor(centers - (left, bottom)).astype(np.int64).T
        picture = np.zeros((height, width), dtype=np.uint32)
        reach = max(radius + 0.5, 1.0)  # to the middle of every pixel that a spot touches: no white between neighbours
        steps, is_square = range(-int(reach), int(reach) + 1), len(self.get_paths()[0]) == len(_SQUARE)
        inside = [(x * x + y * y, x, y) for x in steps for y in steps if is_square or x * x + y * y <= reach**2]
        for _, x, y in sorted(inside, reverse=True):
            seen = (column + x >= 0) & (column + x < width) & (row + y >= 0) & (row + y < height)
            picture[row[seen] + y, column[seen] + x] = shades.view(np.uint32)[seen, 0]
        context = renderer.new_gc()
        context.set_clip_rectangle(axes.bbox)
        renderer.draw_image(context, left, bottom, picture.view(np.uint8).reshape(height, width, 4))
        context.restore()


def new_axes(width: float, height: float) -> Axes:
    """Return axes of a new figure, in inches, that a notebook shows."""
    import matplotlib.pyplot as plt  # chooses a display; not needed by those who bring their own axes

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _draw_legend(ax: Axes, entries: list[tuple[str, str]], color: str) -> None:
    """List names and colours to the right of `ax`."""
    dots = [Line2D([], [], ls="", marker="o", ms=8, color=shade, label=name) for name, shade in entries]
    where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
    n_columns = max(1, -(-len(entries) // _LEGEND_ROWS))
    legend = ax.legend(handles=dots, title="Domain" if color == DOMAIN else color, ncols=n_columns, **where)
    for text in [*legend.get_texts(), legend.get_title()]:
        text.set_parse_math(False)  # a name with two dollar signs is a name

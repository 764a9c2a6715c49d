"""Where data keep what stMFG did not find: counts, embeddings, positions, the names of slices.

The checks, ``stmfg info`` and a run all ask here, so that they say the same. Nothing is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core.geometry import spacing
from stmfg._keys import COUNTS, EMBEDDING, FEATURES, IMAGE_FEATURES, SLICE, SPATIAL, VIEW_WEIGHTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated

RAW: Final = "raw"
"""Name under which ``adata.raw`` is given as a layer."""
_SLICE_COLUMNS: Final = (
    *(
        SLICE,
        "library_id",
        "library",
        "sample_id",
        "sample_name",
        "sample",
        "slice_id",
        "slice",
        "section_id",
        "section",
    ),
    *("slide_id", "slide", "capture_area", "puck", "batch", "region", "donor_id", "donor", "animal_id", "orig.ident"),
)
"""Usual names, in lower case, of columns of ``obs`` that tell slices apart; those of single slices first."""
_POSITION_COLUMNS: Final = (
    *(("x_centroid", "y_centroid"), ("center_x", "center_y"), ("centerx_global_px", "centery_global_px")),
    *(("pxl_col_in_fullres", "pxl_row_in_fullres"), ("imagecol", "imagerow"), ("x_slide_mm", "y_slide_mm")),
    *(("xcoord", "ycoord"), ("x_coord", "y_coord"), ("coord_x", "coord_y"), ("spatial_x", "spatial_y")),
    *(("pos_x", "pos_y"), ("x_location", "y_location"), ("global_x", "global_y"), ("x", "y")),
)
"""Pairs of columns of ``obs``, in lower case, in which other tools keep x and y."""
_POSITION_KEYS: Final = (
    "x_spatial",
    "spatial_coords",
    "spatial_coordinates",
    "coordinates",
    "coords",
    "location",
    "xy",
)
_DRAWINGS: Final = ("umap", "tsne", "t-sne", "draw_graph", "phate", "fa2")
"""Parts of the names of embeddings that were made to be looked at."""
_IN_TISSUE: Final = "in_tissue"
_VALUES: Final = 100_000
SPOTS: Final = 20_000
"""Spots that are looked at."""
_MIXED: Final = 0.3
"""Share of the spots of a slice that are closer to another slice: few on borders, half where slices overlap."""
_NEAR: Final = 9
_COINCIDENT: Final = 0.02
"""Share of spots at the place of another that one tissue does not have."""
_MOST_SLICES: Final = 50
_TOLD_APART: Final = 0.98
_CLOSER: Final = 0.75
"""On square grids a place between the spots is at most 0.71 spacings away from the next, on hexagonal ones 0.58."""


def counts_elsewhere(adata: Annotated, *, besides: str | None = None) -> str | None:
    """Return the layer with raw counts, or ``"raw"`` for ``adata.raw``; None where there are none."""
    for layer in sorted(adata.layers, key=lambda name: "count" not in str(name).lower()):
        if layer not in (besides, COUNTS) and look_like_counts(adata.layers[layer]):
            return str(layer)
    if besides != RAW and adata.raw is not None and look_like_counts(adata.raw.X):
        return RAW
    return None


def place_of_layer(adata: Annotated, layer: str) -> str:
    """Return where the counts of a layer are, for messages."""
    return "adata.raw" if layer == RAW and layer not in adata.layers else f"layers[{layer!r}]"


def look_like_counts(matrix: Any) -> bool:
    """Whether the first values of a matrix are whole, not negative, and not all alike."""
    if matrix is None or 0 in matrix.shape:
        return False
    rows = matrix[: max(1, _VALUES // matrix.shape[1])]
    values = np.asarray(rows.data if sparse.issparse(rows) else rows).ravel()
    if hasattr(rows, "compute"):
        block = rows.compute(scheduler="synchronous")
        values = np.asarray(block.data if sparse.issparse(block) else block).ravel()
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        return False
    return bool((values >= 0).all() and values.any() and (values == np.rint(values)).all())


def embeddings(adata: Annotated) -> dict[str, int]:
    """Return what in ``obsm`` can take the place of counts, with its number of columns; the likeliest first."""
    widths = {}
    for key, values in adata.obsm.items():
        shape = np.shape(values)
        made_here = key in (EMBEDDING, VIEW_WEIGHTS, IMAGE_FEATURES, FEATURES)
        drawing = any(name in str(key).lower() for name in _DRAWINGS)
        if len(shape) == 2 and shape[1] > 3 and not made_here and not drawing and not sparse.issparse(values):
            widths[str(key)] = shape[1]
    return dict(sorted(widths.items(), key=lambda item: item[0] != "X_pca"))


def are_positions(adata: Annotated, key: str, values: NDArray[Any]) -> bool:
    """Whether values in ``obsm`` are the places of the observations rather than an embedding."""
    if key == SPATIAL or key.lower() in _POSITION_KEYS:
        return True
    if values.ndim != 2 or not 1 <= values.shape[1] <= 3 or SPATIAL not in adata.obsm:
        return False
    xy = _as_numbers(adata.obsm[SPATIAL])
    if xy is None or len(xy) != len(values) or not np.isfinite(values).all():
        return False
    with np.errstate(all="ignore"):
        alike = np.abs(np.corrcoef(values.T, xy.T))[: values.shape[1], values.shape[1] :]
    return bool((np.nan_to_num(alike).max(axis=1) > 0.9999).all())  # in another order or unit, mirrored


def positions_elsewhere(adata: Annotated) -> tuple[str, Any] | None:
    """Return where positions are that are not in ``obsm["spatial"]``, as text, and x and y, (n, 2)."""
    for key in adata.obsm:
        if key != SPATIAL and (key.lower() in _POSITION_KEYS or key.lower() == SPATIAL):
            xy = _as_numbers(adata.obsm[key])
            if xy is not None and xy.ndim == 2 and xy.shape[1] in (2, 3) and np.isfinite(xy).all():
                return f"obsm[{key!r}]", xy
    columns = {str(name).lower(): name for name in adata.obs}
    for x, y in _POSITION_COLUMNS:
        if x in columns and y in columns:
            values = adata.obs[[columns[x], columns[y]]]
            numbers = _as_numbers(values)
            if numbers is not None and np.isfinite(numbers).all():
                return f"obs[[{columns[x]!r}, {columns[y]!r}]]", numbers
    return None


def _as_numbers(values: Any) -> NDArray[np.float64] | None:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def beside_tissue(adata: Annotated) -> NDArray[np.bool_] | None:
    """Return which spots ``obs["in_tissue"]`` says lie beside the tissue, (n,); None where it does not tell."""
    if _IN_TISSUE not in adata.obs:
        return None
    codes, values = pd.factorize(adata.obs[_IN_TISSUE])
    meanings = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
    inside = [meanings.get(str(value).strip().lower()) for value in values]
    return None if None in inside or (codes < 0).any() else ~np.array(inside, dtype=bool)[codes]


def slice_columns(adata: Annotated) -> list[str]:
    """Return the columns of ``obs`` that may name slices, the likeliest first."""
    columns = {str(name).lower(): str(name) for name in adata.obs}
    usual = [columns[name] for name in _SLICE_COLUMNS if name in columns]
    return [c for c in usual if 1 < adata.obs[c].nunique() <= adata.n_obs // 2 and not adata.obs[c].isna().any()]


def overlapping_slices(adata: Annotated, xy: NDArray[np.float64]) -> str | None:
    """Return the column of ``obs`` that tells slices apart whose places lie on top of each other."""
    for column in slice_columns(adata):
        codes, _ = pd.factorize(np.asarray(adata.obs[column]).astype(str))
        if overlap(xy, codes):
            return column
    one, other = coincident(xy)
    if len(one) < _COINCIDENT * min(len(xy), SPOTS):
        return None
    # Under any name, what tells slices apart differs wherever two spots are at one place; a type of cells does not.
    few = {column: adata.obs[column] for column in adata.obs if adata.obs[column].dtype.kind not in "fc"}
    few = {column: values for column, values in few.items() if 1 < values.nunique() <= _MOST_SLICES}
    for column in sorted(few, key=lambda name: few[name].nunique()):
        codes, _ = pd.factorize(np.asarray(few[column]).astype(str))
        if (codes[one] != codes[other]).mean() > _TOLD_APART:
            return str(column)
    return None


def coincident(xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of spots at one place, of up to 20,000 spots: in one tissue, spots and cells exclude each other."""
    chosen = np.random.default_rng(0).permutation(len(xy))[:SPOTS]
    distances, near = cKDTree(xy).query(xy[chosen], k=2)
    itself = near[:, 0] == chosen
    other, distance = np.where(itself, near[:, 1], near[:, 0]), np.where(itself, distances[:, 1], distances[:, 0])
    close = distance < 0.1 * spacing(xy)
    return chosen[close], other[close]


def overlap(xy: NDArray[np.float64], codes: NDArray[np.int64]) -> bool:
    """Whether groups lie on top of each other, as slices that share an origin do.

    In one tissue, spots of another group are no closer than those of the own group, but for cells on borders. Where
    slices lie on top of each other, the nearest spot is of another slice for about every second one, or closer still.

    Parameters
    ----------
    xy
        Positions (n, 2) or (n, 3).
    codes
        Group of each, (n,).
    """
    chosen = np.random.default_rng(0).permutation(len(xy))[:SPOTS]
    distances, near = cKDTree(xy).query(xy[chosen], k=min(_NEAR, len(xy)))
    itself = near == chosen[:, None]
    alike = (codes[near] == codes[chosen][:, None]) & ~itself
    nearest_alike = np.where(alike, distances, np.inf).min(axis=1)
    nearest_other = np.where(alike | itself, np.inf, distances).min(axis=1)
    mixed = nearest_other < _CLOSER * np.minimum(nearest_alike, np.median(nearest_alike))
    sizes = np.bincount(codes[chosen])
    shares = np.bincount(codes[chosen], weights=mixed) / np.maximum(sizes, 1)
    return bool((shares[sizes >= min(20, len(chosen) // len(sizes))] > _MIXED).any())

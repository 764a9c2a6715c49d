"""Where data keep what stMFG did not find: counts, embeddings, positions, the names of slices.

The checks, ``stmfg info`` and a run all ask here, so that they say the same. Nothing is changed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core.geometry import once_per_place, spacing
from stmfg._keys import COUNTS, EMBEDDING, FEATURES, IMAGE_FEATURES, SLICE, SPATIAL, VIEW_WEIGHTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated

RAW: Final = "raw"
IN_X: Final = "X"
"""Names under which ``adata.raw`` and ``X`` are given as layers, where no layer is called so."""
_SLICE_COLUMNS: Final = (
    *("stmfg_slice", "library_id", "library", "sample_id", "sample_name", "sample", "slice_id", "slice", "section_id"),
    *("section", "slide_id", "slide", "capture_area", "puck", "batch", "region", "donor_id", "donor", "animal_id"),
    "orig.ident",
)
"""Usual names, in lower case, of columns of ``obs`` that tell slices apart; those of single slices first."""
_POSITION_COLUMNS: Final = (
    ("x_centroid", "y_centroid"),
    ("center_x", "center_y"),
    ("centerx_global_px", "centery_global_px"),
    ("pxl_col_in_fullres", "pxl_row_in_fullres"),
    ("imagecol", "imagerow"),
    ("x", "y"),
    ("spatial_1", "spatial_2"),
    ("spatial_0", "spatial_1"),
)
"""Pairs of columns of ``obs``, in lower case, in which other tools keep x and y."""
_GRID_COLUMNS: Final = (("array_col", "array_row"), ("col", "row"), ("column", "row"))
_NO_POSITION: Final = re.compile("min|max|local|fov|size|std|var|shift|offset|umap|tsne|pca|velocity|width|height")
"""In the name of a column with an x that says nothing of where a spot is on its slide."""
_POSITION_WORDS: Final = {
    *("spatial", "coords", "coord", "coordinates", "coordinate", "xy", "loc", "location", "locations", "position"),
    *("positions", "pos", "center", "centers", "centroid", "centroids", "pixel", "pixels", "px", "um", "global"),
}
"""What names of ``obsm`` for positions are made of, after an ``X_`` in front."""
_DRAWINGS: Final = ("umap", "tsne", "t-sne", "draw_graph", "phate", "fa2")
"""Parts of the names of embeddings that were made to be looked at."""
IN_TISSUE: Final = "in_tissue"
_INSIDE: Final = ("1", "1.0", "true", "t", "yes", "y", "in", "inside", "on", "")
_BESIDE: Final = ("0", "0.0", "false", "f", "no", "n", "out", "outside", "off", "not", "notin", "background")
"""What it says, in lower case, without spaces and the word tissue."""
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
    """Return the layer with raw counts, ``"raw"`` for ``adata.raw`` or ``"X"``; None where there are none."""
    for layer in sorted(adata.layers, key=lambda name: "count" not in str(name).lower()):
        if layer not in (besides, COUNTS) and look_like_counts(adata.layers[layer]):
            return str(layer)
    for name, matrix in ((RAW, None if adata.raw is None else adata.raw.X), (IN_X, adata.X)):
        if name != besides and look_like_counts(matrix):
            return name
    return None


def place_of_layer(adata: Annotated, layer: str) -> str:
    """Return where the counts of a layer are, for messages."""
    special = {RAW: "adata.raw", IN_X: "X"}
    return special[layer] if layer in special and layer not in adata.layers else f"layers[{layer!r}]"


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


def _sounds_like_positions(key: str) -> bool:
    words = set(re.split("[^a-z]+", key.lower().removeprefix("x_"))) - {""}
    return bool(words) and words <= _POSITION_WORDS


def are_positions(adata: Annotated, key: str, values: NDArray[Any]) -> bool:
    """Whether values in ``obsm`` are the places of the observations rather than an embedding."""
    if key == SPATIAL:
        return True
    if values.ndim != 2 or not 1 <= values.shape[1] <= 3:
        return False
    if _sounds_like_positions(key) or SPATIAL in key.lower():
        return True
    xy = _as_numbers(adata.obsm[SPATIAL]) if SPATIAL in adata.obsm else None
    if xy is None or len(xy) != len(values) or not (np.isfinite(values).all() and np.isfinite(xy).all()):
        return False
    # In another unit, turned or mirrored: what straight lines explain.
    with np.errstate(all="ignore"):
        values, xy = values - values.mean(axis=0), xy - xy.mean(axis=0)
        size = np.abs(values).max(initial=0.0)
        if not 0 < size < np.inf:
            return False
        left = values / size - xy @ np.linalg.lstsq(xy, values / size, rcond=None)[0]
        return bool((left**2).sum() < 1e-4 * ((values / size) ** 2).sum())


def positions_elsewhere(adata: Annotated) -> tuple[str, Any] | None:
    """Return where positions are that are not in ``obsm["spatial"]``, as text, and x and y, (n, 2)."""
    for key in adata.obsm:
        if key != SPATIAL and _sounds_like_positions(str(key)):
            xy = _as_numbers(adata.obsm[key])
            if xy is not None and xy.ndim == 2 and xy.shape[1] in (2, 3) and np.isfinite(xy).all():
                return f"obsm[{key!r}]", xy
    columns = {str(name).lower(): name for name in adata.obs}
    likely = sorted(name for name in columns if not _NO_POSITION.search(name))
    pairs = [(name, f"{name[:at]}y{name[at + 1 :]}") for name in likely for at in range(len(name)) if name[at] == "x"]
    for x, y in (*_POSITION_COLUMNS, *pairs, *_GRID_COLUMNS):
        if x in columns and y in columns:
            numbers = _as_numbers(adata.obs[[columns[x], columns[y]]])
            if numbers is not None and np.isfinite(numbers).all():
                if (x, y) in _GRID_COLUMNS and (numbers.sum(axis=1) % 2 == 0).all():
                    numbers = numbers * [1, np.sqrt(3)]  # every other place: the hexagons of Visium
                return f"obs[[{columns[x]!r}, {columns[y]!r}]]", numbers
    return None


def _as_numbers(values: Any) -> NDArray[np.float64] | None:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def beside_tissue(adata: Annotated) -> NDArray[np.bool_] | None:
    """Return which spots ``obs["in_tissue"]`` says lie beside the tissue, (n,); None where it does not tell."""
    if IN_TISSUE not in adata.obs:
        return None
    codes, values = pd.factorize(adata.obs[IN_TISSUE])
    words = [re.sub("[^a-z0-9.]", "", str(value).lower()).removesuffix("tissue") for value in values]
    if (codes < 0).any() or not set(words) <= {*_INSIDE, *_BESIDE}:
        return None
    return np.isin(words, _BESIDE)[codes]


def slice_columns(adata: Annotated) -> list[str]:
    """Return the columns of ``obs`` that may name slices, the likeliest first."""
    columns = {str(name).lower(): str(name) for name in adata.obs}
    usual = [columns[name] for name in _SLICE_COLUMNS if name in columns]
    return [c for c in usual if 1 < adata.obs[c].nunique() <= adata.n_obs // 2 and not adata.obs[c].isna().any()]


def few_valued_columns(adata: Annotated) -> list[str]:
    """Return all columns of ``obs`` that could name slices, under any name: those of few values, the fewest first."""
    few = {}
    for name, column in adata.obs.items():
        if str(name).startswith("stmfg_") and name != SLICE:  # domains that were found before
            continue
        is_number = column.dtype.kind in "fc"
        if (not is_number or (column == np.rint(column)).all()) and 1 < (n := column.nunique()) <= _MOST_SLICES:
            few[str(name)] = n
    return sorted(few, key=lambda name: few[name])


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
    for column in few_valued_columns(adata):
        codes, _ = pd.factorize(np.asarray(adata.obs[column]).astype(str))
        if (codes[one] != codes[other]).mean() > _TOLD_APART:
            return column
    return None


@once_per_place
def coincident(xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of spots at one place, of up to 20,000 spots: in one tissue, spots and cells exclude each other."""
    chosen = np.random.default_rng(0).permutation(len(xy))[:SPOTS]
    distances, near = cKDTree(xy, balanced_tree=False, compact_nodes=False).query(xy[chosen], k=2)
    itself = near[:, 0] == chosen
    other, distance = np.where(itself, near[:, 1], near[:, 0]), np.where(itself, distances[:, 1], distances[:, 0])
    close = distance < 0.1 * spacing(xy)
    return chosen[close], other[close]


def overlap(xy: NDArray[np.float64], codes: NDArray[np.int64]) -> bool:
    """Whether groups, codes (n,), lie on top of each other, as slices that share an origin do.

    In one tissue, spots of another group are no closer than those of the own group, but for cells on borders. Where
    slices lie on top of each other, the nearest spot is of another slice for about every second one, or closer still.
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

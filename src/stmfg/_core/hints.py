"""Where data keep what stMFG did not find: counts, embeddings, positions, the names of slices.

The checks, ``stmfg info`` and a run all ask here, so that they say the same. Nothing is changed.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core.geometry import once_per_place, spacing
from stmfg._keys import COUNTS, EMBEDDING, FEATURES, IMAGE_FEATURES, SLICE, SPATIAL, VIEW_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    *(("x_centroid", "y_centroid"), ("center_x", "center_y"), ("centerx_global_px", "centery_global_px")),
    *(("pxl_col_in_fullres", "pxl_row_in_fullres"), ("imagecol", "imagerow"), ("pxl_col", "pxl_row")),
    *(("pixel_col", "pixel_row"), ("x", "y"), ("spatial_1", "spatial_2"), ("spatial_0", "spatial_1")),
)
"""Pairs of columns of ``obs``, in lower case, in which other tools keep x and y."""
_GRID_COLUMNS: Final = (("array_col", "array_row"), ("col", "row"), ("column", "row"))
_NO_POSITION: Final = re.compile("min|max|local|fov|size|std|var|shift|offset|umap|tsne|pca|velocity|width|height")
"""In the name of a column with an x that says nothing of where a spot is on its slide."""
_POSITION_WORDS: Final = {
    *("spatial", "coords", "coord", "coordinates", "coordinate", "xy", "loc", "location", "locations", "position"),
    *("positions", "pos", "center", "centers", "centroid", "centroids", "pixel", "pixels", "px", "um", "global"),
    *("micron", "microns", "mm", "nm", "spatialcoords", "xyz", "d", "slide", "array"),
}
"""What names of ``obsm`` for positions are made of, after an ``X_`` in front."""
_DRAWINGS: Final = ("umap", "tsne", "t-sne", "draw_graph", "phate", "fa2")
"""Parts of the names of embeddings that were made to be looked at."""
_IN_TISSUE: Final = ("in_tissue", "intissue", "on_tissue", "tissue")
_INSIDE: Final = ("1", "1.0", "true", "t", "yes", "y", "in", "inside", "on", "")
_BESIDE: Final = ("0", "0.0", "false", "f", "no", "n", "out", "outside", "off", "not", "notin", "background")
"""What it says, in lower case, without spaces and the word tissue."""
_VALUES: Final = 100_000
SPOTS: Final = 20_000
"""Spots that are looked at."""
_FEW: Final = 0.05
_NEARER: Final = 0.9
"""Two spots of a slice are nearer than so much of the distance to the next that a few have."""
_MORE: Final = 3.0
_ENOUGH: Final = 5
_EVERYWHERE: Final = 0.8
_NO_DISTANCE: Final = 0.08
"""Of places at random, about a tenth of the pairs within a distance are within a third of it."""
_COINCIDENT: Final = 0.02
"""Share of spots at the place of another that one tissue does not have."""
_MOST_SLICES: Final = 50
_TOLD_APART: Final = 0.98
_OFTEN: Final = 0.9
"""Share of near spots that a column tells apart wherever they are, as one of many values does."""
_REPEATED: Final = 0.1
"""Share of names that are those of spots on another slice."""


def counts_elsewhere(adata: Annotated, *, besides: str | None = None) -> str | None:
    """Return the layer with raw counts, ``"raw"`` for ``adata.raw`` or ``"X"``; None where there are none."""
    for layer in sorted(adata.layers, key=lambda name: "count" not in str(name).lower()):
        if layer not in (besides, COUNTS) and look_like_counts(adata.layers[layer]):
            return str(layer)
    for name, matrix in ((RAW, None if genes_in_raw(adata) is None else adata.raw.X), (IN_X, adata.X)):
        if name != besides and look_like_counts(matrix):
            return name
    return None


def genes_in_raw(adata: Annotated) -> NDArray[np.intp] | None:
    """Return the columns of ``adata.raw`` with the genes of the data, (n_vars,); None where not all are there.

    Genes go by their names, or by other names that ``var`` of one of both has for them.
    """
    if adata.raw is None:
        return None
    if adata.raw.var_names.equals(adata.var_names):
        return np.arange(len(adata.var_names))
    ours, theirs = (
        [frame.index, *(pd.Index(frame[name]) for name in frame if frame[name].dtype.kind == "O")]
        for frame in (adata.var, adata.raw.var)
    )
    for names, known in itertools.product(ours, theirs):
        if names.is_unique and known.is_unique and (at := known.get_indexer(names)).min(initial=0) >= 0:
            return np.asarray(at)
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
    rows = rows.compute(scheduler="synchronous") if hasattr(rows, "compute") else rows
    values = np.asarray(rows.data if sparse.issparse(rows) else rows).ravel()
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
            numbers = _as_numbers(values)
            if numbers is None or not are_positions(adata, str(key), numbers):
                widths[str(key)] = shape[1]
    return dict(sorted(widths.items(), key=lambda item: item[0] != "X_pca"))


def _sounds_like_positions(key: str) -> bool:
    words = set(re.split("[^a-z]+", key.lower().removeprefix("x_"))) - {""}
    return bool(words) and words <= _POSITION_WORDS


def are_positions(adata: Annotated, key: str, values: NDArray[Any]) -> bool:
    """Whether values in ``obsm`` are the places of the observations rather than an embedding."""
    if key == SPATIAL:
        return True
    if values.ndim != 2 or not values.shape[1]:
        return False
    if values.shape[1] <= 3 and (_sounds_like_positions(key) or SPATIAL in key.lower()):
        return True
    xy = _as_numbers(adata.obsm[SPATIAL]) if SPATIAL in adata.obsm else None
    if xy is None or len(xy) != len(values) or not (np.isfinite(values).all() and np.isfinite(xy).all()):
        return False
    # In another unit, turned or mirrored: what straight lines explain. Embeddings are also stored in half precision.
    values = values.astype(np.float64)
    with np.errstate(all="ignore"):
        values, xy = values - values.mean(axis=0), xy - xy.mean(axis=0)
        size = np.abs(values).max(initial=0.0)
        if not 0 < size < np.inf:
            return False
        left = values / size - xy @ np.linalg.lstsq(xy, values / size, rcond=None)[0]
        return bool((left**2).sum() < 1e-4 * ((values / size) ** 2).sum())


def positions_elsewhere(adata: Annotated) -> tuple[str, Any] | None:
    """Return where positions are that are not in ``obsm["spatial"]``, as text, and x and y, (n, 2)."""
    for key, values in adata.obsm.items():
        if key != SPATIAL and _sounds_like_positions(str(key)):
            xy = table_of_positions(values) if isinstance(values, pd.DataFrame) else _as_numbers(values)
            if xy is not None and xy.ndim == 2 and xy.shape[1] in (2, 3) and np.isfinite(xy).all():
                return f"obsm[{key!r}]", xy
    for x, y in _pairs(adata.obs):
        numbers = _as_numbers(adata.obs[[x, y]])
        if numbers is not None and np.isfinite(numbers).all():
            if (x.lower(), y.lower()) in _GRID_COLUMNS and (numbers.sum(axis=1) % 2 == 0).all():
                numbers = numbers * [1, np.sqrt(3)]  # every other place: the hexagons of Visium
            return f"obs[[{x!r}, {y!r}]]", numbers
    return None


def table_of_positions(table: pd.DataFrame) -> NDArray[np.float64] | None:
    """Return the positions in a table, (n, d), by the names of its columns: some have y before x."""
    x, y = next(_pairs(table), ("", ""))
    return _as_numbers(table[[x, y]] if x else table)


def _pairs(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield pairs of columns that may hold x and y, the likeliest first."""
    columns = {str(name).lower(): str(name) for name in table}
    likely = sorted(name for name in columns if not _NO_POSITION.search(name))
    pairs = [(name, f"{name[:at]}y{name[at + 1 :]}") for name in likely for at in range(len(name)) if name[at] == "x"]
    for x, y in (*_POSITION_COLUMNS, *pairs, *_GRID_COLUMNS):
        if x in columns and y in columns:
            yield columns[x], columns[y]


def _as_numbers(values: Any) -> NDArray[np.float64] | None:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def beside_tissue(adata: Annotated) -> tuple[str, NDArray[np.bool_] | None]:
    """Return the column of ``obs`` that says which spots are in tissue, and those that it says lie beside it, (n,).

    The column is "" where there is none, the spots None where it does not tell.
    """
    columns = {str(name).lower(): str(name) for name in reversed(list(adata.obs))}
    for name in (columns[each] for each in _IN_TISSUE if each in columns):
        codes, values = pd.factorize(adata.obs[name])
        words = [re.sub("[^a-z0-9.]", "", str(value).lower()).removesuffix("tissue") for value in values]
        if (codes >= 0).all() and set(words) <= {*_INSIDE, *_BESIDE}:
            return name, np.isin(words, _BESIDE)[codes]
        if name.lower() != "tissue":  # which may be a kind of tissue
            return name, None
    return "", None


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


def column_of_repeats(adata: Annotated) -> str | None:
    """Return the column of ``obs`` that tells spots of one name apart; None where none does."""
    for column in (*slice_columns(adata), *few_valued_columns(adata)):
        names = pd.DataFrame({"spot": adata.obs_names, "slice": adata.obs[column].to_numpy()})
        if not names.duplicated().any():
            return column
    return None


def overlapping_slices(adata: Annotated, xy: NDArray[np.float64]) -> str | None:
    """Return the column of ``obs`` that tells slices apart whose places lie on top of each other."""
    for column in slice_columns(adata):
        codes, _ = pd.factorize(np.asarray(adata.obs[column]).astype(str))
        if overlap(xy, codes):
            return column
    one, other, distance = _nearest(xy)
    close = distance < 0.1 * spacing(xy)
    if at_random := close.mean() < _COINCIDENT:
        close = distance <= min(np.quantile(distance, _COINCIDENT), _NEARER * np.median(distance))
        if close.sum() < _ENOUGH:
            return None
    # Under any name, what tells slices apart differs wherever two spots are closest; a type of cells does not.
    for column in few_valued_columns(adata):
        codes, _ = pd.factorize(np.asarray(adata.obs[column]).astype(str))
        differ = codes[one] != codes[other]
        if differ[close].mean() > _TOLD_APART and not (at_random and differ.mean() > _OFTEN):
            return column
    return None


@once_per_place
def _nearest(xy: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return up to 20,000 spots, the nearest other one of each, and how far it is."""
    chosen = np.random.default_rng(0).permutation(len(xy))[:SPOTS]
    distances, near = cKDTree(xy, balanced_tree=False, compact_nodes=False).query(xy[chosen], k=2)
    itself = near[:, 0] == chosen
    return chosen, np.where(itself, near[:, 1], near[:, 0]), np.where(itself, distances[:, 1], distances[:, 0])


def share_coincident(xy: NDArray[np.float64]) -> float:
    """Return the share of spots at the place of another: in one tissue, spots and cells exclude each other."""
    return float((_nearest(xy)[2] < 0.1 * spacing(xy)).mean())


def slices_in_names(adata: Annotated, xy: NDArray[np.float64]) -> NDArray[Any] | None:
    """Return what is before or behind the names of spots, (n,), if that tells slices apart: ``AC-1`` and ``AC-2``.

    The rest of the names must repeat from slice to slice, which must lie on top of each other.
    """
    for end, pattern in ((1, r"^(.+)[-_.:#]([^-_.:#]+)$"), (0, r"^([^-_.:#]+)[-_.:#](.+)$")):
        for step in (max(1, adata.n_obs // 1000), 1):  # of many names some tell soon enough
            parts = adata.obs_names[::step].to_series().astype(str).str.extract(pattern)
            codes, groups = pd.factorize(parts[end])
            if (codes < 0).any() or not 1 < len(groups) <= _MOST_SLICES:
                break
        else:
            if parts[1 - end].duplicated().mean() > _REPEATED and overlap(xy, codes):
                return np.asarray(parts[end], dtype=object)
    return None


def overlap(xy: NDArray[np.float64], codes: NDArray[np.int64]) -> bool:
    """Whether groups, codes (n,), lie on top of each other, as slices that share an origin do.

    Spots of one tissue keep a distance, whatever their groups are; those of two slices know nothing of each other. So
    of all near pairs, no larger a share of those of two groups is very near than of those of one group, unless slices
    overlap, however small a part of them. Where spots keep no distance, groups that are mixed everywhere are slices.
    """
    chosen = np.random.default_rng(0).permutation(len(xy))[:SPOTS]
    everything = cKDTree(xy)
    groups = [(cKDTree(xy[codes == code]), xy[chosen[codes[chosen] == code]]) for code in np.unique(codes[chosen])]
    alone = np.concatenate([tree.query(places, k=2)[0][:, 1] for tree, places in groups])
    alone = alone[np.isfinite(alone)]
    if len(alone) < len(chosen) / 2:  # most are all there is of a group
        return False
    near = _NEARER * (float(np.quantile(alone, _FEW)) or spacing(xy))
    alike, others = np.zeros(2), np.zeros(2)  # pairs that are very near, and within three times that
    for tree, places in groups:
        within, of_all = (
            np.array([each.query_ball_point(places, r, return_length=True) for r in (near, 3 * near)])
            for each in (tree, everything)
        )
        alike += (within - 1).sum(axis=1)
        others += (of_all - within).sum(axis=1)
    shares = np.array([len(places) for _, places in groups]) / len(chosen)
    mixed = others[1] > _EVERYWHERE * (1 - (shares**2).sum()) * (others[1] + alike[1])
    if mixed and alike[0] > _NO_DISTANCE * alike[1]:
        return True
    expected = others[1] * (alike[0] + _ENOUGH) / (alike[1] + _ENOUGH)
    return bool(others[0] > _MORE * (expected + _ENOUGH))

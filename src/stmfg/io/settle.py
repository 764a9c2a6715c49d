"""Bringing an AnnData from a file into the form in which the folder of an instrument is read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse

from stmfg._core.hints import (
    beside_tissue,
    overlapping_slices,
    positions_elsewhere,
    slice_columns,
    slices_in_names,
    table_of_positions,
)
from stmfg._keys import SLICE, SPATIAL
from stmfg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

logger = logging.getLogger("stmfg")

_ENTRIES: Final = 500_000
"""Entries of a matrix moved at a time."""


def settle(adata: AnnData, path: Path) -> AnnData:
    """Give positions their usual place, spots a name of their own, and leave out what lies beside the tissue."""
    if SPATIAL not in adata.obsm and (elsewhere := positions_elsewhere(adata)):
        logger.warning("%s: obsm['spatial'] is missing; positions are taken from %s", path, elsewhere[0])
        adata.obsm[SPATIAL] = np.asarray(elsewhere[1], dtype=np.float64)
    places = adata.obsm.get(SPATIAL)
    if isinstance(places, pd.DataFrame) and (xy := table_of_positions(places)) is not None:
        adata.obsm[SPATIAL] = xy
    name_after_slices(adata, slice_columns(adata), path)
    _slices_of_names(adata, path)
    column, beside = beside_tissue(adata)
    if beside is None and column:
        values = ", ".join(map(str, adata.obs[column].unique()[:3]))
        logger.warning("%s: obs[%r] is not 1 or 0 everywhere (%s) and says nothing", path, column, values)
    if beside is None or not beside.any():
        return adata
    where = f"obs[{column!r}] is {adata.obs[column][beside].iloc[0]}"
    if beside.all():
        raise InputError(f"{path}: {where} for all {adata.n_obs} spots; correct that column or remove it")
    logger.warning("%s: %d of %d spots are not in tissue (%s) and are left out", path, beside.sum(), len(beside), where)
    return keep_rows(adata, ~beside)


def _slices_of_names(adata: AnnData, path: Path) -> None:
    """Write the slices that names of spots tell apart, such as ``ACGT-1`` and ``ACGT-2``, where no column does."""
    xy = np.asarray(adata.obsm.get(SPATIAL, np.zeros((0, 2))))
    if SLICE in adata.obs or xy.dtype.kind not in "iuf" or xy.ndim != 2 or len(xy) < 2 or not np.isfinite(xy).all():
        return
    slices = slices_in_names(adata, xy) if overlapping_slices(adata, xy) is None else None
    if slices is not None:
        adata.obs[SLICE] = pd.Categorical(slices)
        shown = ", ".join(map(repr, adata.obs[SLICE].cat.categories[:3]))
        logger.warning(
            "%s: spots with %s in their names overlap and are taken for slices (obs[%r])", path, shown, SLICE
        )


def keep_rows(adata: AnnData, keep: NDArray[np.bool_]) -> AnnData:
    """Return some observations of an AnnData that is not needed any more: large matrices are cut without a copy."""
    matrices = {key: _cut(value, keep) for key, value in adata.layers.items() if _is_rows(value)}
    counts = _cut(adata.X, keep) if _is_rows(adata.X) else None
    raw = adata.raw
    raw_counts = _cut(raw.X, keep) if raw is not None and _is_rows(raw.X) else None
    for key in matrices:
        del adata.layers[key]
    if counts is not None:
        adata.X = None
    if raw_counts is not None:
        del adata.raw
    part = adata[keep].copy()
    if counts is not None:
        part.X = counts
    if raw_counts is not None:
        part.raw = type(part)(raw_counts, obs=part.obs[[]], var=raw.var, varm=dict(raw.varm))
    for key, matrix in matrices.items():
        part.layers[key] = matrix
    return part


def _is_rows(matrix: Any) -> bool:
    return isinstance(matrix, (sparse.csr_matrix, sparse.csr_array))


def _cut(matrix: Any, keep: NDArray[np.bool_]) -> Any:
    """Return some rows of a sparse matrix, in its own memory: what is kept moves to the front."""
    lengths, starts = np.diff(matrix.indptr), matrix.indptr
    end, first = 0, 0
    while first < len(keep):
        last = max(first + 1, int(np.searchsorted(starts, starts[first] + _ENTRIES, side="right")) - 1)
        part = slice(starts[first], starts[last])
        kept = np.repeat(keep[first:last], lengths[first:last])
        stop = end + int(kept.sum())
        for array in (matrix.data, matrix.indices):
            array[end:stop] = array[part][kept]
        first, end = last, stop
    indptr = np.concatenate([starts[:1], np.cumsum(lengths[keep])]).astype(starts.dtype)
    arrays = (matrix.data[:end], matrix.indices[:end], indptr)
    return type(matrix)(arrays, shape=(int(keep.sum()), matrix.shape[1]))


def name_after_slices(adata: AnnData, columns: list[str], path: Path) -> None:
    """Put the slice behind names of spots that repeat, where a column makes them unique."""
    for column in columns if adata.obs_names.has_duplicates else []:
        if column in adata.obs:
            names = adata.obs_names.astype(str) + "_" + adata.obs[column].astype(str)
            if names.is_unique:
                logger.warning("%s: names of spots repeat; obs[%r] is put behind each", path, column)
                adata.obs_names = pd.Index(names.to_numpy(dtype=object))
                return

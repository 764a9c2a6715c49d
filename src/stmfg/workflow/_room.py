"""Whether the results of a run fit onto the disk: HDF5 ends the process where it finds it full as it closes a file."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
from scipy import sparse

from stmfg._core import checks
from stmfg._core.blocks import row_sums
from stmfg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

_ENTRY: Final = 8
"""Bytes of a count and its place."""
_PLACE, _TEXT = 1_500, 32
"""Bytes of an HDF5 file for each array and for each text, besides what they hold."""
_ASKED: Final = 100
"""Texts whose length tells that of all."""
_OF_SPOT, _OF_GENE = 700, 200
"""Bytes that a run adds to the AnnData: embedding, components and graph, and the model."""
_PAGE, _PAGE_OF_SPOT, _PAGE_OF_ENTRY = 500_000, 150, 1
"""Bytes of pictures, tables and report."""


def check_room(adata: AnnData, output: Path, layer: str | None = None, *, is_done: bool = False) -> None:
    """Check that the results fit into the file system of a folder: about, before a run, closely when it `is_done`.

    Raises
    ------
    InputError
        If they do not, before a run.
    OSError
        If they do not after it, as what writes would raise: the run can be continued.
    """
    entries = 0.0
    with suppress(InputError):  # there are no counts
        entries = float(row_sums(checks.counts(adata, layer))[0].sum())
    needed = _PAGE + _PAGE_OF_SPOT * adata.n_obs + _PAGE_OF_ENTRY * entries + _measure(adata, entries)
    needed += 0 if is_done else _OF_SPOT * adata.n_obs + _OF_GENE * adata.n_vars
    free = shutil.disk_usage(next(path for path in (output, *output.absolute().parents) if path.exists())).free
    if needed <= free:
        return
    problem = f"{output} has room for {free / 1e6:,.1f} MB, the results need about {needed / 1e6:,.1f} MB"
    if is_done:
        raise OSError(errno.ENOSPC, problem)
    raise InputError(f"output folder {problem}; make room or give another folder")


def _measure(adata: AnnData, entries: float) -> float:
    """Return about how many bytes the AnnData takes in a file; counts that lie on disk have so many entries."""
    names = ("X", "obs", "var", "uns", "layers", "obsm", "varm", "obsp", "varp")
    parts = [getattr(adata, name) for name in names] + ([] if adata.raw is None else [adata.raw.X, adata.raw.var])
    return sum(map(_count_bytes, parts)) + (_ENTRY * entries if hasattr(adata.X, "dask") else 0)


def _count_bytes(value: Any) -> float:
    if isinstance(value, Mapping):
        return _PLACE + sum(map(_count_bytes, value.values()))
    if isinstance(value, pd.DataFrame):
        return _count_bytes(value.index) + sum(_count_bytes(column) for _, column in value.items())
    if sparse.issparse(value):
        return float(sum(_PLACE + part.nbytes for part in (value.data, value.indices, value.indptr)))
    if hasattr(value, "dask"):  # on disk
        return 0
    kind = getattr(value, "dtype", None)
    if isinstance(kind, pd.CategoricalDtype):
        value = pd.Categorical(value)
        return _count_bytes(value.codes) + _count_bytes(value.categories)
    if isinstance(kind, pd.StringDtype) or (kind is not None and kind.kind == "O"):
        first = list(value[:_ASKED])
        return _PLACE + len(value) * (_TEXT + sum(len(str(text)) for text in first) / max(len(first), 1))
    return float(_PLACE + (value.nbytes if hasattr(value, "nbytes") else len(str(value))))

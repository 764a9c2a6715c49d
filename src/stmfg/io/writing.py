"""What of an AnnData can be written to a file: known before a long training, and read back after it."""

from __future__ import annotations

import logging
import warnings
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from stmfg.errors import InputError, reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmfg")

_KEYED = ("layers", "obsm", "varm", "obsp", "varp")


def make_writable(adata: AnnData) -> None:
    """Turn what no file holds as it is into what one does, in place: nullable strings, intervals, mixed types, dates.

    What has no form in a file is refused by its name.
    """
    for name in _KEYED:
        for key, value in getattr(adata, name).items():
            if not isinstance(key, str) or "/" in key:
                why = "in a file would be a folder" if isinstance(key, str) else "is no text"
                raise InputError(
                    f"{name} has the name {str(key)[:50]!r}, which {why}; "
                    f"rename it: adata.{name}[{str(key).replace('/', '_')!r}] = adata.{name}.pop({key!r})"
                )
            if isinstance(value, np.ndarray) and value.dtype.kind == "O" and (problem := _problem(value)):
                raise InputError(f"{name}[{key!r}] cannot be written ({problem}); remove it: del adata.{name}[{key!r}]")
    frames = {"obs": adata.obs, "var": adata.var} | ({} if adata.raw is None else {"raw.var": adata.raw.var})
    for name in ("obsm", "varm"):
        frames |= {f"{name}[{key!r}]": value for key, value in getattr(adata, name).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of types that will be written otherwise some day
        for where, frame in frames.items():
            if isinstance(frame, pd.DataFrame):
                _make_frame_writable(frame, where)
        for key in list(adata.uns):
            value = adata.uns.pop(key)
            adata.uns[str(key)] = _writable(value, f"uns[{key!r}]")


def _make_frame_writable(frame: pd.DataFrame, where: str) -> None:
    """Convert index and columns that cannot be written, in place."""
    if twice := frame.columns[frame.columns.duplicated()].tolist():
        raise InputError(f"{where} has the column {twice[0]!r} twice; rename or remove one of them")
    if isinstance(frame.index, pd.MultiIndex):
        frame.index = pd.Index(["_".join(map(str, name)) for name in frame.index])
    if not isinstance(frame.index.dtype, np.dtype) or frame.index.dtype.kind not in "OU":
        frame.index = pd.Index(frame.index.astype(str).to_numpy(dtype=object), name=frame.index.name)
    names = ["index_" if name == "_index" else str(name) for name in frame.columns]
    changed = {old: new for old, new in zip(frame.columns, names, strict=True) if old != new}
    if changed:
        logger.warning("%s: columns are written under other names: %s", where, changed)
        frame.columns = pd.Index(names)
    if frame.index.name in names or "/" in str(frame.index.name or 0) or not isinstance(frame.index.name, str):
        frame.index.name = None
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind in "iufb" and isinstance(column.dtype, np.dtype):
            continue
        tested = pd.Series(column.cat.categories) if isinstance(column.dtype, pd.CategoricalDtype) else column
        if _problem(tested.to_frame("x")) is None:
            continue
        text = pd.Categorical(column.astype(object).map(str, na_action="ignore"))
        if isinstance(column.dtype, pd.CategoricalDtype):
            text = column.cat.rename_categories([str(each) for each in column.cat.categories]).array
        if column.dtype != "string":
            logger.warning("%s[%r] is written as text: no file holds its type, %s", where, name, column.dtype)
        frame[name] = text


def _writable(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {str(key): _writable(inner, f"{where}[{key!r}]") for key, inner in value.items()}
    if isinstance(value, pd.DataFrame):
        value = value.copy()
        _make_frame_writable(value, where)
        return value
    if (isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "iufb") or isinstance(value, (str, float)):
        return value
    problem = _problem(value)
    if problem is None:
        return value
    for form in _forms(value):
        if _problem(form) is None:
            logger.warning("%s is written in another form: no file holds its type, %s", where, type(value).__name__)
            return form
    raise InputError(f"{where} cannot be written ({problem}); remove it: del adata.{where}")


def _forms(value: Any) -> Iterator[Any]:
    """Yield forms of a value that say the same."""
    arrays = (pd.Index, pd.Series, np.ndarray, pd.api.extensions.ExtensionArray)
    if isinstance(value, (tuple, list, set, frozenset, *arrays)):
        items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        if len({type(item) for item in items}) == 1 and np.isscalar(items[0]):
            yield np.asarray(items)
        yield np.array([str(item) for item in items], dtype=object)
    if sparse.issparse(value):
        yield sparse.csr_matrix(value)
    if isinstance(value, (int, pd.Interval, bytes, PurePath)) or hasattr(value, "isoformat"):
        yield str(value)


def _problem(value: Any) -> str | None:
    """Return why a value cannot be written to HDF5; None if it can."""
    import h5py
    from anndata.io import write_elem

    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        try:
            write_elem(file, "x", value)
        except Exception as error:  # of many kinds, as many as there are writers
            return reason(error)
    return None


def read_back(path: Path, adata: AnnData) -> None:
    """Check that a file can be read and is that of an AnnData; large matrices are not read."""
    import h5py
    from anndata.experimental import read_dispatched

    def element(read: Any, _: str, stored: Any, iospec: Any) -> Any:
        if iospec.encoding_type in ("csr_matrix", "csc_matrix"):
            return sparse.csr_matrix(tuple(stored.attrs["shape"]), dtype=np.float32)
        if iospec.encoding_type == "array" and stored.ndim == 2:
            return np.broadcast_to(np.float32(0), stored.shape)
        return read(stored)

    try:
        with warnings.catch_warnings(), h5py.File(path, "r") as file:
            warnings.simplefilter("ignore")
            again = read_dispatched(file, element)
        problem = ""
        for name in ("obs", "var", *_KEYED, "uns"):
            missing = sorted({str(k) for k in getattr(adata, name)} - {str(k) for k in getattr(again, name)})
            missing = [key for key in missing if "/" not in key]
            if missing:
                problem = f"{name}[{missing[0]!r}] is missing"
        if not again.obs_names.equals(adata.obs_names.astype(str)):
            problem = "the names of the spots differ"
    except Exception as error:
        problem = reason(error)
    if problem:
        raise InputError(
            f"{path.name} was written but cannot be read back ({problem}); look for unusual names in the input"
        )

"""Reading AnnData: h5ad files, and zarr stores of AnnData or SpatialData, zipped or not."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any, Final

from stmfg._core.blocks import BLOCK
from stmfg._keys import SPATIAL, SPATIALDATA
from stmfg.errors import InputError, MissingDependencyError
from stmfg.io import guard
from stmfg.io.spatialdata_elements import place_by_elements
from stmfg.io.tables import reading

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmfg")

UNDERSTOOD: Final = (
    "an .h5ad file, a .zarr store (AnnData or SpatialData) or the folder of an instrument, such as Space Ranger's outs"
)
_COUNTS: Final = ("X", "layers/counts")
_SHARE_OF_MEMORY: Final = 0.25
_CHECK: Final = "check that the copy is complete, or write it again with"
_BEST_TABLES: Final = ("square_016um", "square_008um", "table")
"""Tables to read of several: the bins of Visium HD that are read of its folder, and what SpatialData calls a table."""


def is_annotated(path: Path) -> bool:
    """Whether a file is AnnData in HDF5, whatever it is called."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return {"obs", "var"} <= set(file)


def read_h5ad(path: Path, lazy: bool | None) -> AnnData:
    """Read an h5ad file."""
    import anndata
    import h5py

    packed = path.suffix.lower() == ".gz"
    with reading(f"{path} as h5ad", f"{_CHECK} adata.write_h5ad"), guard.unpacked(path) as plain:
        with h5py.File(plain, "r") as file:
            if not {"obs", "var"} <= set(file):
                present = ", ".join(sorted(file)[:5]) or "nothing"
                raise InputError(f"{path} is HDF5 but not AnnData (it holds {present}); give {UNDERSTOOD}")
            on_disk = not packed and _on_disk(file, lazy)
            guard.fits(guard.hdf5(file), path, unread=_COUNTS if on_disk else ())
        # Open as long as its counts are in use.
        adata = _read_lazily(h5py.File(plain, "r")) if on_disk else anndata.read_h5ad(plain)
        guard.check_matrices(adata, path)
        return adata


def read_zarr(path: Path, lazy: bool | None) -> AnnData:
    """Read an AnnData zarr store, or a table of a SpatialData store, with the places of what it annotates."""
    if path.suffix.lower() != ".zip":
        return _read_store(path, path, lazy)
    # Images, by far the most of a store, stay in the file.
    with reading(str(path)), guard.unzipped(path, leave_out=("images/",)) as folder:
        stores = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]  # some zip the folder, some what is in it
        store = next((p for p in stores if any((p / name).exists() for name in ("obs", "tables"))), folder)
        return _read_store(store, path, lazy=False)


def _read_store(path: Path, shown: Path, lazy: bool | None) -> AnnData:
    """Read a store; messages name it as `shown`."""
    import anndata
    import zarr

    store = path.parent.parent if path.parent.name == "tables" else path
    if (path / "tables").is_dir():
        path = _table(path / "tables", shown)
    if not ((path / "obs").exists() and (path / "var").exists()):
        present = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise InputError(f"{shown} is zarr but not AnnData or SpatialData (it holds {present}); give {UNDERSTOOD}")
    with reading(f"{shown} as AnnData zarr", f"{_CHECK} adata.write_zarr"):
        sizes = guard.zarr_store(path)  # before any of it is understood
        group = zarr.open_group(path, mode="r")
        on_disk = _on_disk(group, lazy)
        guard.fits(sizes, shown, unread=_COUNTS if on_disk else ())
        adata = _read_lazily(group) if on_disk else anndata.read_zarr(path)
        guard.check_matrices(adata, shown)
    if SPATIAL not in adata.obsm and SPATIALDATA in adata.uns:
        place_by_elements(adata, store)
    return adata


def _table(tables: Path, shown: Path) -> Path:
    """Return the table of a SpatialData store that is read."""
    names = sorted(p.name for p in tables.iterdir() if p.is_dir())  # one zarr group a table
    if not names:
        raise InputError(f"{shown} is SpatialData without a table; give one with a table of expression counts")
    best = names[0] if len(names) == 1 else next((name for name in _BEST_TABLES if name in names), None)
    if best is None:
        which = (
            f"give one of them, e.g. {tables / names[0]}" if tables.is_relative_to(shown) else "unzip it and give one"
        )
        raise InputError(f"{shown} is SpatialData with several tables ({', '.join(names)}); {which}")
    if len(names) > 1:
        logger.warning(
            "%s has several tables (%s); %s is read, give the path of another to read that: %s",
            shown,
            ", ".join(names),
            best,
            shown / "tables" / next(n for n in names if n != best),
        )
    return tables / best


def _on_disk(group: Any, lazy: bool | None) -> bool:
    """Whether to leave the counts of an AnnData group on disk."""
    matrices = [group[name] for name in _COUNTS if name in group]
    sparse_rows = [m for m in matrices if m.attrs.get("encoding-type") == "csr_matrix"]
    if lazy is False or (lazy is None and not sparse_rows):
        return False
    installed = importlib.util.find_spec("dask") is not None
    if lazy:
        if not sparse_rows:
            raise InputError(
                "the counts are not sparse by rows (CSR), so they cannot be read in blocks; leave out lazy"
            )
        if not installed:
            raise MissingDependencyError('reading in blocks needs dask: pip install "stmfg[disk]"')
        return True
    size = sum(int(m["data"].size) * (m["data"].dtype.itemsize + m["indices"].dtype.itemsize) for m in sparse_rows)
    large = size > _SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if large and not installed:
        logger.warning('the counts take %.1f GB of memory; with "stmfg[disk]" they would stay on disk', size / 1e9)
    return large and installed


def _read_lazily(group: Any) -> AnnData:
    """Read all but sparse counts, which become dask arrays of blocks of rows."""
    from anndata.experimental import read_dispatched, read_elem_lazy

    def element(read: Any, name: str, stored: Any, iospec: Any) -> Any:
        if name.strip("/") in _COUNTS and iospec.encoding_type == "csr_matrix":
            return read_elem_lazy(stored, chunks=(BLOCK, stored.attrs["shape"][1]))
        return read(stored)

    adata: AnnData = read_dispatched(group, element)
    return adata

"""Reading AnnData: h5ad files, and zarr stores of AnnData or SpatialData, zipped or not."""

from __future__ import annotations

import importlib.util
import logging
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmfg._core.blocks import READ, memory
from stmfg._keys import SPATIAL, SPATIALDATA
from stmfg.errors import InputError, MissingDependencyError
from stmfg.io import guard
from stmfg.io.spatialdata_elements import place_by_elements
from stmfg.io.spatialdata_images import add_images
from stmfg.io.tables import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from anndata import AnnData

logger = logging.getLogger("stmfg")

UNDERSTOOD: Final = (
    "an .h5ad file, a .zarr store (AnnData or SpatialData) or the folder of an instrument, such as Space Ranger's outs"
)
_COUNTS: Final = ("X", "layers/counts")
_SHARE_OF_MEMORY: Final = 0.25
_LARGE_COUNTS: Final = 2**30
"""Bytes from which a run, that is asked for no AnnData, packs the counts tighter than scipy does."""
_LARGE_LAYER: Final = 2**26  # bytes
_CHECK: Final = "check that the copy is complete, or write it again with"
_METADATA: Final = re.compile(r"/(zarr\.json|\.z\w+)$")
_TABLES: Final = ("tables", "table")  # the second until 2024
_BEST_TABLES: Final = ("square_016um", "square_008um", "cell_segmentations", "table")
"""Tables to read of several: the bins of Visium HD that are read of its folder, and what SpatialData calls a table."""


def is_annotated(path: Path) -> bool:
    """Whether a file is AnnData in HDF5, whatever it is called."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return {"obs", "var"} <= set(file)


def is_zipped_store(path: Path) -> bool:
    """Whether a file is a zipped zarr store, whatever it is called."""
    if not path.is_file() or path.suffix.lower() != ".zip":
        return False
    if path.name.lower().endswith(".zarr.zip") or not zipfile.is_zipfile(path):
        return path.name.lower().endswith(".zarr.zip")
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(("zarr.json", ".zgroup")) for name in archive.namelist())


def read_h5ad(path: Path, lazy: bool | None, layers: Collection[str] | None = None) -> AnnData:
    """Read an h5ad file; of its large layers only some, the others stay on disk as counts do."""
    import anndata
    import h5py

    packed = path.suffix.lower() == ".gz"
    with reading(f"{path} as h5ad", f"{_CHECK} adata.write_h5ad"), guard.unpacked(path) as plain:
        with h5py.File(plain, "r") as file:
            if not {"obs", "var"} <= set(file):
                present = ", ".join(sorted(file)[:5]) or "nothing"
                raise InputError(f"{path} is HDF5 but not AnnData (it holds {present}); give {UNDERSTOOD}")
            sizes = guard.hdf5(file)
            on_disk = set() if packed else _on_disk(file, lazy, layers, sizes)
            guard.fits(sizes, path, unread=on_disk)
        # Open as long as what stays in it is in use.
        adata = _read_lazily(h5py.File(plain, "r"), on_disk) if on_disk else anndata.read_h5ad(plain)
        guard.check_matrices(adata, path)
        return adata


def read_zarr(path: Path, lazy: bool | None, layers: Collection[str] | None = None, *, images: bool = True) -> AnnData:
    """Read an AnnData zarr store as :func:`read_h5ad`, or a table of a SpatialData store with what it annotates."""
    if path.suffix.lower() != ".zip":
        return _read_store(path, path, lazy, layers, images=images)
    with reading(str(path)), tempfile.TemporaryDirectory(prefix="stmfg-") as name:
        folder = Path(name)
        # Images, by far the most of a store, stay in the file but for the one that is used.
        guard.unzip(path, folder, lambda member: "/images/" not in f"/{member}" or _METADATA.search(member) is not None)
        stores = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]  # some zip the folder, some what is in it
        store = next((p for p in stores if any((p / name).exists() for name in ("obs", *_TABLES))), folder)

        def fetch(array: Path) -> None:
            guard.unzip(path, folder, lambda member: (folder / member).is_relative_to(array))

        return _read_store(store, path, lazy=False, layers=None, images=images, fetch=fetch)


def _read_store(
    path: Path,
    shown: Path,
    lazy: bool | None,
    layers: Collection[str] | None,
    *,
    images: bool,
    fetch: Callable[[Path], None] | None = None,
) -> AnnData:
    """Read a store; messages name it as `shown`, and `fetch` unpacks the pixels of an image."""
    import anndata
    import zarr

    store = path.parent.parent if path.parent.name in _TABLES else path
    for folder in (path / name for name in _TABLES):
        if folder.is_dir():
            path = _table(folder, shown)
            break
    if not ((path / "obs").exists() and (path / "var").exists()):
        present = ", ".join(sorted(p.name for p in path.iterdir())[:5]) or "nothing"
        raise InputError(f"{shown} is zarr but not AnnData or SpatialData (it holds {present}); give {UNDERSTOOD}")
    with reading(f"{shown} as AnnData zarr", f"{_CHECK} adata.write_zarr"):
        sizes = guard.zarr_store(path)  # before any of it is understood
        group = zarr.open_group(path, mode="r")
        on_disk = _on_disk(group, lazy, layers, sizes)
        guard.fits(sizes, shown, unread=on_disk)
        adata = _read_lazily(group, on_disk) if on_disk else anndata.read_zarr(path)
        guard.check_matrices(adata, shown)
    if SPATIALDATA in adata.uns:
        systems = {}
        if SPATIAL not in adata.obsm:
            systems = place_by_elements(adata, store)
            known = np.isfinite(adata.obsm[SPATIAL]).all(axis=1)
            if known.any() and not known.all():
                logger.warning("%s: %d of %d have no element and are left out", shown, (~known).sum(), len(known))
                adata = adata[known].copy()
        if images:
            add_images(adata, store, shown, systems, fetch)
    return adata


def _table(tables: Path, shown: Path) -> Path:
    names = sorted(p.name for p in tables.iterdir() if p.is_dir())  # one zarr group a table
    if not names:
        raise InputError(f"{shown} is SpatialData without a table; give one with a table of expression counts")
    likely = [[name for name in names if f"_{name}".endswith(f"_{best}")] for best in _BEST_TABLES]
    best = names[0] if len(names) == 1 else next((fitting[0] for fitting in likely if len(fitting) == 1), None)
    if best is None:
        is_zipped = not tables.is_relative_to(shown)
        fix = "unzip it and give one" if is_zipped else f"give one of them, e.g. {tables / names[0]}"
        raise InputError(f"{shown} is SpatialData with several tables ({', '.join(names)}); {fix}")
    if len(names) > 1:
        several = f"{shown} has several tables ({', '.join(names)})"
        other = shown / "tables" / next(n for n in names if n != best)
        logger.warning("%s; %s is read, give the path of another to read that: %s", several, best, other)
    return tables / best


def _on_disk(group: Any, lazy: bool | None, layers: Collection[str] | None, sizes: dict[str, int]) -> set[str]:
    """Return the matrices of an AnnData group to leave on disk: the counts, and large layers besides those named."""
    installed = importlib.util.find_spec("dask") is not None
    every = [f"layers/{name}" for name in group.get("layers", ())]
    used = every if layers is None or not installed or lazy is not None else [f"layers/{name}" for name in layers]
    unused = {
        place
        for place in set(every) - set(used)
        if sum(size for key, size in sizes.items() if key == place or key.startswith(f"{place}/")) > _LARGE_LAYER
    }
    matrices = [group[name] for name in _COUNTS if name in group and name not in unused]
    sparse_rows = [m for m in matrices if m.attrs.get("encoding-type") == "csr_matrix"]
    if lazy is False or (lazy is None and not sparse_rows):
        return unused
    if not sparse_rows:
        raise InputError("the counts are not sparse by rows (CSR), so they cannot be read in blocks; leave out lazy")
    if lazy and not installed:
        raise MissingDependencyError('reading in blocks needs dask: pip install "stmfg[disk]"')
    if lazy:
        return set(_COUNTS)
    size = sum(int(m["data"].size) * (m["data"].dtype.itemsize + m["indices"].dtype.itemsize) for m in sparse_rows)
    large = size > _SHARE_OF_MEMORY * memory()
    if layers is not None and installed:
        large = large or size > _LARGE_COUNTS
    if large and not installed:
        logger.warning('the counts take %.1f GB of memory; with "stmfg[disk]" they would stay on disk', size / 1e9)
    return unused | set(_COUNTS) if large and installed else unused


def _read_lazily(group: Any, on_disk: set[str]) -> AnnData:
    """Read all but some matrices, which become dask arrays of blocks of rows."""
    from anndata.experimental import read_dispatched, read_elem_lazy

    def element(read: Any, name: str, stored: Any, iospec: Any) -> Any:
        if name.strip("/") in on_disk and iospec.encoding_type == "csr_matrix":
            matrix = read_elem_lazy(stored, chunks=(READ, stored.attrs["shape"][1]))
            matrix.stored = stored  # to be read, and written to a result, without a detour
            return matrix
        if name.strip("/") in on_disk - set(_COUNTS) and iospec.encoding_type == "array":
            return read_elem_lazy(stored, chunks=(READ, stored.shape[1]))
        return read(stored)

    adata: AnnData = read_dispatched(group, element)
    return adata

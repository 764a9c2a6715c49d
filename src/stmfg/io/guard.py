"""What a file from elsewhere must not do: lead out of itself, claim more than the memory, bring code."""

from __future__ import annotations

import gzip
import json
import math
import os
import stat
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy import sparse

from stmfg._core.blocks import check_indices, memory
from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from anndata import AnnData

_METADATA: Final = (".zarray", ".zmetadata", "zarr.json")
_UNSTORED: Final = 2**20
"""More bytes of an array, or pieces of a store, than this must be there."""
_PIECES_A_FILE: Final = 100
_COPY: Final = "ask for the file as it was written"
_AT_A_TIME: Final = 2**24
"""Bytes unpacked at a time."""


def regular(path: Path) -> Path:
    """Return a path that is a file or folder; a pipe or a device, which could be read for ever, is refused."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path} is neither a file nor a folder but a device or a pipe; {_COPY}")
    return path


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Give a file as it was before it was compressed: itself, or for a time a file in a temporary folder."""
    if path.suffix.lower() != ".gz":
        yield regular(path)
        return
    with tempfile.TemporaryDirectory(prefix="stmfg-") as folder, gzip.open(regular(path)) as source:
        plain = Path(folder) / path.stem
        with plain.open("wb") as target:
            while block := source.read(_AT_A_TIME):
                target.write(block)
                _fits_unpacked(target.tell(), path)
        yield plain


def unzip(path: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Unpack those files of a zip file into a folder whose names are wanted."""
    size = 0
    with zipfile.ZipFile(regular(path)) as archive:
        for member in archive.infolist():
            if member.is_dir() or not wanted(member.filename):
                continue
            # The size that is declared may be a lie: what comes out is counted.
            target = folder / member.filename
            if not os.path.abspath(target).startswith(f"{folder}{os.sep}"):  # noqa: PTH100 - ".." without links
                raise InputError(f"{path} holds {member.filename!r}, which leads out of it; {_COPY}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, target.open("wb") as file:
                while block := source.read(_AT_A_TIME):
                    file.write(block)
                    size += len(block)
                    _fits_unpacked(size, path)


def _fits_unpacked(size: int, path: Path) -> None:
    if size > memory():
        raise InputError(f"{path} is larger than the memory when it is unpacked; {_COPY}")


def hdf5(file: Any) -> dict[str, int]:
    """Check a HDF5 file before it is read, and return the bytes that each of its arrays would take.

    HDF5 can take values from any other file of the reader's, and can declare an array of any size without storing it.
    """
    import h5py

    sizes, links = {}, []
    file.id.links.visit(lambda name, link: links.append((name, link.type)), info=True)
    for name, kind in links:
        path = name.decode("utf-8", "replace")
        if kind == h5py.h5l.TYPE_EXTERNAL:
            raise InputError(f"{file.filename}: {path!r} is taken from another file; {_COPY}")
        node = file.get(name)
        if isinstance(node, h5py.Dataset):
            if node.is_virtual or node.external:
                raise InputError(f"{file.filename}: {path!r} is taken from another file; {_COPY}")
            sizes[path] = math.prod(node.shape or (0,)) * node.dtype.itemsize
            if sizes[path] > _UNSTORED and not node.id.get_storage_size():
                raise InputError(f"{file.filename}: {path!r} declares {sizes[path]:,} bytes and stores none; {_COPY}")
    return sizes


def zarr_store(path: Path) -> dict[str, int]:
    """Check a zarr store before it is read, as :func:`hdf5`; a codec that unpickles would run code."""
    root, sizes, pieces, stored = path.resolve(), {}, {}, 0
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            entry = os.path.join(folder, name)  # noqa: PTH118 - a store may hold a million chunks
            mode = os.lstat(entry).st_mode
            if stat.S_ISLNK(mode) and not os.path.realpath(entry).startswith(f"{root}{os.sep}"):
                raise InputError(f"{entry} is a link out of the store; {_COPY}")
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                raise InputError(f"{entry} is neither a file nor a folder but a device or a pipe; {_COPY}")
        stored += len(names)
        inside = os.path.relpath(folder, path)
        for name in set(names) & set(_METADATA):
            with open(os.path.join(folder, name), "rb") as file:  # noqa: PTH118, PTH123
                metadata = json.load(file)
            for key, node in _nodes(metadata, "" if inside == "." else f"{inside}/"):
                if "pickle" in str(node.get("id", "")) or "pickle" in str(node.get("name", "")):
                    raise InputError(f"{folder} is pickled, which could run code when it is read; {_COPY}")
                is_array = "chunks" in node or "chunk_grid" in node  # other nodes have a shape among their attributes
                if is_array and isinstance(node.get("shape"), list):
                    sizes[key] = math.prod(map(int, node["shape"])) * _itemsize(node)
                    pieces[key] = _pieces(node)
    # Pieces of nothing but zeros are not stored, but every one is looked for.
    if sum(pieces.values()) > _UNSTORED + _PIECES_A_FILE * stored:
        raise InputError(f"{path} declares {sum(pieces.values()):,} pieces and stores {stored:,} files; {_COPY}")
    return sizes


def _nodes(node: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object of a JSON document with where it belongs; consolidated metadata name other arrays."""
    if isinstance(node, dict):
        yield key.strip("/").removesuffix("/.zarray"), node
        for name, value in node.items():
            known = name in ("metadata", "consolidated_metadata") or not isinstance(value, dict)
            yield from _nodes(value, key if known else f"{key}{name}/")
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value, key)


def _pieces(node: dict[str, Any]) -> int:
    grid = node.get("chunk_grid")
    chunks = grid["configuration"]["chunk_shape"] if isinstance(grid, dict) else node.get("chunks", node["shape"])
    return math.prod(-(-int(n) // max(int(c), 1)) for n, c in zip(node["shape"], chunks, strict=True))


def _itemsize(node: dict[str, Any]) -> int:
    """Return bytes an element takes in memory, by its declared type; 1 where that is unknown."""
    try:
        return np.dtype(node.get("dtype", node.get("data_type"))).itemsize
    except TypeError:
        return 1


def fits(sizes: dict[str, int], what: object, *, unread: Collection[str] = ()) -> None:
    """Check that arrays, by their sizes in bytes, fit into memory; groups in `unread` stay on disk."""
    size = sum(size for name, size in sizes.items() if not name.startswith(tuple(unread)))
    if size > memory():
        raise InputError(
            f"{what} would take {size / 1e9:,.0f} GB of memory, and there are {memory() / 1e9:,.0f}; "
            "leave out what is not needed, or use a larger machine"
        )


def check_matrices(adata: AnnData, what: object) -> None:
    """Check that the sparse matrices of an AnnData point nowhere outside of themselves."""
    matrices: list[tuple[str, Any]] = [("X", adata.X)]
    for name in ("layers", "obsm", "varm", "obsp", "varp"):
        matrices += [(f"{name}[{key!r}]", value) for key, value in getattr(adata, name).items()]
    if adata.raw is not None:
        matrices.append(("raw", adata.raw.X))
    for where, matrix in matrices:
        if sparse.issparse(matrix):
            check_indices(matrix, f"{what}: {where}")

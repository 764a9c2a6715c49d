"""Ways to change the structure of a HDF5 file."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from reliability.payloads import HUGE, NASTY, NUMBERS, Bomb, Random, canary, pick


def hdf5(path: Path, random: Random) -> None:
    """Change the structure of a HDF5 file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = pick(random, names)
        change = pick(
            random, [_retype, _reshape, _declare, _value, _attribute, _attribute, _rename, _relink, _drop, _add]
        )
        change(file, name, random)


def _values(node: Any) -> Any:
    return node[()] if isinstance(node, h5py.Dataset) else np.arange(3)


def _put(file: h5py.File, name: str, values: Any, attributes: dict[str, Any] | None = None, **options: Any) -> None:
    kept = dict(file[name].attrs) if attributes is None else attributes
    del file[name]
    file.create_dataset(name, data=values, **options)
    for key, value in kept.items():
        file[name].attrs[key] = value


def _retype(file: h5py.File, name: str, random: Random) -> None:
    values = np.asarray(_values(file[name]))
    kind: Any = pick(random, ["f8", "f2", "i8", "u1", "i1", "?", "S3", "c8", "str", "V8", "compound"])
    if kind == "str":
        _put(file, name, [str(v) for v in np.ravel(values)] or "", dtype=h5py.string_dtype())
    elif kind == "compound":
        _put(file, name, np.zeros(values.shape, [("a", "i4"), ("b", "S4")]))
    elif kind == "V8" or values.dtype.kind in "OVS":
        _put(file, name, np.zeros(values.shape, "V8" if kind == "V8" else "f4"))
    else:
        with np.errstate(all="ignore"):
            _put(file, name, values.astype(kind))


def _reshape(file: h5py.File, name: str, random: Random) -> None:
    values = np.asarray(_values(file[name]))
    shapes = [values[:0], values[..., None], np.ravel(values)[:1], np.concatenate([np.ravel(values)] * 2), values[:-1]]
    options = {"dtype": h5py.string_dtype()} if values.dtype.kind == "O" else {}
    _put(file, name, pick(random, shapes) if values.ndim else np.repeat(values, 4), **options)


def _declare(file: h5py.File, name: str, random: Random) -> None:
    """Declare far more than is written."""
    node = file[name]
    kept = dict(node.attrs)
    kind = node.dtype if isinstance(node, h5py.Dataset) else "f8"
    shape = pick(random, [(n,) for n in HUGE] + [(n, 2) for n in HUGE[:2]] + [(300, 10**9)])
    del file[name]
    file.create_dataset(name, shape, dtype=kind, chunks=tuple(min(s, 64) for s in shape))
    for key, value in kept.items():
        file[name].attrs[key] = value


def _value(file: h5py.File, name: str, random: Random) -> None:
    node = file[name]
    if not isinstance(node, h5py.Dataset) or not node.size:
        return
    values = np.array(node[()])
    flat = values.reshape(-1)
    at = random.integers(len(flat), size=int(pick(random, [1, 1, 10, len(flat)])))
    if values.dtype.kind in "OS":
        said = pick(random, NASTY).encode("utf-8", "replace").replace(b"\0", b"")
        flat[at] = said if values.dtype.kind == "O" or random.integers(2) else b"\xff\xfe"
        _put(file, name, values.reshape(node.shape), **({"dtype": node.dtype} if values.dtype.kind == "O" else {}))
    elif values.dtype.names:
        for field in values.dtype.names:
            if values.dtype[field].kind in "iu" and random.integers(2):
                flat[field][at] = np.iinfo(values.dtype[field]).max
        node[...] = values
    else:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flat[at] = np.array(pick(random, NUMBERS)).astype(values.dtype)
        node[...] = values


def _attribute(file: h5py.File, name: str, random: Random) -> None:
    node = file[pick(random, [name, "/"])]
    names = list(node.attrs)
    key = pick(random, names) if names and random.integers(4) else pick(random, ["encoding-type", "shape", "_index"])
    encodings = ["array", "csr_matrix", "csc_matrix", "dataframe", "dict", "categorical", "string-array", "awkward-array",
                 "nullable-integer", "rec-array", "raw", "anndata", "null", "numeric-scalar", "string"]  # fmt: skip
    value = pick(random, [*encodings, *encodings, "999.0", -1, np.array(HUGE[:2]), np.array([300, 10**9]), np.array([-1, 5]),
                          *[n for n in NASTY if n and "\0" not in n]])  # fmt: skip
    if random.integers(5):
        node.attrs[key] = value
    elif key in node.attrs:
        del node.attrs[key]


def _rename(file: h5py.File, name: str, random: Random) -> None:
    target = pick(random, [n for n in NASTY if n.strip("/. ")])
    parent = file[name].parent
    if target not in parent:
        parent.move(name.rpartition("/")[2], target)
    if "column-order" in parent.attrs:
        order = [str(n) for n in parent.attrs["column-order"]] + [target]
        parent.attrs["column-order"] = np.array(order, dtype=h5py.string_dtype())


def _relink(file: h5py.File, name: str, random: Random) -> None:
    shape = file[name].shape if isinstance(file[name], h5py.Dataset) else (3,)
    way = random.integers(5)
    if way == 4:
        del file[name]
        file.create_dataset(name, (20,), "u1", external=[("/etc/passwd", 0, 20)])
        return
    if way == 3:
        layout = h5py.VirtualLayout(shape or (1,), "f4")
        layout[...] = h5py.VirtualSource("/etc/passwd", "data", shape=shape or (1,))
        del file[name]
        file.create_virtual_dataset(name, layout)
        return
    del file[name]
    links = [h5py.ExternalLink("/etc/passwd", "/"), h5py.SoftLink("/" + name), h5py.SoftLink("/")]
    file[name] = links[way]


def _drop(file: h5py.File, name: str, random: Random) -> None:
    del file[name]


def _add(file: h5py.File, name: str, random: Random) -> None:
    place = pick(random, ["uns", "obsm", "obs", "var", "obsp", "layers", "extra"])
    group = file.require_group(place)
    blob = np.frombuffer(pickle.dumps(Bomb(canary(Path(file.filename)))), np.uint8)
    key = pick(random, [n for n in NASTY if n.strip("/. ")])
    if key not in group:
        group[key] = pick(random, [blob, np.void(blob.tobytes()), np.arange(3), np.bytes_(b"x")])

"""Ways to damage an input, and to hide something in it. Each takes a path inside the sandbox and changes it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from reliability.inputs import tissue, write_zarr

Random = np.random.Generator
MARK = "stmfgHacked"
"""What must never run, and never stand in a report outside of escaped text."""
NASTY = [
    f"<script>window.{MARK}=1</script>", f'"><img src=x onerror={MARK}()>', "{{7*7}}{% raw %}", "$\\frac{a$", "../../etc/passwd",
    "/etc/passwd", "..", ".", "", " ", "\t", "a\nb", "a\r\nb", "é漢字🧬", "\u202egnp.exe", "a" * 5000, "NaN", "None", "-0", "1e999",
    "=cmd|' /C calc'!A0", "';drop table", "%s%n", "\\", "a/b", "a//b/", "\ufeffx", "\x7f", "__class__", "con", "~",
]  # fmt: skip
NUMBERS = [np.nan, np.inf, -np.inf, -1.0, 0.5, 1e6, 1e18, 1e38, 1e308, 2.0**63, 5e-324]
HUGE = [10**9, 10**12, 2**62]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.target}'",)


def pick(random: Random, choices: Any) -> Any:
    """Return one of a sequence."""
    return choices[int(random.integers(len(choices)))]


# -- any file ------------------------------------------------------------------------------------------


def cut(path: Path, random: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(random.integers(len(data) + 1))])


def flip(path: Path, random: Random) -> None:
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    if len(data):
        at = random.integers(len(data), size=int(2 ** random.integers(8)))
        data[at] = random.integers(256, size=len(at))
    path.write_bytes(data.tobytes())


def blank(path: Path, random: Random) -> None:
    data = bytearray(path.read_bytes())
    start = int(random.integers(len(data) + 1))
    stop = min(len(data), start + int(2 ** random.integers(14)))
    data[start:stop] = pick(random, [b"\0", b"\xff", b" "]) * (stop - start)
    path.write_bytes(data)


def repeat(path: Path, random: Random) -> None:
    data = path.read_bytes()
    start = int(random.integers(len(data) + 1))
    path.write_bytes(data[:start] + data[start : start + 5000] + data[start:])


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, random: Random) -> None:
    path.unlink()


def folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, random: Random) -> None:
    target = pick(random, [path.name, "nowhere", "/etc/passwd", "/dev/zero", "/dev/random", "/", "/proc/self/mem"])
    path.unlink()
    path.symlink_to(target)


def pipe(path: Path, random: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def pickled(path: Path, random: Random) -> None:
    path.write_bytes(pickle.dumps(Bomb(_canary(path))))


def unreadable(path: Path, random: Random) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 3000))))


FILE: list[Callable[[Path, Random], None]] = [
    cut, cut, flip, flip, flip, blank, repeat, empty, remove, folder, link, pipe, pickled, unreadable,
]  # fmt: skip

# -- text ----------------------------------------------------------------------------------------------


def text(path: Path, random: Random) -> None:
    """Change cells, lines or the form of a table of text."""
    separator = "\t" if ".tsv" in path.name else "," if ".csv" in path.name else " "
    lines = path.read_text().splitlines()
    table = [line.split(separator) for line in lines]
    way = random.integers(9)
    row = int(random.integers(len(table)))
    column = int(random.integers(len(table[row])))
    if way <= 3:
        at = 0 if way == 3 else row
        table[at][column % len(table[at])] = pick(random, [*NASTY, *map(str, NUMBERS), *map(str, HUGE)])
    elif way == 4:
        for line in table:
            del line[column : column + 1]
    elif way == 5:
        table += table[row : row + 3]
    elif way == 6:
        del table[row : row + int(random.integers(1, len(table) + 1))]
    elif way == 7:
        random.shuffle(table[0])
    joined = "\n".join(pick(random, [";", "|"]).join(c) if way == 8 else separator.join(c) for c in table)
    path.write_bytes((joined + "\n").encode(pick(random, ["utf-8"] * 6 + ["utf-16", "latin-1"]), "replace"))


def json_text(path: Path, random: Random) -> None:
    """Change a value anywhere in a JSON file."""
    said = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(said)
    if not places:
        said = pick(random, [[], None, 7, "text"])
    else:
        node, key = pick(random, places)
        value = pick(
            random, [None, -1, 1e308, True, [], {}, 2**70, *HUGE, *NASTY, {"id": "pickle"}, [{"id": "pickle"}]]
        )
        if random.integers(5):
            node[key] = value
        elif isinstance(node, dict):
            node[pick(random, NASTY)] = node.pop(key)
        else:
            del node[key]
    path.write_text(json.dumps(said))


# -- HDF5 ----------------------------------------------------------------------------------------------


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
    blob = np.frombuffer(pickle.dumps(Bomb(_canary(Path(file.filename)))), np.uint8)
    key = pick(random, [n for n in NASTY if n.strip("/. ")])
    if key not in group:
        group[key] = pick(random, [blob, np.void(blob.tobytes()), np.arange(3), np.bytes_(b"x")])


# -- what is written in good form, and says something bad -----------------------------------------------


def annotated(path: Path, random: Random) -> None:
    """Write data with hostile names or impossible values, in good form."""
    adata = tissue(seed=int(random.integers(100)))
    for _ in range(int(random.integers(1, 4))):
        with suppress(Exception):  # nothing is left to change
            pick(random, HOSTILE)(adata, random)
    written = path.with_name("written")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_zarr(adata, written, int(random.integers(2, 4))) if path.is_dir() else adata.write_h5ad(written)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    written.rename(path)


def _gene_names(adata: AnnData, random: Random) -> None:
    adata.var_names = [pick(random, NASTY) + (str(i) if random.integers(2) else "") for i in range(adata.n_vars)]


def _spot_names(adata: AnnData, random: Random) -> None:
    adata.obs_names = [pick(random, NASTY) + str(i) for i in range(adata.n_obs)]


def _columns(adata: AnnData, random: Random) -> None:
    name = pick(random, [n for n in NASTY if n.strip("/. ") and "/" not in n] + ["stmfg_domain", "domain", "spot"])
    adata.obs[name] = pd.Categorical([pick(random, NASTY) for _ in range(adata.n_obs)])
    adata.uns[name + "_colors"] = [pick(random, [*NASTY, "red", "#12345"]) for _ in range(4)]


def _colours(adata: AnnData, random: Random) -> None:
    adata.uns["stmfg_domain_colors"] = [
        pick(random, ["red", f'red"><script>{MARK}</script>', "url(//x)"]) for _ in range(4)
    ]
    if random.integers(3) == 0:
        adata.uns["stmfg_domain_colors"] = pick(random, [3, "red", {"a": 1}])


def _positions(adata: AnnData, random: Random) -> None:
    xy = np.array(adata.obsm["spatial"])
    rows = random.integers(len(xy), size=int(pick(random, [1, 1, 50])))
    way = random.integers(8)
    if way < 3:
        xy[rows, int(random.integers(2))] = pick(random, NUMBERS)
    elif way == 3:
        xy[rows] = xy[0]
    elif way == 4:
        xy[:, 0] = 0
    elif way == 5:
        xy = xy * pick(random, [1e-300, 1e-30, 1e30, 1e200])
    else:
        forms = [xy[:, :1], np.hstack([xy, xy]), np.hstack([xy, xy[:, :1]]), xy.astype("f2"), xy.astype("i4"), xy.astype("S8"),
                 xy + 1j, pd.DataFrame(xy, index=adata.obs_names, columns=["x", "y"]).astype(str)]  # fmt: skip
        xy = pick(random, forms)
    adata.obsm["spatial"] = xy


def _counts(adata: AnnData, random: Random) -> None:
    X = adata.X.tocsr().astype(np.float32)
    way = random.integers(10)
    if way < 3:
        X.data[random.integers(len(X.data), size=int(pick(random, [1, 100])))] = pick(random, NUMBERS)
    elif way == 3:
        X = sparse.csr_matrix(X.shape, dtype=np.float32)
    elif way == 4:
        X = sparse.csr_matrix(X.multiply(random.random(X.shape[0])[:, None] < 0.05), dtype=np.float32)
    elif way == 5:
        X = sparse.csr_matrix(X.multiply(random.random(X.shape[1])[None] < 0.05), dtype=np.float32)
    elif way == 6:
        X = pick(random, [X.toarray(), X.tocsc(), X.toarray().astype(bool), X.astype(np.uint8), X.astype(np.int64)])
    elif way == 7:
        X.data[:] = pick(random, [1, 1e6, 1e9])
    elif way == 8:
        adata.layers["counts"] = X * pick(random, [-1, 0.3, 1])
    else:
        X[: X.shape[0] // 2] = X[0]
    adata.X = X


def _embedding(adata: AnnData, random: Random) -> None:
    """An embedding that may be asked for in place of counts."""
    values = random.normal(size=(adata.n_obs, int(pick(random, [1, 2, 20, 500]))))
    if random.integers(2):
        values[random.integers(len(values), size=int(pick(random, [1, 50])))] = pick(random, NUMBERS)
    values = values * pick(random, [1, 0, 1e-30, 1e18, 1e37])
    with np.errstate(all="ignore"):
        adata.obsm["X_rep"] = pick(
            random, [values, values.astype("f4"), values.astype("f2"), np.round(values), values.astype("S9")]
        )


def _earlier(adata: AnnData, random: Random) -> None:
    """What looks like an earlier result."""
    adata.uns["stmfg"] = pick(random, [{"params": "x", "left_out": [1]}, "text", {"n_domains": {"a": 1}}, 3])
    adata.obsm["X_stmfg"] = np.full((adata.n_obs, 2), np.nan)
    adata.obs["stmfg_domain"] = pick(random, NASTY)


def _graph(adata: AnnData, random: Random) -> None:
    n = adata.n_obs
    data = pick(random, [np.nan, -1.0, np.inf, 1.0, 0.0])
    graph = sparse.random_array((n, n), density=pick(random, [0.0, 0.001, 0.05]), rng=random, format="csr")
    graph.data[:] = data
    key = pick(random, ["spatial_connectivities", "stmfg_feature_connectivities"])
    adata.obsp[key] = pick(random, [graph, graph.toarray(), graph.tocsc(), graph.astype(bool)])


def _library(adata: AnnData, random: Random) -> None:
    images = [
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3)),
        np.zeros(3),
        np.full((4, 4), np.nan),
        np.array(["x"]),
        np.zeros((2, 2, 9)),
    ]
    factor = pick(random, [*NUMBERS, 0.0, "0.1", "x", np.array([1.0, 2.0])])
    one = {"images": {"hires": pick(random, images)}, "scalefactors": {"tissue_hires_scalef": factor}}
    one["scalefactors"]["spot_diameter_fullres"] = pick(random, [*NUMBERS, "x"])
    name = pick(random, [n for n in NASTY if n.strip("/. ") and "/" not in n])
    adata.uns["spatial"] = pick(
        random, [{name: one}, {name: one}, {name: "text"}, "text", {name: {"images": "x", "scalefactors": 1}}]
    )


def _few(adata: AnnData, random: Random) -> None:
    spots, genes = pick(random, [3, 4, 5, 20, 300]), pick(random, [0, 1, 2, 5, 100])
    adata._init_as_actual(adata[:spots, :genes].copy())


def _raw(adata: AnnData, random: Random) -> None:
    adata.raw = adata[:, :10].copy()
    adata.varm["x"] = random.random((adata.n_vars, 2))
    adata.layers[pick(random, ["stmfg_denoised", "counts"])] = pick(random, [adata.X.toarray(), adata.X.astype("f8")])


HOSTILE: list[Callable[[AnnData, Random], None]] = [
    _gene_names, _spot_names, _columns, _colours, _positions, _positions, _counts, _counts, _embedding, _embedding, _earlier, _graph, _library, _few, _raw,
]  # fmt: skip


def _canary(path: Path) -> Path:
    """Return where a payload would leave its mark: beside the input."""
    return next(p for p in path.parents if p.name.startswith("case-")) / "pwned"


def mutate(root: Path, random: Random) -> str:
    """Change the input in a folder, and say how."""
    source = next(root.glob("input*"))
    inside = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    done = []
    for _ in range(int(random.integers(1, 3))):
        if (
            source.suffix in {".h5ad", ".zarr"}
            and source.exists()
            and not (source / "tables").exists()
            and random.random() < 0.4
        ):
            try:
                annotated(source, random)
                done.append("annotated")
            except Exception as error:  # the library refuses to write that
                done.append(f"annotated failed ({type(error).__name__})")
                shutil.rmtree(root / "written", ignore_errors=True)
                (root / "written").unlink(missing_ok=True)
            inside = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
            continue
        here = [p for p in inside if p.is_file() and not p.is_symlink()]
        if not here:
            break
        path = pick(random, here)
        special: Callable[[Path, Random], None] | None = None
        if path.suffix in {".h5", ".h5ad", ".gef"}:
            special = hdf5
        elif path.suffix in {".json", ".xenium"} or path.name.startswith(".z"):
            special = json_text
        elif path.suffix in {".csv", ".tsv", ".mtx", ".txt"}:
            special = text
        change = special if special is not None and random.random() < 0.75 else pick(random, FILE)
        try:
            change(path, random)
        except Exception as error:  # the file was too damaged by the change before for this one
            done.append(f"{change.__name__} failed ({type(error).__name__})")
            continue
        done.append(f"{change.__name__} {path.relative_to(root)}")
    return ", ".join(done)

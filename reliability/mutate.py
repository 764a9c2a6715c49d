"""Ways to damage an input, and to hide something in it. Each takes a path inside the sandbox and changes it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reliability.mutate_annotated import annotated
from reliability.mutate_hdf5 import hdf5
from reliability.payloads import HUGE, NASTY, NUMBERS, Bomb, Random, canary, pick

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
    path.write_bytes(pickle.dumps(Bomb(canary(path))))


def unreadable(path: Path, random: Random) -> None:
    path.write_bytes(random.bytes(int(random.integers(1, 3000))))


FILE: list[Callable[[Path, Random], None]] = [
    cut, cut, flip, flip, flip, blank, repeat, empty, remove, folder, link, pipe, pickled, unreadable,
]  # fmt: skip

# -- text ----------------------------------------------------------------------------------------------


def text(path: Path, random: Random) -> None:
    """Change cells, lines or the form of a table of text."""
    separator = "\t" if ".tsv" in path.name or ".gem" in path.name else "," if ".csv" in path.name else " "
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


def _special(path: Path) -> Callable[[Path, Random], None] | None:
    """Return how a file of this kind is changed so that it can still be opened."""
    if path.suffix == ".gz":
        return packed
    if path.suffix in {".h5", ".h5ad", ".gef"}:
        return hdf5
    if path.suffix in {".json", ".geojson", ".xenium"} or path.name.startswith(".z"):
        return json_text
    return text if path.suffix in {".csv", ".tsv", ".mtx", ".txt", ".gem"} else None


def packed(path: Path, random: Random) -> None:
    """Change what is in a compressed file."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    try:
        (_special(plain) or flip)(plain, random)
        path.write_bytes(gzip.compress(plain.read_bytes()))
    finally:
        plain.unlink(missing_ok=True)


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
        special = _special(path)
        change = special if special is not None and random.random() < 0.75 else pick(random, FILE)
        try:
            change(path, random)
        except Exception as error:  # the file was too damaged by the change before for this one
            done.append(f"{change.__name__} failed ({type(error).__name__})")
            continue
        done.append(f"{change.__name__} {path.relative_to(root)}")
    return ", ".join(done)

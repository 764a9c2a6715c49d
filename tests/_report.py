"""A report as text, and the data of its map."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from _finished import run_record
from stmfg import report


def written(tmp_path: Path, adata: Any, **changes: Any) -> str:
    path = tmp_path / "report.html"
    report.write(adata, path, run=run_record(adata, **changes))
    return path.read_text(encoding="utf-8")


def map_data(text: str) -> dict[str, Any]:
    """Return the data of the map."""
    match = re.search(r'<script type="application/json" id="map-data">(.*?)</script>', text, flags=re.DOTALL)
    assert match
    return dict(json.loads(match[1]))


def texts(packed: str) -> list[str]:
    """Return packed names."""
    return [str(name) for name in json.loads(zlib.decompress(base64.b64decode(packed)))]


def gene_counts(page: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the counts of every gene that lies in the page, read as the page reads them."""
    data = map_data(page)
    index = data["genes"]
    names, starts = texts(index["names"]), index["starts"]
    sizes = unpacked(index["sizes"], "<u4").reshape(-1, 2)
    genes = {}
    for number, text in re.findall(r'<script type="text/plain" id="genes-(\d+)">(.*?)</script>', page):
        group = range(len(names))[slice(*[*starts, len(names)][int(number) :][:2])]
        rest = zlib.decompress(base64.b64decode(text))
        rows: list[list[np.ndarray[Any, Any]]] = [[], []]
        for kind in (0, 1):
            for gene in group:
                part, rest = rest[: sizes[gene, kind]], rest[sizes[gene, kind] :]
                rows[kind].append(numbers(part))
        assert not rest
        for gene, gaps, counts in zip(group, *rows, strict=True):
            genes[names[gene]] = np.zeros(data["n"])
            genes[names[gene]][np.cumsum(gaps + 1) - 1] = counts + 1
    return genes


def numbers(text: bytes) -> np.ndarray[Any, Any]:
    """Return numbers of which every 255 is a byte of its own."""
    values, sum_so_far = [], 0
    for byte in text:
        sum_so_far += byte
        if byte < 255:
            values.append(sum_so_far)
            sum_so_far = 0
    return np.array(values, dtype=int)


def unpacked(text: str, kind: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)

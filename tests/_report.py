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


def unpacked(text: str, kind: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)

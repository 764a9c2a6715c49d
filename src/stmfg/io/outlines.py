"""Centres of the outlines of cells in GeoJSON, which is read a cell at a time: such files have gigabytes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg.errors import InputError
from stmfg.io.tables import AGAIN, open_text, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SPACE: Final = re.compile(r"[\s,]*")
_CHARACTERS: Final = 2**20
_FARTHEST: Final = 1e12  # pixels
_LONGEST: Final = 2**26  # characters of one cell


def read_centres(path: Path) -> pd.DataFrame:
    """Read the centre of mass of every outline: x and y by the number of the cell.

    The features of the collection have the number as ``cell_id`` in ``properties``, and a polygon.
    """
    numbers, centres = [], []
    with reading(str(path)):
        for feature in _features(path):
            if feature.get("geometry") is None:
                continue  # a cell without an outline, of which the reader says how many there are
            try:
                about = feature["properties"]
                name = about["cell_id"] if "cell_id" in about else feature["id"]
                if isinstance(name, str):  # cellid_000000012-1
                    name = name.removesuffix("-1").rpartition("_")[2]
                numbers.append(int(name))
                centres.append(_centre(feature["geometry"]))
            except (KeyError, TypeError, IndexError) as error:
                raise InputError(f"{path}: cell {len(numbers) + 1} has no cell_id or no polygon; {AGAIN}") from error
    if not numbers:
        raise InputError(f"{path} has no outlines of cells; {AGAIN}")
    table = pd.DataFrame(np.array(centres), index=pd.Index(numbers), columns=["x", "y"])
    return table[~table.index.duplicated()]


def _features(path: Path) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    with open_text(path) as file:
        text = file.read(_CHARACTERS)
        at = text.find("[", text.find('"features"')) + 1 if '"features"' in text else 0
        if not at:
            raise InputError(f"{path} has no list of features; give the outlines that Space Ranger wrote")
        while True:
            at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
            if text.startswith("]", at):
                return
            try:
                feature, at = decoder.raw_decode(text, at)
            except json.JSONDecodeError:
                more = file.read(_CHARACTERS)
                if not more or len(text) - at > _LONGEST:
                    raise
                text, at = text[at:] + more, 0
                continue
            yield feature


def _centre(geometry: dict[str, Any]) -> tuple[float, float]:
    """Return the centre of mass of a polygon, or of the largest of several."""
    rings = [geometry["coordinates"][0]] if geometry["type"] == "Polygon" else [p[0] for p in geometry["coordinates"]]
    best, centre = -1.0, (np.nan, np.nan)
    for ring in rings:
        points = np.array(ring, dtype=np.float64)[:, :2]
        if not (np.abs(points) < _FARTHEST).all():
            raise TypeError("no place in an image")
        origin = points[0]
        x, y = (points - origin).T
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = cross.sum() / 2
        if abs(area) > best:
            best = abs(area)
            # Of a line, the mean of its points.
            weights = cross / (6 * area) if area else np.full(len(x), 1 / (2 * len(x)))
            middle = [float(((v + np.roll(v, -1)) * weights).sum()) for v in (x, y)]
            centre = (middle[0] + origin[0], middle[1] + origin[1])
    return centre

"""What the report's interactive map shows, packed small: whole numbers of one or two bytes, compressed.

Of very many spots a sample is packed.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import ndimage

from stmfg._core.geometry import spacing
from stmfg._core.spots import Spots
from stmfg._keys import PLATFORM, SPATIAL

SPOTS: Final = 500_000
"""Spots in the map at most; of more a sample of so many is shown."""
GENES: Final = 20
"""Marker genes that are listed to choose from, and told of every spot."""
_STEPS = 65_535  # of a position along the longer side: the largest number of two bytes
_SQUARE, _SQUARES = 4, 80  # spots in a square of the tissue, and squares along its longer side at most
_LETTERS = 16  # of a name on the map; the legend has all of them
_SPECK = 0.02  # share of a slice below which a domain is not named on it


def name_places(
    where: Spots, codes: NDArray[Any], k: int, slices: NDArray[Any] | None
) -> list[tuple[float, float, int]]:
    """Return where to name `k` domains, (x, y, domain): far from their borders and from the tissue's edge.

    On each of several slices those domains are named that take a fiftieth of it.
    """
    if not where.slices or slices is None:
        return _deepest(where.xy, codes, np.arange(k))
    places = []
    for number in np.unique(slices):
        xy, of_slice = where.xy[slices == number], codes[slices == number]
        shares = np.bincount(of_slice[of_slice >= 0], minlength=k) / len(xy)
        places += _deepest(xy, of_slice, np.flatnonzero(shares >= _SPECK))
    return places


def shorten(name: str) -> str:
    """Return a name as it is written on a map."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _deepest(xy: NDArray[np.float64], codes: NDArray[Any], named: NDArray[np.intp]) -> list[tuple[float, float, int]]:
    """Return a spot deep inside each domain.

    The tissue is cut into squares of a few spots, each of the domain that most of its spots are in; the deepest square
    of a domain is the one farthest from any other.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    squares = np.clip(np.sqrt(len(xy) / _SQUARE), 1, _SQUARES)
    side = max(float((high - low).max()) / squares, np.finfo(float).tiny)
    column, row = ((xy - low) / side).astype(np.intp).T
    height, width = int(row.max()) + 1, int(column.max()) + 1
    square = row * width + column
    counts = np.stack([np.bincount(square[codes == i], minlength=height * width) for i in named])
    most = np.where(counts.any(axis=0), counts.argmax(axis=0), -1).reshape(height, width)
    places = []
    for i, domain in enumerate(named.tolist()):
        depth = ndimage.distance_transform_edt(np.pad(most == i, 1))[1:-1, 1:-1].ravel()
        # Of squares equally deep, the one with most of its spots; a domain that rules no square still has one.
        best = int(np.lexsort((counts[i], depth))[-1])
        members = xy[codes == domain]
        middle = low + side * (np.array([best % width, best // width]) + 0.5)
        x, y = members[((members - middle) ** 2).sum(axis=1).argmin()].tolist()
        places.append((x, y, domain))
    return places


_UNITS: Final = {"micrometres": 1.0, "millimetres": 1000.0}
_VISIUM = 100.0  # micrometres from one spot of Visium to the next
_VISIUM_COLUMNS = 223  # the last of a capture area of 11 mm


def measure_unit(adata: AnnData, where: Spots) -> float | None:
    """Return how many micrometres a unit of the positions is, or None where nothing tells."""
    unit = adata.uns.get(PLATFORM, {}).get("unit") if isinstance(adata.uns.get(PLATFORM), Mapping) else None
    if unit in _UNITS:
        return _UNITS[unit]
    libraries = adata.uns.get(SPATIAL)
    entries = libraries.values() if isinstance(libraries, Mapping) else ()
    for library in entries:
        factors = library.get("scalefactors") if isinstance(library, Mapping) else None
        given = factors.get("microns_per_pixel") if isinstance(factors, Mapping) else None
        if isinstance(given, int | float) and 0 < given < math.inf:
            return float(given)
    # The grid of Visium: every second place of a row is empty, and those of the next row lie between.
    if {"array_row", "array_col"} <= set(adata.obs):
        row, column = (pd.to_numeric(adata.obs[name], errors="coerce") for name in ("array_row", "array_col"))
        if ((row + column) % 2 == 0).all() and column.max() <= _VISIUM_COLUMNS and not where.square:
            return _VISIUM / spacing(where.xy)
    return None


def scatter(plane: NDArray[np.float64]) -> Spots:
    """Return points of a plane (n, 2) as spots that fill a box a little wider than high, y upwards."""
    spread = np.maximum(np.ptp(plane, axis=0), np.finfo(float).tiny)
    xy = (plane - plane.min(axis=0)) / spread * (1.0, -0.8)
    return Spots(xy, float(np.clip(0.6 / np.sqrt(max(len(xy), 1)), 0.002, 0.02)))


def pack_places(
    where: Spots,
    chosen: NDArray[np.int64],
    names: Sequence[tuple[float, float, int]] = (),
    micrometres: float | None = None,
) -> dict[str, Any]:
    """Return the chosen spots on a fine grid, with everything else in its steps; `names` are (x, y, domain).

    `micrometres` is the size of a unit of the positions, where it is known.
    """
    left, top, right, bottom = where.bounds()
    scale = _STEPS / max(right - left, bottom - top)
    x, y = np.rint((where.xy[chosen] - (left, top)) * scale).astype("<u2").T
    return {
        "x": pack_bytes(x),
        "y": pack_bytes(y),
        "width": (right - left) * scale,
        "height": (bottom - top) * scale,
        "diameter": where.part(chosen).diameter * scale,
        "square": where.square,
        "spacing": spacing(where.xy[chosen]) * scale,
        "origin": None if where.slices else [left, top],
        "step": 1 / scale,
        "micrometres": micrometres and micrometres / scale,
        "names": [((x - left) * scale, (y - top) * scale, domain) for x, y, domain in names],
        "slices": [
            {"name": name, "box": [(a - b) * scale for a, b in zip(box, (left, top, left, top), strict=True)]}
            for name, box in where.slices.items()
        ],
    }


def pack_names(names: Sequence[Any]) -> str:
    """Return texts, deflated, in base 64."""
    return base64.b64encode(zlib.compress(json.dumps([str(name) for name in names]).encode(), 6)).decode("ascii")


def pack_bytes(values: NDArray[Any]) -> str:
    """Return the bytes of an array, little-endian, deflated, in base 64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")

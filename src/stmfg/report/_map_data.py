"""What the report's interactive map shows, packed small: whole numbers of one or two bytes, compressed.

The file stays small whatever the data: of very many spots a sample is packed, and the more spots, the fewer genes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stmfg._core.blocks import row_blocks, subsample
from stmfg._core.spots import Spots

if TYPE_CHECKING:
    import pandas as pd

SPOTS: Final = 500_000
"""Spots in the map at most; of more a sample of so many is shown."""
_GENES = 20  # at most: a list to choose from, not a data base
_GENE_BYTES = 4_000_000  # of all genes together, before compression
_NAMES = 20_000  # spots whose names are told; those of more would outweigh all the rest
_STEPS = 65_535  # of a position along the longer side: the largest number of two bytes
_LEVELS = 255
_TOP = 0.995  # quantile that has the strongest colour: a few extreme spots would leave all others pale
_SQUARE, _SQUARES = 4, 80  # spots in a square of the tissue, and squares along its longer side at most
_LETTERS = 16  # of a name on the map; the legend has all of them


def choose_spots(n: int) -> NDArray[np.int64]:
    """Return which of `n` spots the map shows, in order."""
    return subsample(n, SPOTS, 0)


def count_genes(n: int) -> int:
    """Return for how many genes `n` spots leave room."""
    return min(_GENES, _GENE_BYTES // max(n, 1))


def depth_and_expression(
    counts: Any, genes: Sequence[int], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the depth of every spot (n,), and log1p of counts at median depth (chosen spots, genes), in one pass."""
    depth = np.empty(counts.shape[0])
    values = np.empty((len(chosen), len(genes)), dtype=np.float32)
    for rows, block in row_blocks(counts):
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        first, last = np.searchsorted(chosen, (rows.start, rows.stop))
        values[first:last] = block[:, list(genes)][chosen[first:last] - rows.start].toarray()
    target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    values *= (target / np.maximum(depth[chosen], 1.0)).astype(np.float32)[:, None]
    return depth, np.log1p(values, out=values)


def name_places(where: Spots, domains: pd.Categorical[Any]) -> list[tuple[float, float, str]]:
    """Return where to write the name of each domain, (x, y, name): far from its borders and from the tissue's edge.

    The tissue is cut into squares of a few spots, each of the domain that most of its spots are in; the deepest square
    of a domain is the one farthest from any other.
    """
    xy, codes = where.xy, domains.codes
    low, high = xy.min(axis=0), xy.max(axis=0)
    squares = np.clip(np.sqrt(len(xy) / _SQUARE), 1, _SQUARES)
    side = max(float((high - low).max()) / squares, np.finfo(float).tiny)
    column, row = ((xy - low) / side).astype(np.intp).T
    height, width = int(row.max()) + 1, int(column.max()) + 1
    square = row * width + column
    counts = np.stack(
        [np.bincount(square[codes == i], minlength=height * width) for i in range(len(domains.categories))]
    )
    most = np.where(counts.any(axis=0), counts.argmax(axis=0), -1).reshape(height, width)
    places = []
    for i, name in enumerate(map(str, domains.categories)):
        depth = ndimage.distance_transform_edt(np.pad(most == i, 1))[1:-1, 1:-1].ravel()
        # Of squares equally deep, the one with most of its spots; a domain that rules no square still has one.
        best = int(np.lexsort((counts[i], depth))[-1])
        members = xy[codes == i]
        middle = low + side * (np.array([best % width, best // width]) + 0.5)
        x, y = members[((members - middle) ** 2).sum(axis=1).argmin()].tolist()
        places.append((x, y, name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"))
    return places


def scatter(plane: NDArray[np.float64]) -> Spots:
    """Return points of a plane (n, 2) as spots that fill a box a little wider than high, y upwards."""
    spread = np.maximum(np.ptp(plane, axis=0), np.finfo(float).tiny)
    xy = (plane - plane.min(axis=0)) / spread * (1.0, -0.8)
    return Spots(xy, float(np.clip(0.6 / np.sqrt(max(len(xy), 1)), 0.002, 0.02)))


def pack_places(
    where: Spots, chosen: NDArray[np.int64], names: Sequence[tuple[float, float, str]] = ()
) -> dict[str, Any]:
    """Return the chosen spots on a fine grid, with everything else in its steps; `names` are (x, y, text)."""
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
        "names": [((x - left) * scale, (y - top) * scale, text) for x, y, text in names],
        "slices": [
            {"name": name, "box": [(a - b) * scale for a, b in zip(box, (left, top, left, top), strict=True)]}
            for name, box in where.slices.items()
        ],
    }


def pack_genes(names: Sequence[str], expression: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return each gene in steps up to a high quantile of the spots that show it."""
    genes = []
    for name, values in zip(names, expression.T, strict=True):
        positive = values[values > 0]
        top = float(np.quantile(positive, _TOP)) if len(positive) else 1.0
        genes.append({"name": name, "top": top, "values": pack_shares(np.minimum(values / top, 1.0))})
    return genes


def pack_names(names: Sequence[Any]) -> list[str] | None:
    """Return the names of the spots, or None where they are too many."""
    return None if len(names) > _NAMES else [str(name) for name in names]


def pack_shares(values: NDArray[Any]) -> str:
    """Return numbers between 0 and 1 in steps of one byte."""
    return pack_bytes(np.rint(values * _LEVELS).astype(np.uint8))


def pack_bytes(values: NDArray[Any]) -> str:
    """Return the bytes of an array, little-endian, deflated, in base 64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")

"""What the report's interactive map shows, packed small: whole numbers of one or two bytes, compressed.

The file stays small whatever the data: of very many spots a sample is packed, and the more spots, the fewer genes.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stmfg._core.blocks import row_blocks, subsample
from stmfg._core.spots import Spots

SPOTS: Final = 500_000
"""Spots in the map at most; of more a sample of so many is shown."""
_GENES = 20  # at most: a list to choose from, not a data base
_GENE_BYTES = 4_000_000  # of all genes together, before compression
_NAMES = 20_000  # spots whose names are told; those of more would outweigh all the rest
_STEPS = 65_535  # of a position along the longer side: the largest number of two bytes
_LEVELS = 255
_TOP = 0.995  # quantile that has the strongest colour: a few extreme spots would leave all others pale


@dataclass(frozen=True)
class Expression:
    """Expression of a few genes in the spots of the map.

    Attributes
    ----------
    genes
        Names.
    values
        ``log1p`` of the counts at median depth, (spots of the map, genes).
    """

    genes: Sequence[str]
    values: NDArray[np.float32]


def sample(n: int) -> NDArray[np.int64]:
    """Return which of `n` spots the map shows, in order.

    Parameters
    ----------
    n
        Number of spots.
    """
    return subsample(n, SPOTS, 0)


def chosen_genes(ranked: Sequence[Sequence[int]], n: int) -> list[int]:
    """Return the genes of the map, best of every domain first, as many as `n` spots leave room for.

    Parameters
    ----------
    ranked
        Positions of the marker genes of every domain, best first.
    n
        Number of spots in the map.
    """
    longest = max((len(genes) for genes in ranked), default=0)
    by_rank = [genes[i] for i in range(longest) for genes in ranked if i < len(genes)]
    return list(dict.fromkeys(by_rank))[: min(_GENES, _GENE_BYTES // max(n, 1))]


def depth_and_expression(
    raw: Any, genes: Sequence[int], names: Sequence[str], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float64], Expression]:
    """Return the counts of every spot, and the expression of some genes in some spots, in one pass over the counts.

    Parameters
    ----------
    raw
        Raw counts (n, genes), in memory or on disk.
    genes
        Positions of the genes.
    names
        Their names.
    chosen
        Positions of the spots, sorted.
    """
    depth = np.empty(raw.shape[0])
    values = np.empty((len(chosen), len(genes)), dtype=np.float32)
    for rows, block in row_blocks(raw):
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        first, last = np.searchsorted(chosen, (rows.start, rows.stop))
        values[first:last] = block[:, list(genes)][chosen[first:last] - rows.start].toarray()
    target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    values *= (target / np.maximum(depth[chosen], 1.0)).astype(np.float32)[:, None]
    np.log1p(values, out=values)
    return depth, Expression(names, values)


def pack(
    where: Spots,
    embedding: NDArray[np.float64] | None,
    codes: NDArray[Any],
    *,
    confidence: NDArray[Any] | None = None,
    expression: Expression | None = None,
    names: NDArray[Any] | None = None,
    chosen: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the map as plain lists, numbers and text for JSON; arrays are little-endian, deflated and in base 64.

    Parameters
    ----------
    where
        All spots.
    embedding
        Positions (n, 2) of the second map, or None.
    codes
        Domain of each spot, from 0.
    confidence
        Confidence of each spot, 0 to 1, or None.
    expression
        Genes of the chosen spots, or None.
    names
        Name of each spot, or None.
    chosen
        The spots to show, from :func:`sample`.
    """
    n, m = len(where.xy), len(chosen)
    found: dict[str, Any] = {
        "n": m,
        "tissue": _cloud(where, chosen),
        "embedding": None,
        "codes": _bytes(codes[chosen].astype("<u2")),
        "confidence": None if confidence is None else _bytes(np.rint(confidence[chosen] * _LEVELS).astype(np.uint8)),
        "genes": [] if expression is None else _genes(expression),
        "names": None if names is None or n > _NAMES else [str(name) for name in names],
    }
    if embedding is not None:
        found["embedding"] = _cloud(scatter(embedding), chosen)
    return found


def scatter(embedding: NDArray[np.float64]) -> Spots:
    """Return points of a plane as spots that fill a box a little wider than high, y upwards.

    Parameters
    ----------
    embedding
        Positions (n, 2).
    """
    spread = np.maximum(np.ptp(embedding, axis=0), np.finfo(float).tiny)
    flat = (embedding - embedding.min(axis=0)) / spread * (1.0, -0.8)
    return Spots(flat, float(np.clip(0.6 / np.sqrt(max(len(flat), 1)), 0.002, 0.02)))


def _cloud(where: Spots, chosen: NDArray[np.int64]) -> dict[str, Any]:
    """Return positions on a fine grid, with everything else in its steps."""
    left, top, right, bottom = where.bounds()
    scale = _STEPS / max(right - left, bottom - top)
    x, y = np.rint((where.xy[chosen] - (left, top)) * scale).astype("<u2").T
    # Spots of a sample are drawn larger, so that the tissue is covered as it was.
    diameter = where.diameter * scale * np.sqrt(len(where.xy) / max(len(chosen), 1))
    return {
        "x": _bytes(x),
        "y": _bytes(y),
        "width": (right - left) * scale,
        "height": (bottom - top) * scale,
        "diameter": diameter,
        "square": where.square,
        "slices": [
            {"name": name, "box": [(a - b) * scale for a, b in zip(box, (left, top, left, top), strict=True)]}
            for name, box in where.slices.items()
        ],
    }


def _genes(expression: Expression) -> list[dict[str, Any]]:
    """Return each gene in steps up to a high quantile of the spots that show it."""
    found = []
    for name, values in zip(expression.genes, expression.values.T, strict=True):
        seen = values[values > 0]
        top = float(np.quantile(seen, _TOP)) if len(seen) else 1.0
        steps = np.rint(np.minimum(values / top, 1.0) * _LEVELS).astype(np.uint8)
        found.append({"name": str(name), "top": top, "values": _bytes(steps)})
    return found


def _bytes(values: NDArray[Any]) -> str:
    """Return the bytes of an array, deflated, in base 64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")

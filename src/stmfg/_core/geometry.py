"""Distances between spots."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Outcome = TypeVar("Outcome")

_KEPT = 8
_SAMPLE = 20_000  # spots whose neighbours are looked up; the median of more would be the same


def once_per_place(function: Callable[[NDArray[Any]], Outcome]) -> Callable[[NDArray[Any]], Outcome]:
    """Remember what a function makes of the last few positions: a run asks up to nine times for the same."""
    known: dict[Any, Outcome] = {}
    asking = threading.Lock()

    @wraps(function)
    def remembered(coordinates: NDArray[Any]) -> Outcome:
        content = hashlib.blake2b(coordinates.tobytes()).digest()  # a hundredth of what it saves
        key = coordinates.shape, coordinates.dtype.str, content
        with asking:
            if key not in known:
                if len(known) >= _KEPT:
                    known.pop(next(iter(known)))
                known[key] = function(coordinates)
            return known[key]

    return remembered


def sort_by(keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Return what ``np.lexsort`` does, (n,): the last key comes first, and mostly tells all apart by itself."""
    order = np.argsort(keys[-1], kind="stable")
    ordered = keys[-1][order]
    return order if (ordered[1:] != ordered[:-1]).all() else np.lexsort(keys)


def list_places(coordinates: NDArray[Any]) -> NDArray[Any]:
    """Return every position once, in order, (m, d): ``np.unique`` of rows takes several times as long."""
    ordered = coordinates[sort_by([*coordinates.T[::-1]])]
    is_new = np.ones(len(ordered), dtype=bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return np.asarray(ordered[is_new])


@once_per_place
def spacing(coordinates: NDArray[np.float64]) -> float:
    """Return the spot spacing: the typical distance of neighbouring spots, 1 where there is only one position.

    It is the median distance to the fourth nearest neighbour: the spacing of a square or hexagonal grid, and for cells
    in disorder, whose nearest neighbour is much closer, the grid of the same density.
    """
    distinct = list_places(coordinates)
    if len(distinct) < 2:
        return 1.0
    step = max(1, len(distinct) // _SAMPLE)
    # For a few look-ups, a tree that is not balanced is made in a third of the time.
    tree = cKDTree(distinct, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(distinct[::step], k=[min(5, len(distinct))])
    return float(np.median(distances))


def turn(points: NDArray[Any], n_axes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points (n, d), centred, along their widest principal axes, (n, at most n_axes), and all variances (d,)."""
    center = points.mean(axis=0, dtype=np.float64)
    starts = range(0, len(points), _SAMPLE)
    square = np.zeros((len(center), len(center)))
    for start in starts:
        part = points[start : start + _SAMPLE] - center
        square += part.T @ part
    variances, axes = np.linalg.eigh(square / max(len(points), 1))
    axes = axes[:, ::-1][:, :n_axes]
    # The sign of an eigenvector is free: fixed, so that a figure does not flip from one machine to the next.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    turned = np.empty((len(points), axes.shape[1]))
    for start in starts:
        turned[start : start + _SAMPLE] = (points[start : start + _SAMPLE] - center) @ axes
    return turned, variances[::-1]

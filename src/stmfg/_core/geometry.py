"""Distances between spots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAMPLE = 20_000  # spots whose neighbours are looked up; the median of more would be the same


def spacing(coordinates: NDArray[np.float64]) -> float:
    """Return the spot spacing: the typical distance of neighbouring spots, 1 where there is only one position.

    It is the median distance to the fourth nearest neighbour: the spacing of a square or hexagonal grid, and for cells
    in disorder, whose nearest neighbour is much closer, the grid of the same density.
    """
    distinct = np.unique(coordinates, axis=0)
    if len(distinct) < 2:
        return 1.0
    step = max(1, len(distinct) // _SAMPLE)
    # For a few look-ups, a tree that is not balanced is made in a third of the time.
    tree = cKDTree(distinct, balanced_tree=False, compact_nodes=False)
    distances, _ = tree.query(distinct[::step], k=[min(5, len(distinct))])
    return float(np.median(distances))

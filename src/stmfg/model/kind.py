"""Tell spots that are mixtures of cells from single cells, by what the data show without labels. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from stmfg._core.geometry import list_places
from stmfg.model import graphs
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_NEIGHBORS = 6
TOLERANCE = 0.15
REGULAR_SHARE = 0.75
"""On a grid that share of the spots has its nearest neighbour at the median distance, give or take the tolerance."""
N_COMPARED = 3
SPATIAL_SHARE = 0.5
"""Of mixtures, one of the leading components is at least that share as spatial as the most spatial factor."""


def holds_mixtures(
    components: NDArray[Any],
    best_autocorrelation: float,
    coordinates: NDArray[np.float64],
    libraries: NDArray[np.int64] | None = None,
) -> bool:
    """Return whether observations are mixtures of cells: a regular grid, and leading components that are spatial.

    Either alone is not enough: bins of the size of a cell lie on a grid, and cortical cells have spatial components.

    Parameters
    ----------
    components
        Principal components, decreasing in variance, (n, d).
    best_autocorrelation
        Autocorrelation of the most spatial factor.
    coordinates
        Positions, (n, 2) or (n, 3).
    libraries
        Slice of each observation, codes (n,).
    """
    if measure_regularity(coordinates, libraries) < REGULAR_SHARE:
        return False
    graph = graphs.spatial_graph(coordinates, n_neighbors=N_NEIGHBORS, libraries=libraries)
    return bool(measure_moran(components[:, :N_COMPARED], graph).max() >= SPATIAL_SHARE * best_autocorrelation)


def measure_moran(x: NDArray[Any], graph: Any) -> NDArray[np.float64]:
    """Return Moran's I of each column of x (n, d) on a graph (n, n) whose rows are weighted to one."""
    x = np.asarray(x, dtype=np.float64)
    x = x - x.mean(axis=0)
    degree = np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1e-12)
    return np.asarray((x * (graph @ x) / degree[:, None]).mean(axis=0) / np.maximum(x.var(axis=0), 1e-12))


def measure_regularity(coordinates: NDArray[np.float64], libraries: NDArray[np.int64] | None = None) -> float:
    """Return the share of the positions whose nearest neighbour is as far as the median one.

    1 on any grid, rotated, scaled, or with a part of it missing; about 0.15 where points are scattered independently,
    0.25 to 0.5 of cells, which keep a distance.
    """
    slices = [np.arange(len(coordinates))]
    if libraries is not None:
        slices = [np.flatnonzero(libraries == code) for code in np.unique(libraries)]
    regular, total = 0, 0
    for rows in slices:
        places = list_places(coordinates[rows])
        if len(places) < 2:
            continue
        tree, parts = cKDTree(places), np.array_split(places, -(-len(places) // graphs.BLOCK))
        distance = np.concatenate(list(map_in_order(lambda part: tree.query(part, 2)[0][:, 1], parts)))  # noqa: B023
        regular += int((np.abs(distance / np.median(distance) - 1) <= TOLERANCE).sum())
        total += len(places)
    return regular / max(total, 1)


def describe_spots(components: NDArray[Any], spread: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return components (n, d), plain and with rows of unit length, side by side, (n, 2 d).

    The second tell what a spot expresses without how much. Each is divided by its ``spread``; where that is empty, so
    that its first column has unit variance.
    """
    spread = spread if spread.size else measure_spread(components)
    return np.hstack([x / by for x, by in zip(_with_unit_rows(components), spread, strict=True)]).astype(np.float32)


def measure_spread(components: NDArray[Any]) -> NDArray[np.float64]:
    """Return the standard deviation of the first component, plain and with rows of unit length, (2,)."""
    return np.array([max(float(x[:, 0].std()), 1e-12) for x in _with_unit_rows(components)])


def _with_unit_rows(components: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.asarray(components, dtype=np.float64)
    return x, x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)

"""Does a measurement of the spots fall into separate groups? Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

DIP_LEVEL = 0.40
"""95 % quantile of sqrt(n) dip of uniform samples, the worst distribution with one mode."""
QUANTILES = 200
"""Quantiles of a factor in which separate modes are looked for."""


def find_joining_factors(factors: NDArray[np.float32], graph: csr_matrix) -> NDArray[np.bool_]:
    """Return which factors of a view show separate modes.

    Where counts say nothing about a border, only a gap in the view itself can tell a border from a place on a slope:
    a stain that fades across the tissue has none, nor has noise. A spot and its neighbours count as one observation.

    Parameters
    ----------
    factors
        Spatial factors of the view, (n, d).
    graph
        Spatial graph, CSR (n, n).

    Returns
    -------
    (d,).
    """
    n = len(factors)
    independent = n / (1 + graph.nnz / n)
    return np.array([measure_dip(column) * np.sqrt(independent) > DIP_LEVEL for column in factors.T], dtype=bool)


def measure_dip(values: NDArray[Any]) -> float:
    """Return the distance of a sample from the closest distribution with one mode (Hartigan and Hartigan 1985).

    Before the mode the distribution function of such a distribution is convex, and behind it concave.

    Parameters
    ----------
    values
        (n,).

    Returns
    -------
    Dip, 0 to 1/4.
    """
    level = (np.arange(QUANTILES) + 0.5) / QUANTILES
    x = np.quantile(values, level)
    dip = 1.0
    for mode in range(0, QUANTILES, 4):
        before = _distance_to_convex(x[: mode + 1], level[: mode + 1])
        behind = _distance_to_convex(-x[mode:][::-1], 1 - level[mode:][::-1])
        dip = min(dip, max(before, behind) / 2)
    return dip


def _distance_to_convex(x: NDArray[Any], rising: NDArray[Any]) -> float:
    """Largest distance of a rising curve from its greatest convex minorant."""
    hull = [0]
    for i in range(1, len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (rising[b] - rising[a]) * (x[i] - x[b]) < (rising[i] - rising[b]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return float((rising - np.interp(x, x[hull], rising[hull])).max())

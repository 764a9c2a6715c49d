"""Which domains touch, and how often they would by chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def count_contacts(
    graph: Any, codes: NDArray[np.integer[Any]], k: int, slices: NDArray[np.integer[Any]] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pairs of neighbours between every two domains, and how many chance would give.

    Chance, see :func:`stmfg.tl.adjacency`, is a mean that is exact; nothing is drawn. Links between slices do not
    count, nor do spots whose code is below 0. Returned are the observed pairs (k, k), each pair of neighbours once, and
    the expected ones for each domain (rows), NaN within it.
    """
    slices = np.zeros(len(codes), dtype=np.int64) if slices is None else slices
    linked = sparse.csr_array(graph) != 0
    pairs = sparse.triu(linked + linked.T, k=1).tocoo()
    counted = (slices[pairs.row] == slices[pairs.col]) & (codes[pairs.row] >= 0) & (codes[pairs.col] >= 0)
    one, other = pairs.row[counted], pairs.col[counted]
    touching = np.zeros((int(slices.max()) + 1, k, k), dtype=np.int64)
    np.add.at(touching, (slices[one], codes[one], codes[other]), 1)
    touching += touching.transpose(0, 2, 1)  # pairs within a domain are there twice now
    within = np.diagonal(touching, axis1=1, axis2=2) // 2
    sizes = np.zeros((len(touching), k))
    np.add.at(sizes, (slices[codes >= 0], codes[codes >= 0]), 1)
    n = sizes.sum(axis=1, keepdims=True)
    leaving = touching.sum(axis=2) - 2 * within
    expected = (leaving / np.maximum(n - sizes, 1)).T @ sizes
    np.fill_diagonal(expected, np.nan)
    observed = touching.sum(axis=0)
    np.fill_diagonal(observed, within.sum(axis=0))
    return observed, expected

"""Large data in parts: subsamples to fit on, and raw counts in blocks of rows, never copied as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK = 20_000
"""Rows worked on at a time."""


def subsample(n: int, at_most: int, random_state: int) -> NDArray[np.int64]:
    """Draw at most so many out of n, sorted; all of them where there are no more."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng(random_state).choice(n, at_most, replace=False))


def row_sums(matrix: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of the counts and of their squares in each row, each (n,)."""
    total, square = np.empty(matrix.shape[0]), np.empty(matrix.shape[0])
    for start in range(0, matrix.shape[0], BLOCK):
        block = matrix[start : start + BLOCK].astype(np.float64)
        total[start : start + BLOCK] = np.asarray(block.sum(axis=1)).ravel()
        block.data **= 2
        square[start : start + BLOCK] = np.asarray(block.sum(axis=1)).ravel()
    return total, square


class Counts:
    """The rows of a count matrix in another order.

    Parameters
    ----------
    matrix
        Raw counts, (observations, genes).
    order
        Rows to use, in order, (n,); all of them as they are when not given.
    """

    def __init__(self, matrix: sparse.csr_matrix, order: NDArray[np.int64] | None = None) -> None:
        self._matrix = matrix
        self._order = np.arange(matrix.shape[0]) if order is None else order
        self.shape = (len(self._order), matrix.shape[1])

    def rows(self, positions: NDArray[np.int64] | slice) -> sparse.csr_matrix:
        """Return some rows, given their positions in the order."""
        return self._matrix[self._order[positions]]

    def blocks(self) -> Iterator[tuple[slice, sparse.csr_matrix]]:
        """Yield all rows, a block at a time, with their positions."""
        for start in range(0, len(self._order), BLOCK):
            positions = slice(start, start + BLOCK)
            yield positions, self.rows(positions)

"""Two halves of the same data with independent noise: what one half shows can be tested on the other. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["split_embedding", "thin_counts"]


def thin_counts(counts: sparse.csr_matrix, random_state: int) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Deal every molecule to one of two halves with probability 1/2 (Neufeld et al. 2022, count splitting).

    The halves add up to the whole. Of Poisson counts they are independent given the truth.

    Parameters
    ----------
    counts
        Whole numbers, CSR (n, genes).
    random_state
        Seed.

    Returns
    -------
    Two CSR matrices (n, genes) of the counts' type.
    """
    rng = np.random.default_rng(random_state)
    first = rng.binomial(np.rint(counts.data).astype(np.int64), 0.5).astype(counts.data.dtype)

    def half(values: NDArray[Any]) -> sparse.csr_matrix:
        matrix = sparse.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape)
        matrix.eliminate_zeros()  # works in place, hence the copies
        return matrix

    second = counts.data - first
    return half(first), half(second)


def split_embedding(
    x: NDArray[np.float32], graph: sparse.csr_matrix, random_state: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split a given embedding into two halves of independent noise (Rasines and Young 2023, data fission).

    With noise e of the variance that a spot does not share with its neighbours (half the mean squared difference
    along edges: the nugget of the variogram), x + e and x - e are independent given the truth if x is Gaussian
    around it.

    Parameters
    ----------
    x
        (n, d).
    graph
        Spatial graph, CSR (n, n).
    random_state
        Seed.

    Returns
    -------
    Two arrays (n, d).
    """
    rows = np.repeat(np.arange(len(x)), np.diff(graph.indptr))
    nugget = np.zeros(x.shape[1])
    if len(rows):
        nugget = 0.5 * np.square(x[rows] - x[graph.indices], dtype=np.float64).mean(axis=0)
    noise = (np.random.default_rng(random_state).standard_normal(x.shape) * np.sqrt(nugget)).astype(np.float32)
    return x + noise, x - noise

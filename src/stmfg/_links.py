"""Links between slices: observations that are each other's nearest in expression. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray


def linked_slices(
    x: NDArray[Any], n_neighbors: int, libraries: NDArray[np.int64], *, slack: float = 0.0
) -> sparse.csr_matrix:
    """Link observations to their nearest in their own slice, and between slices to those nearest to each other.

    Mutual nearest neighbours (Haghverdi et al. 2018): a domain finds its like on another slice, and one without a like
    finds nothing, where plain nearest neighbours would be of whatever the other slice has.

    Parameters
    ----------
    x
        Points, (n, d).
    n_neighbors
        Neighbours looked for in all, an equal share of them in every slice.
    libraries
        Slice of each observation, codes (n,).
    slack
        A neighbour may be farther than the true one by that share.

    Returns
    -------
    Symmetric (n, n) matrix of ones, no diagonal.
    """
    slices = [np.flatnonzero(libraries == code) for code in np.unique(libraries)]
    trees = [cKDTree(x[rows]) for rows in slices]
    n_slices = len(slices)
    # No more partners than neighbours: of very many slices, each is linked to those that follow it in a ring.
    partners = min(n_slices - 1, n_neighbors)
    k = -(-n_neighbors // (partners + 1))

    def nearest(one: int, other: int, k: int) -> sparse.csr_matrix:
        k = min(k, len(slices[other]))
        _, found = trees[other].query(x[slices[one]], np.arange(1, k + 1), eps=slack, workers=-1)
        indptr = np.arange(0, found.size + 1, k)
        shape = (len(slices[one]), len(slices[other]))
        return sparse.csr_matrix((np.ones(found.size, dtype=np.float32), found.ravel(), indptr), shape=shape)

    pairs = []
    for one in range(n_slices):
        for other in {(one + step) % n_slices for step in range(partners + 1)}:
            found = nearest(one, other, k + 1 if one == other else k)  # the nearest of its own slice is itself
            if one != other:
                found = found.minimum(nearest(other, one, k).T.tocsr())
            rows, columns = found.nonzero()
            pairs.append(np.stack([slices[one][rows], slices[other][columns]]))
    rows, columns = np.concatenate(pairs, axis=1)
    n = len(x)
    graph = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n, n))
    graph = sparse.csr_matrix(graph.maximum(graph.T) != 0, dtype=np.float32)
    graph.setdiag(0)
    graph.eliminate_zeros()
    graph.sort_indices()
    return graph

"""Which domains touch, and how often they would by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray


def count_contacts(
    graph: Any, codes: NDArray[np.integer[Any]], k: int, slices: NDArray[np.integer[Any]] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pairs of neighbours between every two domains, and how many chance would give.

    Chance shuffles the labels outside a domain, within each slice. Of the :math:`c_i` pairs of neighbours that join
    domain i to the rest of a slice of n spots, :math:`c_i n_j / (n - n_i)` then lead to domain j. Shuffling all labels
    would say of compact domains, which have few borders, only that they are compact. Within domain i, where there is
    nothing outside to shuffle, chance deals out all labels: :math:`m n_i (n_i - 1) / (n (n - 1))` of the m pairs of the
    slice, the join count under nonfree sampling (Cliff and Ord 1981). The means are exact; nothing is drawn.

    Parameters
    ----------
    graph
        Spatial graph (n, n), sparse; who is linked is a neighbour, whatever the weight.
    codes, k
        Domain of each spot, from 0, below 0 where it has none and does not count; number of domains.
    slices
        Slice of each spot, codes from 0; links between slices do not count.

    Returns
    -------
    Observed pairs (k, k), each pair of neighbours once, and expected ones for each domain (rows).
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
    n, m = sizes.sum(axis=1, keepdims=True), touching.sum(axis=(1, 2))[:, None] / 2
    leaving = touching.sum(axis=2) - 2 * within
    expected = (leaving / np.maximum(n - sizes, 1)).T @ sizes
    np.fill_diagonal(expected, (m * sizes * (sizes - 1) / np.maximum(n * (n - 1), 1)).sum(axis=0))
    observed = touching.sum(axis=0)
    np.fill_diagonal(observed, within.sum(axis=0))
    return observed, expected

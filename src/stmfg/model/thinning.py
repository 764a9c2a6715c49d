"""Two halves of the same data with independent noise: what one half shows can be tested on the other. Arrays only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import ndtri

from stmfg._core.blocks import FIT_AT_MOST, Counts, OnDisk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from stmfg._core.blocks import Block, Rows
    from stmfg._core.tissue import Tissue

    Keys = NDArray[np.uint64]

__all__ = ["Half", "split_embedding", "take_half", "thin_counts"]

_WORD = 64
_LARGE = 4096
_MASKS = np.append(np.uint64(0), np.uint64(2**64 - 1) >> np.arange(_WORD - 1, -1, -1, dtype=np.uint64))
"""As many ones as the place says."""
_AT_ONCE = 2**15
"""So many stay in the cache."""


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


class Half(Counts):
    """One of two halves of the molecules, dealt while rows are read: nothing but blocks is ever in memory.

    To which half a molecule goes depends on the seed and on the names of its spot and gene alone. Spots and genes can
    thus be left out, or come in another order, and the halves of the others stay what they were.

    Parameters
    ----------
    counts
        The whole (n, genes), of all genes of the matrix.
    spots, genes
        Names, (n,) and (genes,), or of spots what :func:`number_names` made of them.
    random_state
        Seed.
    other
        Which half: False the first, True what it leaves.
    """

    def __init__(self, counts: Counts, spots: Any, genes: Any, random_state: int, *, other: bool = False) -> None:
        self._whole, self.shape, self._other = counts, counts.shape, other
        seed = _mix(np.array([random_state], dtype=np.uint64))
        self._spots = spots if isinstance(spots, np.ndarray) and spots.dtype == np.uint64 else number_names(spots)
        self._columns = _mix(number_names(genes) ^ seed)

    @classmethod
    def of_matrix(cls, matrix: sparse.csr_matrix | OnDisk, *names_and_seed: Any, other: bool = False) -> Half:
        """Return a half of a matrix as it is."""
        return cls(Counts(matrix), *names_and_seed, other=other)

    def rows(self, positions: Rows) -> sparse.csr_matrix:
        """Return some rows of the half, given their positions in the order."""
        return self._deal(self._whole.rows(positions), self._spots[positions])

    def parts(self) -> Iterator[Block]:
        """Yield rows of the whole to be dealt."""
        return self._whole.parts()

    def finish(self, positions: NDArray[np.int64], block: sparse.csr_matrix) -> Block:
        """Return what a part of the whole leaves in the half."""
        positions, block = self._whole.finish(positions, block)
        return positions, self._deal(block, self._spots[positions])

    def _deal(self, block: sparse.csr_matrix, spots: Keys) -> sparse.csr_matrix:
        with np.errstate(over="ignore"):
            keys = np.repeat(spots, np.diff(block.indptr)) + self._columns[block.indices]
        whole = np.rint(block.data).astype(np.int64)
        first = _half_of(whole, keys)
        values = (whole - first if self._other else first).astype(block.data.dtype)
        half = sparse.csr_matrix((values, block.indices.copy(), block.indptr.copy()), shape=block.shape)
        half.eliminate_zeros()
        return half


def _half_of(whole: NDArray[np.int64], keys: Keys) -> NDArray[np.int64]:
    """Draw from binomial distributions with probability 1/2: count the ones among as many random bits.

    Of thousands of bits the number is drawn from the normal distribution that it then has.
    """
    drawn = np.empty(len(whole), dtype=np.int64)
    for start in range(0, len(whole), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        drawn[part] = np.bitwise_count(_mix(keys[part]) & _MASKS[np.minimum(whole[part], _WORD)])
    large = np.flatnonzero(whole > _LARGE)
    if len(large):
        share = (_mix(keys[large]).astype(np.float64) + 0.5) / 2.0**64
        normal = whole[large] / 2 + np.sqrt(whole[large]) / 2 * ndtri(np.clip(share, 1e-12, 1 - 1e-12))
        drawn[large] = np.rint(normal).astype(np.int64)
    more = np.flatnonzero((whole > _WORD) & (whole <= _LARGE))
    if len(more):
        drawn[more] += _half_of(whole[more] - _WORD, _mix(keys[more]))
    return drawn


def number_names(names: Any) -> Keys:
    """Return a number for every name; names that repeat are told apart by how often they came before."""
    names = pd.Series(np.asarray(names, dtype=object).astype(str))
    keys = pd.util.hash_array(names.to_numpy(dtype=object))
    return _mix(keys ^ names.groupby(names, sort=False).cumcount().to_numpy(np.uint64))


def _mix(x: Keys) -> Keys:
    """Scramble 64 bits (SplitMix64; Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def take_half(spots: Tissue, random_state: int, *, other: bool = False) -> Tissue:
    """Return the observations with one half of the molecules; it and the ``other`` add up to the whole."""
    if spots.counts is not None:
        half: Counts = Half(spots.counts, spots.names, spots.genes, random_state, other=other)
        if half.shape[0] <= FIT_AT_MOST:
            half = Counts(half.rows(slice(None)))  # read twice, dealt once
        return replace(spots, counts=half)
    if spots.representation is None:
        raise ValueError("there is nothing to take half of")
    return replace(spots, representation=split_embedding(spots.representation, spots.surroundings, random_state)[other])


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

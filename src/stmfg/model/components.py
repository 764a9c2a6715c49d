"""Principal axes of sparse values, of one slice or of several: centred in products only. Arrays only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from stmfg._core.blocks import BLOCK
from stmfg.model import offsets as _offsets
from stmfg.model.threads import multiply

DENSE_COVARIANCE = 1000
"""Up to so many genes the principal axes come from the covariance matrix, beyond from a Krylov space."""
KRYLOV_BLOCK = 20
KRYLOV_STEPS = 16
"""For 60 axes; fewer axes take fewer."""


@dataclass(frozen=True)
class Middle:
    """What to take off each row to centre it: one mean (genes,), or that of its slice, (n_slices, genes).

    Taken off products, not the matrix itself, which stays sparse.
    """

    mean: NDArray[Any]
    libraries: NDArray[np.int64] | None = None

    def __truediv__(self, scale: NDArray[np.float64]) -> Middle:
        return Middle(self.mean / scale, self.libraries)

    def off(self, product: NDArray[Any], block: NDArray[Any]) -> NDArray[Any]:
        """Return what is left of x @ block when the rows of x are centred."""
        shift = self.mean @ block
        return np.asarray(product - (shift if self.libraries is None else shift[self.libraries]))

    def off_transposed(self, product: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Return what is left of x.T @ y when the rows of x are centred."""
        if self.libraries is None:
            return np.asarray(product - np.outer(self.mean, y.sum(axis=0)))
        sums = _offsets.means(y, self.libraries) * np.bincount(self.libraries)[:, None]
        return np.asarray(product - self.mean.T @ sums.astype(y.dtype))

    def covariance(self, n: int) -> NDArray[np.float64]:
        """Return what the means add to x.T @ x, (genes, genes)."""
        if self.libraries is None:
            return np.asarray(n * np.outer(self.mean, self.mean))
        return np.asarray((self.mean.T * np.bincount(self.libraries)) @ self.mean)

    def rows(self) -> NDArray[Any]:
        """Return the mean of every row, (n, genes), or of all alike, (genes,)."""
        return self.mean if self.libraries is None else np.asarray(self.mean[self.libraries])


def principal_axes(x: sparse.csr_matrix, center: Middle, n_components: int, random_state: int) -> NDArray[np.float64]:
    """Leading principal axes of values (n, genes) that are sparse and not yet centred.

    Orthonormal loadings, (genes, at most n_components); ``random_state`` seeds the starting vectors.
    """
    n, genes = x.shape
    k = min(n_components, n - 1, genes - 1)
    if k < 1:
        return np.eye(genes)
    if genes > DENSE_COVARIANCE and 2 * k >= n:  # a few spots of many genes
        return np.asarray(linalg.svd(x.toarray() - center.rows(), full_matrices=False)[2][:k].T)
    if genes <= DENSE_COVARIANCE:
        covariance = np.zeros((genes, genes))
        for start in range(0, n, BLOCK):
            block = x[start : start + BLOCK].toarray()
            covariance += block.T @ block
        covariance -= center.covariance(n)
        return np.asarray(linalg.eigh(covariance, subset_by_index=[genes - k, genes - 1])[1][:, ::-1])
    return _block_krylov(x, Middle(center.mean.astype(np.float32), center.libraries), k, random_state)


def _block_krylov(x: sparse.csr_matrix, center: Middle, k: int, random_state: int) -> NDArray[np.float64]:
    """Leading principal axes by a block Krylov space of the covariance (Musco and Musco 2015, algorithm 2).

    A block of vectors shares each pass over the data, so this takes a third of the time of ARPACK, which goes
    vector by vector. The centring is implicit. Axes of well separated components are exact; the last of
    ``k`` where the spectrum is flat are some of many that explain as much.
    """
    transposed = x.T.tocsr()  # once: as a view, its products take longer
    block = np.random.default_rng(random_state).standard_normal((x.shape[1], max(KRYLOV_BLOCK, k // 3)))
    block = np.linalg.qr(block.astype(np.float32))[0]
    space = [block]
    steps = math.ceil(KRYLOV_STEPS * min(k, 60) / 60)
    for _ in range(min(steps, min(x.shape) // block.shape[1] - 1)):
        y = center.off(multiply(x, block), block)
        block = center.off_transposed(multiply(transposed, y), y)
        known = np.hstack(space)
        for _ in range(2):  # once leaves rounding errors along the known axes
            block -= known @ (known.T @ block)
        block = np.linalg.qr(block)[0]
        space.append(block)
    axes = np.hstack(space)
    y = center.off(multiply(x, axes), axes).astype(np.float64)
    return np.asarray(axes @ np.linalg.eigh(y.T @ y)[1][:, ::-1][:, :k])

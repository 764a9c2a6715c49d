"""Domains as Gaussians in the embedding: what one slice's vote leaves behind to label another slice. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from stmfg._core.blocks import BLOCK, FIT_AT_MOST, subsample
from stmfg.model.mixture import FLOOR, discriminant, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

MAX_ITER = 50
QUANTILES = 200
"""Steps of the stored distribution of distances."""
RIDGE = 0.05
"""Share of the covariance that is replaced by the mean variance in every direction (Friedman 1989): layers diffuse the
same features, so that in some directions next to nothing varies, and a new slice would lie far off there."""
FAR = 0.99
"""A spot is far from every domain when it lies beyond this share of the spots the domains were found on."""


@dataclass(frozen=True)
class DomainMap:
    """Class-conditional Gaussians with one covariance, of the whole embedding; every layer has its marginal of them."""

    center: Array  # mean of the embedding, (d,); means and covariance are of the embedding less this, over ``spread``
    spread: Array  # standard deviation over all entries of the centred embedding, ()
    means: Array  # (k, d)
    covariance: Array  # within domains, (d, d)
    shares: Array  # share of the spots in each domain, (k,)
    distances: Array
    """Quantiles of the distance to the nearest domain over the spots the domains were found on, increasing."""
    widths: NDArray[np.int64]
    """Columns of each layer that votes besides the whole embedding, in order; empty where it votes alone."""

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by their names."""
        return dict(vars(self))

    def posterior(self, embedding: NDArray[Any], *, adapt: bool = True) -> Array:
        """Return the posterior of every domain, (n, k): the mean over embedding (n, d) and layers, as in the vote.

        With ``adapt`` the slice may differ from the one the domains were found on by an offset common to all its
        spots (batch), in the shares of its domains and in the covariance within domains (depth, noise). These are
        estimated by expectation maximisation, while the places of the domains relative to each other stay: a mixture
        with fixed means and a free common shift. The covariance found before counts as d observations.
        """
        sample = self._standard(embedding[subsample(len(embedding), FIT_AT_MOST, 0)])
        n, d = sample.shape
        shift, shares, covariance = np.zeros(d), self.shares, self.covariance
        labels = np.full(n, -1)
        for _ in range(MAX_ITER if adapt else 0):
            posterior = self._vote(sample - shift, shares, covariance)
            before, labels = labels, posterior.argmax(axis=1)
            if (labels == before).all():
                break
            shares = posterior.mean(axis=0) + 1e-6
            shift = (sample - posterior @ self.means).mean(axis=0)
            covariance = (d * self.covariance + n * _within(sample - shift, posterior, self.means)) / (d + n)
        blocks = [self._vote(x - shift, shares, covariance) for x in self._blocks(embedding)]
        return np.concatenate(blocks)

    def unlike(self, embedding: NDArray[Any]) -> Array:
        """Return the share of the spots the domains were found on that lie closer to their nearest domain, (n,).

        The distance is Mahalanobis', in the whole embedding. No offset is taken off: an offset is part of what is
        unlike. The empirical distribution calibrates it, as the embedding is not normal.
        """
        distance = np.concatenate([_distance(x, self.means, self.covariance) for x in self._blocks(embedding)])
        return np.asarray(np.interp(distance, self.distances, np.linspace(0, 1, len(self.distances))))

    def _standard(self, embedding: NDArray[Any]) -> Array:
        return (np.asarray(embedding, dtype=np.float64) - self.center) / self.spread

    def _blocks(self, embedding: NDArray[Any]) -> Iterator[Array]:
        for start in range(0, len(embedding), BLOCK):
            yield self._standard(embedding[start : start + BLOCK])

    def _vote(self, x: Array, shares: Array, covariance: Array) -> Array:
        edges = np.cumsum([0, *self.widths])
        parts = [slice(None), *(slice(a, b) for a, b in pairwise(edges))]
        total = np.zeros((len(x), len(shares)))
        for part in parts:
            slope, intercept, _ = discriminant(self.means[:, part], covariance[part, part], np.log(shares))
            total += softmax(x[:, part] @ slope + intercept)[0]
        return total / len(parts)


def fit(embedding: NDArray[Any], posterior: NDArray[Any], widths: list[int]) -> DomainMap:
    """Describe domains by Gaussians, as one step of the mixture's expectation maximisation from the vote does.

    Of an embedding (n, d) and shares of the vote (n, k); ``widths`` are the columns of each layer that votes too.
    """
    rows = subsample(len(embedding), FIT_AT_MOST, 0)
    x, posterior = embedding[rows].astype(np.float64), posterior[rows].astype(np.float64)
    center = x.mean(axis=0)
    spread = np.asarray(max(float((x - center).std()), 1e-12))
    x = (x - center) / spread
    shares = posterior.mean(axis=0) + 1e-12
    means = posterior.T @ x / (len(x) * shares[:, None])
    covariance = _within(x, posterior, means)
    distances = np.quantile(_distance(x, means, covariance), np.linspace(0, 1, QUANTILES + 1))
    return DomainMap(center, spread, means, covariance, shares, distances, np.asarray(widths, dtype=np.int64))


def _within(x: Array, posterior: Array, means: Array) -> Array:
    """Covariance about given means, (d, d), each spot shared out by its posterior."""
    n, d = x.shape
    cross = (posterior.T @ x / n).T @ means
    about = x.T @ x / n - cross - cross.T + (means.T * posterior.mean(axis=0)) @ means
    return np.asarray((1 - RIDGE) * about + (FLOOR + RIDGE * np.trace(about) / d) * np.eye(d))


def _distance(x: Array, means: Array, covariance: Array) -> Array:
    """Mahalanobis distance to the nearest mean, (n,)."""
    root = linalg.cholesky(covariance, lower=True)
    white = linalg.solve_triangular(root, x.T, lower=True).T
    centers = linalg.solve_triangular(root, means.T, lower=True).T
    square = (white**2).sum(axis=1)[:, None] - 2 * white @ centers.T + (centers**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(square.min(axis=1), 0)))

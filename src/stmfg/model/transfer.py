"""Domains as Gaussians in the embedding: what one slice's vote leaves behind to label another slice. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from stmfg._core.blocks import BLOCK, FIT_AT_MOST, subsample
from stmfg.model.graphs import fold_patches
from stmfg.model.mixture import FLOOR, discriminant, softmax

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
FOLDS = 5
"""Parts of the spots that are held out in turn to learn how far a new spot lies."""


@dataclass(frozen=True)
class DomainMap:
    """Class-conditional Gaussians with one covariance, of the whole embedding; every layer has its marginal of them."""

    center: Array  # mean of the embedding, (d,); means and covariance are of the embedding less this, over ``spread``
    spread: Array  # standard deviation over all entries of the centred embedding, ()
    means: Array  # (k, d)
    covariance: Array  # within domains, (d, d)
    shares: Array  # share of the spots in each domain, (k,)
    distances: Array
    """Quantiles of the distance to the nearest domain that new spots of the same tissue would have, increasing."""
    widths: NDArray[np.int64]
    """Columns of each layer that votes besides the whole embedding, in order; empty where it votes alone."""
    last: Array
    """Covariance within domains of the last layer, in which distances are taken, (d_last, d_last)."""
    names: tuple[str, ...] = ()
    """Names given by hand, one a domain; domains of one name are one. Empty where they are ``"1"`` to ``str(k)``."""

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by their names."""
        named = {"names": np.array(self.names, dtype=object)} if self.names else {}
        return {key: value for key, value in vars(self).items() if key != "names"} | named

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> DomainMap:
        """Return the domains that a result or a model file keeps."""
        return cls(**{**arrays, "names": tuple(map(str, arrays.get("names", ())))})

    @property
    def categories(self) -> list[str]:
        """Names of the domains, each once."""
        return list(dict.fromkeys(self.names)) or [str(i + 1) for i in range(len(self.shares))]

    def join(self, posterior: Array) -> Array:
        """Add up the columns of a posterior (n, k) of domains that have one name."""
        names = self.names or self.categories
        return np.asarray(posterior @ np.array([[float(name == other) for other in self.categories] for name in names]))

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
        """Return the share of new spots of the same tissue that would lie closer to their nearest domain, (n,).

        The distance is Mahalanobis', in the last layer. No offset is taken off: an offset is part of what is
        unlike. The empirical distribution calibrates it, as the embedding is not normal.
        """
        columns = slice(self.means.shape[1] - len(self.last), None)
        blocks = [_distance(x[:, columns], self.means[:, columns], self.last) for x in self._blocks(embedding)]
        distance = np.concatenate(blocks)
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


def fit(
    embedding: NDArray[Any],
    posterior: NDArray[Any],
    widths: list[int],
    coordinates: Array | None = None,
    around: float = 1.0,
) -> DomainMap:
    """Describe domains by Gaussians, as one step of the mixture's expectation maximisation from the vote does.

    Parameters
    ----------
    embedding, posterior
        Embedding (n, d) and shares of the vote (n, k).
    widths
        Columns of each layer that votes too.
    coordinates
        Positions, (n, 2) or (n, 3), for distances as of new spots; those of the spots themselves without.
    around
        Spots of a neighbourhood, itself among them: how many each layer averages over.
    """
    rows = subsample(len(embedding), FIT_AT_MOST, 0)
    x, posterior = embedding[rows].astype(np.float64), posterior[rows].astype(np.float64)
    center = x.mean(axis=0)
    spread = np.asarray(max(float((x - center).std()), 1e-12))
    x = (x - center) / spread
    shares = posterior.mean(axis=0) + 1e-12
    means = _means(x, posterior)
    columns = slice(sum(widths[:-1]), None)
    tail, centers = x[:, columns], means[:, columns]
    scatter = _scatter(tail, posterior, centers)
    # Each layer averages over the neighbours once more: that many spots are as good as one.
    ridge = _choose_ridge(scatter, len(x) / (around * max(len(widths), 1)))
    last = _shrink(scatter, ridge)
    distance = _distance(tail, centers, last)
    ratio = 1.0
    if coordinates is not None:
        size = min(2 * around, len(rows) / (4 * FOLDS))
        held_out = _hold_out(tail, posterior, ridge, fold_patches(coordinates[rows], size, FOLDS))
        ratio = max(float(np.median(held_out / np.maximum(distance, 1e-12))), 1.0)
    distances = ratio * np.quantile(distance, np.linspace(0, 1, QUANTILES + 1))
    return DomainMap(
        center, spread, means, _within(x, posterior, means), shares, distances, np.asarray(widths, dtype=np.int64), last
    )


def _hold_out(x: Array, posterior: Array, ridge: float, folds: NDArray[np.int64]) -> Array:
    """Return the distance of each spot to the nearest domain as found without the spots of its fold, (n,)."""
    distance = np.zeros(len(x))
    for fold in range(FOLDS):
        held_out = folds == fold
        rest, shares = x[~held_out], posterior[~held_out]
        means = _means(rest, shares)
        distance[held_out] = _distance(x[held_out], means, _shrink(_scatter(rest, shares, means), ridge))
    return distance


def _means(x: Array, posterior: Array) -> Array:
    """Mean of every domain, (k, d); that of all spots where a domain has none."""
    total = posterior.sum(axis=0)[:, None]
    return np.asarray((posterior.T @ x + 1e-9 * x.mean(axis=0)) / (total + 1e-9))


def _within(x: Array, posterior: Array, means: Array) -> Array:
    """Covariance about given means, (d, d), a little shrunk."""
    return _shrink(_scatter(x, posterior, means), RIDGE)


def _scatter(x: Array, posterior: Array, means: Array) -> Array:
    """Covariance about given means, (d, d), each spot shared out by its posterior."""
    cross = (posterior.T @ x / len(x)).T @ means
    return np.asarray(x.T @ x / len(x) - cross - cross.T + (means.T * posterior.mean(axis=0)) @ means)


def _shrink(scatter: Array, ridge: float) -> Array:
    """Replace a share of a covariance by its mean variance in every direction."""
    d = len(scatter)
    return np.asarray((1 - ridge) * scatter + (FLOOR + ridge * np.trace(scatter) / d) * np.eye(d))


def _choose_ridge(scatter: Array, n: float) -> float:
    """Return the share of a covariance of n independent spots to shrink (Chen et al. 2010, eq. 23, OAS)."""
    d, square, trace = len(scatter), float((scatter**2).sum()), float(np.trace(scatter)) ** 2
    spread = (n + 1 - 2 / d) * (square - trace / d)
    share = ((1 - 2 / d) * square + trace) / spread if spread > 0 else 1.0
    return float(np.clip(share, RIDGE, 1.0))


def _distance(x: Array, means: Array, covariance: Array) -> Array:
    """Mahalanobis distance to the nearest mean, (n,)."""
    root = linalg.cholesky(covariance, lower=True)
    white = linalg.solve_triangular(root, x.T, lower=True).T
    centers = linalg.solve_triangular(root, means.T, lower=True).T
    square = (white**2).sum(axis=1)[:, None] - 2 * white @ centers.T + (centers**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(square.min(axis=1), 0)))

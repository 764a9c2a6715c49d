"""Gaussian mixtures with one covariance for all components, also of several slices with an offset each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

FLOOR = 1e-4
"""Added to the covariance, in units of the variance of all values."""


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture: all that tells a component from the others is linear in x (Fisher's discriminant)."""

    likelihood: float  # mean log-likelihood of a row
    slope: Floats  # (d, k)
    intercept: Floats  # (k,), or of every slice (n_slices, k)

    def posterior(self, x: Floats, libraries: Codes | None = None) -> Floats:
        """Return the posterior of every component, (n, k)."""
        return softmax(x @ self.slope + (self.intercept if libraries is None else self.intercept[libraries]))[0]


def softmax(logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Softmax over the columns, in place, and the logarithm of the sums (n,)."""
    highest = logits.max(axis=1, keepdims=True)
    logits -= highest
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    return logits, (highest + np.log(total))[:, 0]


def discriminant(means: Floats, covariance: Floats, log_shares: Floats) -> tuple[Floats, Floats, Any]:
    """Return slope (d, k) and intercept (k,) of the log-posterior, and the Cholesky factor of the covariance."""
    factor = linalg.cho_factor(covariance)
    slope = linalg.cho_solve(factor, means.T)
    return slope, log_shares - 0.5 * (means.T * slope).sum(axis=0), factor


def fit_likeliest(x: Floats, k: int, seeds: Iterable[int], libraries: Codes | None = None) -> Mixture:
    """Fit the mixture to values of unit variance (n, d) from one k-means start a seed; return the likeliest fit.

    With ``libraries``, codes (n,) from 0 without gaps, each slice has an offset of its own.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    fits = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # duplicate points only leave a start empty
            start = KMeans(k, n_init=1, random_state=int(seed)).fit(x).labels_
        fits.append(fit_mixture(x, np.eye(k)[start], libraries))
    return max(fits, key=lambda fit: fit.likelihood)


def fit_mixture(
    x: Floats, posterior: Floats, libraries: Codes | None = None, *, max_iter: int = 100, tolerance: float = 1e-3
) -> Mixture:
    """Fit a mixture from a first posterior (n, k) by expectation maximisation.

    Because the covariance is shared, it is what the components do not explain of the total one (no pass over the
    data), and the log-posterior is linear in x: a step costs n d k, where a general mixture's costs n d^2 k.
    """
    n, d = x.shape
    total, offsets = x.T @ x / n, np.zeros((1, d))
    reached = -np.inf
    for _ in range(max_iter):
        if libraries is None:
            share = posterior.sum(axis=0) / n + 1e-12
            means = (posterior.T @ x) / (n * share[:, None])
            log_share = np.log(share)
        else:
            means, offsets, weights = fit_offsets(x, libraries, posterior)
            share = weights.sum(axis=0) / n
            log_share = np.log(share + 1e-6)  # common to all slices: components of one slice each would cost
            y = x - offsets[libraries]
            total = y.T @ y / n
        covariance = total - (share * means.T) @ means + FLOOR * np.eye(d)
        slope, intercept, factor = discriminant(means, covariance, log_share)
        if libraries is not None:
            intercept = intercept - offsets @ slope
        posterior, evidence = softmax(x @ slope + (intercept if libraries is None else intercept[libraries]))
        # What depends on the row but not on the component: the evidence leaves it out.
        spread = np.trace(linalg.cho_solve(factor, total)) + 2 * np.log(np.diag(factor[0])).sum()
        likelihood = float(evidence.mean() - 0.5 * (spread + d * np.log(2 * np.pi)))
        if likelihood - reached < tolerance:
            break
        reached = likelihood
    return Mixture(likelihood, slope, intercept)


def fit_offsets(x: Floats, libraries: Codes, posterior: Floats) -> tuple[Floats, Floats, Floats]:
    """Means (k, d) and offsets (n_slices, d) that fit best given posteriors (n, k), and their sums (n_slices, k).

    The normal equations of both at once. They leave open what to add to all means and take off all offsets, and
    more where slices share no component; the solution of least norm stays nearest to the centred slices.
    """
    n_slices = int(libraries.max()) + 1
    weights = np.stack([np.bincount(libraries, weights=p, minlength=n_slices) for p in posterior.T], axis=1)
    size = weights.sum(axis=1, keepdims=True)
    sums = np.stack([np.bincount(libraries, weights=column, minlength=n_slices) for column in x.T], axis=1)
    left = np.diag(weights.sum(axis=0)) - weights.T @ (weights / size)
    right = posterior.T @ x - weights.T @ (sums / size)
    means = linalg.lstsq(left, right, cond=1e-9)[0]
    return means, np.asarray((sums - weights @ means) / size), weights.astype(np.float64)

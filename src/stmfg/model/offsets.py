"""Several slices on one footing: what differs between slices as wholes is estimated and taken off. Arrays only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import linalg, sparse
from scipy.special import chdtri

from stmfg._core.blocks import FIT_AT_MOST, subsample
from stmfg.config import Config
from stmfg.model.kmeans import choose_nearest, draw, find_centers
from stmfg.model.mixture import FLOOR, START_STEPS, discriminant, softmax
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

N_COMPONENTS = 6
"""Components that stand for the tissues' domains; a few too many or too few hardly matter."""
ROWS_PER_COMPONENT = 10
"""A slice of few observations shows fewer components."""
MATCHED_ON = 1500
"""Observations of a slice that matches are compared on."""
N_MATCH_STEPS = 10
UNMATCHED = 5e-4
"""An observation further from all components than this share of their own counts as of a domain that is not there."""


def means(x: NDArray[Any], libraries: Codes) -> Floats:
    """Mean of each slice: of x (n, d) and codes (n,) from 0, (n_slices, d)."""
    sums = np.stack([np.bincount(libraries, weights=column) for column in x.T], axis=1)
    return np.asarray(sums / np.maximum(np.bincount(libraries), 1)[:, None])


def slice_means(x: csr_matrix, libraries: Codes) -> Floats:
    """Mean of each slice of a sparse matrix (n, genes), (n_slices, genes); zero of a slice without a row."""
    n_slices = int(libraries.max()) + 1
    member = sparse.csr_matrix(
        (np.ones(len(libraries)), (libraries, np.arange(len(libraries)))), shape=(n_slices, len(libraries))
    )
    return np.asarray((member @ x).toarray() / np.maximum(np.bincount(libraries), 1)[:, None])


def centred(x: NDArray[Any], libraries: Codes | None) -> NDArray[Any]:
    """Take the mean of its slice off each row of x (n, d); with ``None`` for slices, nothing."""
    return x if libraries is None else np.asarray(x - means(x, libraries)[libraries], dtype=x.dtype)


def match_slice_means(x: NDArray[np.float32], whole: NDArray[np.float32], libraries: Codes) -> NDArray[np.float32]:
    """Shift x (n, d) so that each slice has the mean it has in another array of the same shape."""
    return np.asarray(x + (means(whole, libraries) - means(x, libraries))[libraries], dtype=np.float32)


def align(features: NDArray[np.float32], libraries: Codes | None, groups: Floats | None = None) -> NDArray[np.float32]:
    r"""Take the offset of its slice off the features (n, d) of each observation; the result has mean zero.

    Model: :math:`x_i = \mu_{k(i)} + b_{l(i)} + e_i`, a Gaussian mixture with one covariance whose components k all
    slices share, in proportions of their own, and an offset b of each slice l. Estimated together by expectation
    maximisation, the offset is what differs between slices *within* components, so that a domain that only one slice
    has stays apart, which plain centring would mix with what the other slices have. This is the linear model of Johnson
    et al. (2007, ComBat) with soft clusters as its covariates, as in Korsunsky et al. (2019, Harmony), but with one
    offset a slice rather than one for every slice and cluster: few parameters, and no cluster is pulled onto another.
    Without ``libraries`` (codes (n,) from 0 without gaps), nothing changes. ``groups`` are components (n, k) found
    before, in other features: where these show the tissue's domains more clearly, see :func:`find_groups`.
    """
    if libraries is None:
        return features
    groups = _share_groups(features, libraries) if groups is None else groups
    x: Floats = np.asarray(features, dtype=np.float64)
    # Of slices that share no component the solution is the nearest to what it is given: to centred slices.
    middle = means(x, libraries)
    aligned = x - (middle + fit_offsets(x - middle[libraries], libraries, groups)[1])[libraries]
    return np.asarray(aligned - aligned.mean(axis=0), dtype=np.float32)


def find_groups(features: NDArray[np.float32], libraries: Codes | None) -> Floats | None:
    """Return the components of the mixture of :func:`align` that each observation belongs to, (n, k); None of one."""
    return None if libraries is None else _share_groups(features, libraries)


def _share_groups(features: NDArray[np.float32], libraries: Codes) -> Floats:
    """Fit the mixture to features (n, d); posteriors (n, k).

    Observations are taken as they are: averaged over their surroundings they would no longer be independent, and the
    mixture would rather give each slice components of its own than have it share them.
    """
    x = np.asarray(features, dtype=np.float64)
    x = x - means(x, libraries)[libraries]
    x /= max(float(x.std()), 1e-12)
    sample = subsample(len(x), FIT_AT_MOST, 0)
    if len(np.unique(libraries[sample])) <= libraries.max():  # a slice too small to be drawn
        sample = np.arange(len(x))
    y, codes = x[sample], libraries[sample]
    _, slope, intercept = _fit_mixture(y, _match_slices(y, codes), codes)
    return np.asarray(softmax(x @ slope + intercept[libraries])[0])


def _match_slices(x: Floats, libraries: Codes) -> Floats:
    """First posteriors (n, k) of centred slices x (n, d): each is laid over the largest where it fits best.

    Every component of a slice on every one of the largest is tried: expectation maximisation alone stays where it
    starts, and slices of different make-up that start with equal means end with one domain on another.
    """
    by_slice = [x[libraries == code] for code in range(int(libraries.max()) + 1)]
    mixtures = list(map_in_order(_fit_slice, by_slice))
    largest = int(np.argmax([len(y) for y in by_slice]))
    shares = np.bincount(libraries) / len(x)
    within = np.einsum("s,sij->ij", shares, np.stack([covariance for _, covariance in mixtures]))
    whiten = np.linalg.cholesky(np.linalg.inv(within))
    components = mixtures[largest][0] @ whiten

    def lay_over(code: int) -> Floats:
        white, shift = by_slice[code] @ whiten, np.zeros(x.shape[1])
        if code != largest:
            tried = ((mixtures[code][0] @ whiten)[:, None] - components).reshape(-1, x.shape[1])
            shift = _find_shift(white[subsample(len(white), MATCHED_ON, 0)], components, tried)
        return np.asarray(_assign((white - shift)[None], components)[0][0])

    posterior = np.zeros((len(x), len(components)))
    for code, of_slice in enumerate(map_in_order(lay_over, range(len(by_slice)))):
        posterior[libraries == code] = of_slice
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def _fit_slice(y: Floats) -> tuple[Floats, Floats]:
    """Fit a mixture with one covariance to a slice (n, d): means (k, d) and the covariance (d, d)."""
    k = max(1, min(N_COMPONENTS, len(y) // ROWS_PER_COMPONENT, len(np.unique(y, axis=0))))
    values, alone = torch.from_numpy(y.astype(np.float32)), np.zeros(len(y), dtype=np.int64)
    centers = find_centers(values, draw(range(Config.n_starts), 1, k), max_iter=START_STEPS)
    starts = choose_nearest(centers, values).transpose(1, 2).double().numpy()
    _, slope, intercept = max((_fit_mixture(y, start, alone) for start in starts), key=lambda fit: fit[0])
    posterior = softmax(y @ slope + intercept)[0]
    sizes = posterior.sum(axis=0) + 1e-9
    centres = posterior.T @ y / sizes[:, None]
    return centres, (y.T @ y - (sizes * centres.T) @ centres) / len(y) + FLOOR * np.eye(y.shape[1])


def _find_shift(y: Floats, components: Floats, shifts: Floats) -> Floats:
    """Improve shifts (c, d) of a slice y (n, d), and return the one that brings most of it onto components (k, d)."""
    shifts = np.vstack([np.zeros((1, y.shape[1])), shifts])
    for _ in range(N_MATCH_STEPS):
        posterior, evidence = _assign(y - shifts[:, None], components)
        sizes = posterior.sum(axis=1)  # (c, k)
        moved = np.einsum("cn,nd->cd", posterior.sum(axis=2), y) - sizes @ components
        shifts = moved / (sizes.sum(axis=1, keepdims=True) + 1e-9)
    return np.asarray(shifts[evidence.mean(axis=1).argmax()])


def _assign(y: Floats, components: Floats) -> tuple[Floats, Floats]:
    """Posterior (c, n, k) of white components (k, d) given y (c, n, d), and the log-evidence of each row (c, n).

    Rows beyond all components belong to none of them, and count as if they lay at a fixed distance.
    """
    beyond = -0.5 * chdtri(y.shape[2], UNMATCHED)  # scipy.stats has this too, but takes 0.3 s to load
    square = (y**2).sum(axis=2)[..., None] - 2 * y @ components.T + (components**2).sum(axis=1)
    logits = -0.5 * np.ascontiguousarray(np.moveaxis(square, 2, 0))  # sums over few columns are slow
    # scipy's logsumexp, in half of its time.
    highest = logits.max(axis=0)
    n_highest = (logits == highest).sum(axis=0)
    others = np.exp(np.where(logits == highest, -np.inf, logits) - highest).sum(axis=0)
    total = np.log1p(others / n_highest) + np.log(n_highest) + highest
    evidence = np.logaddexp(total - np.log(len(components)), beyond)
    posterior = np.exp(logits - np.log(len(components)) - evidence)
    return np.ascontiguousarray(np.moveaxis(posterior, 0, 2)), evidence


def _fit_mixture(
    x: Floats, posterior: Floats, libraries: Codes, *, max_iter: int = 100, tolerance: float = 1e-3
) -> tuple[float, Floats, Floats]:
    """Fit a mixture whose slices have an offset each from a first posterior (n, k) by expectation maximisation.

    Returns
    -------
    Mean log-likelihood of a row; slope (d, k) and intercept of every slice (n_slices, k) of the log-posterior.
    """
    n, d = x.shape
    reached = -np.inf
    for _ in range(max_iter):
        means, offsets, weights = fit_offsets(x, libraries, posterior)
        share = weights.sum(axis=0) / n
        y = x - offsets[libraries]
        total = y.T @ y / n
        covariance = total - (share * means.T) @ means + FLOOR * np.eye(d)
        # Shares are common to all slices: components of one slice each would cost.
        slope, intercept, factor = discriminant(means, covariance, np.log(share + 1e-6))
        intercept = intercept - offsets @ slope
        posterior, evidence = softmax(x @ slope + intercept[libraries])
        # What depends on the row but not on the component: the evidence leaves it out.
        spread = np.trace(linalg.cho_solve(factor, total)) + 2 * np.log(np.diag(factor[0])).sum()
        likelihood = float(evidence.mean() - 0.5 * (spread + d * np.log(2 * np.pi)))
        if likelihood - reached < tolerance:
            break
        reached = likelihood
    return likelihood, slope, intercept


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

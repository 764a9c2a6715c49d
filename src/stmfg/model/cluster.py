"""Clusterings and their consensus: arrays in, posteriors (n, k) out, rows summing to one."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg

from stmfg._core.blocks import subsample
from stmfg.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Posterior = NDArray[np.float64]

__all__ = [
    "agreement",
    "consensus",
    "evidence",
    "kmeans",
    "leiden",
    "mapped",
    "mixture",
    "non_empty",
    "refine",
    "softmax",
]

FIT_AT_MOST = 20_000
"""Observations a clustering is fitted, and two are compared, on; all of them are assigned."""


def mixture(x: NDArray[Any], k: int, *, n_starts: int = 5, random_state: int = 0) -> Posterior:
    """Gaussian mixture with one full covariance shared by all components (mclust's EEE).

    One covariance for all absorbs gradients that run through every domain alike, such as depth. The likelihood
    does not depend on linear maps of ``x``; the k-means it starts from does.

    Parameters
    ----------
    x
        Embedding, (n, d).
    k
        Number of components.
    n_starts
        Starts; the likeliest is kept.
    random_state
        Seed.

    Returns
    -------
    Posterior of each component, (n, k).
    """
    x = _unit_scale(x)
    _, slope, offset = _likeliest(x[subsample(len(x), FIT_AT_MOST, random_state)], k, n_starts, random_state)
    return softmax(x @ slope + offset)[0]


def evidence(x: NDArray[Any], k: int, *, independent: float = 1.0, n_starts: int = 5, random_state: int = 0) -> float:
    """Evidence for a number of clusters: minus half the Bayesian information criterion of :func:`mixture`.

    Schwarz (1978), up to what every ``k`` shares: log-likelihood less half a logarithm of the number of observations
    for each mean and share. Observations that resemble each other because they were averaged over the same surroundings
    count less than one each.

    Parameters
    ----------
    x, k, n_starts, random_state
        As in :func:`mixture`.
    independent
        Independent observations per row, in 0..1.

    Returns
    -------
    Evidence in nats; differences between numbers of clusters are log-odds.
    """
    x = _unit_scale(x)
    sample = x[subsample(len(x), FIT_AT_MOST, random_state)]
    n, free = len(sample) * independent, k * (x.shape[1] + 1)
    likelihood = _likeliest(sample, k, n_starts, random_state)[0]
    return float(n * likelihood - free / 2 * np.log(max(n, 1.0)))


def _unit_scale(x: NDArray[Any]) -> NDArray[np.float64]:
    """Centre and scale, for the k-means start and the covariance floor to mean the same on every data set."""
    x = np.asarray(x, dtype=np.float64)
    return np.asarray((x - x.mean(axis=0)) / max(float(x.std()), 1e-12))


def _likeliest(
    x: NDArray[np.float64], k: int, n_starts: int, random_state: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Fit the mixture from several k-means starts and return the likeliest fit."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    fits = []
    for seed in np.random.default_rng(random_state).integers(2**31, size=n_starts):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # duplicate points only leave a start empty
            start = KMeans(k, n_init=1, random_state=int(seed)).fit(x).labels_
        fits.append(_expectation_maximization(x, np.eye(k)[start]))
    return max(fits, key=lambda fit: fit[0])


def _expectation_maximization(
    x: NDArray[np.float64], posterior: Posterior, *, max_iter: int = 100, tolerance: float = 1e-3, floor: float = 1e-4
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Fit a Gaussian mixture with one covariance, from a first posterior (n, k).

    Because the covariance is shared, what the components do not explain of the total one is all there is to
    know (no pass over the data), and the log-posterior is linear in x (Fisher's discriminant): a step costs
    n d k, where a general mixture's costs n d^2 k.

    Returns
    -------
    Mean log-likelihood, and slope (d, k) and offset (k,) of the log-posterior up to a constant in each row.
    """
    n, d = x.shape
    total = x.T @ x / n
    reached = -np.inf
    for _ in range(max_iter):
        share = posterior.sum(axis=0) / n + 1e-12
        means = (posterior.T @ x) / (n * share[:, None])
        factor = linalg.cho_factor(total - (share * means.T) @ means + floor * np.eye(d))
        slope = linalg.cho_solve(factor, means.T)
        offset = np.log(share) - 0.5 * (means.T * slope).sum(axis=0)
        posterior, evidence = softmax(x @ slope + offset)
        spread = np.trace(linalg.cho_solve(factor, total)) + 2 * np.log(np.diag(factor[0])).sum()
        likelihood = float(evidence.mean() - 0.5 * (spread + d * np.log(2 * np.pi)))
        if likelihood - reached < tolerance:
            break
        reached = likelihood
    return likelihood, slope, offset


def softmax(logits: NDArray[np.float64]) -> tuple[Posterior, NDArray[np.float64]]:
    """Softmax over the columns, in place, and the logarithm of the sums (n,)."""
    highest = logits.max(axis=1, keepdims=True)
    logits -= highest
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    return logits, (highest + np.log(total))[:, 0]


def kmeans(x: NDArray[Any], k: int, *, n_starts: int = 10, random_state: int = 0) -> Posterior:
    """k-means; the posterior is the softmax of the squared distances over the mean squared distance per dimension.

    Parameters as in :func:`mixture`.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    x = np.asarray(x, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(k, n_init=n_starts, random_state=random_state).fit(
            x[subsample(len(x), FIT_AT_MOST, random_state)]
        )
    distance = model.transform(x) ** 2
    variance = max(distance.min(axis=1).mean() / x.shape[1], 1e-12)
    weight = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / (2 * variance))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def leiden(x: NDArray[Any], k: int, *, n_starts: int = 1, random_state: int = 0) -> Posterior:
    """Leiden communities of the 15-neighbour graph, at the resolution that gives ``k`` of them.

    Parameters as in :func:`mixture`; ``n_starts`` is the number of partitions tried per resolution.

    Raises
    ------
    InputError
        If no resolution gives exactly ``k`` communities.
    MissingDependencyError
        If igraph is not installed.
    """
    try:
        import igraph
    except ImportError as error:
        raise MissingDependencyError('Leiden needs igraph: pip install "stmfg[leiden]"') from error
    import random

    from scipy.sparse import triu

    from stmfg.model.graphs import feature_graph

    centred = x - x.mean(axis=0)
    upper = triu(feature_graph(centred, n_neighbors=15)).tocoo()
    graph = igraph.Graph(n=len(x), edges=np.column_stack([upper.row, upper.col]))
    state = random.getstate()
    igraph.set_random_number_generator(random.Random(random_state))  # noqa: S311
    try:
        low, high = 0.0, 4.0
        for _ in range(40):
            resolution = (low + high) / 2
            tries = [
                graph.community_leiden("modularity", resolution=resolution, n_iterations=4) for _ in range(n_starts)
            ]
            best = max(tries, key=lambda t: t.modularity)
            found = len(best)
            if found == k:
                return np.asarray(np.eye(k)[np.asarray(best.membership)])
            low, high = (resolution, high) if found < k else (low, resolution)
    finally:
        igraph.set_random_number_generator(random)
        random.setstate(state)
    raise InputError(f"Leiden found no resolution with exactly {k} domains; use clusterer='mixture'")


def agreement(posteriors: Sequence[Posterior]) -> NDArray[np.float64]:
    """Return the adjusted Rand index between every two of m clusterings, (m, m).

    From the contingency tables of all pairs at once, which one product of indicator matrices gives (Hubert and
    Arabie 1985, eq. 5).
    """
    rows = subsample(len(posteriors[0]), FIT_AT_MOST, 0)
    k = posteriors[0].shape[1]
    member = np.concatenate([np.eye(k, dtype=np.float32)[p[rows].argmax(axis=1)] for p in posteriors], axis=1)
    tables = (member.T @ member).astype(np.float64).reshape(len(posteriors), k, len(posteriors), k)
    together = (tables * (tables - 1) / 2).sum(axis=(1, 3))  # pairs of observations that both keep together
    each = np.diag(together)
    expected = np.outer(each, each) / max(len(rows) * (len(rows) - 1) / 2, 1)
    excess = np.add.outer(each, each) / 2 - expected
    # Two clusterings of one cluster each, or of nothing but single observations, agree.
    return np.asarray(np.divide(together - expected, excess, out=np.ones_like(excess), where=excess != 0))


def consensus(posteriors: Sequence[Posterior], *, max_iter: int = 20) -> Posterior:
    """Vote of several clusterings.

    Starts from the clustering that agrees best with all others (adjusted Rand index), matches the
    clusters of each to it (Hungarian method), averages, and repeats until the labels stay. Clusterings
    stuck in a poor optimum disagree with each other and are outvoted.

    Parameters
    ----------
    posteriors
        Clusterings of the same observations, each (n, k).
    max_iter
        Rounds at most.

    Returns
    -------
    Mean posterior after matching, (n, k): a row's largest value is the share of the vote.
    """
    from scipy.optimize import linear_sum_assignment

    vote = posteriors[int(agreement(posteriors).mean(axis=1).argmax())]
    for _ in range(max_iter):
        total = np.zeros_like(vote)
        for posterior in posteriors:
            mine, theirs = linear_sum_assignment(-(posterior.T @ vote))
            total[:, theirs] += posterior[:, mine]
        total /= len(posteriors)
        settled = bool((total.argmax(axis=1) == vote.argmax(axis=1)).all())
        vote = total
        if settled:
            break
    return vote


def mapped(posteriors: Sequence[Posterior], reference: Posterior) -> Posterior:
    """Mean of clusterings in terms of another one, whose clusters need not be as many.

    Parameters
    ----------
    posteriors
        Clusterings of the same observations, each (n, any number).
    reference
        (n, k).

    Returns
    -------
    Mean posterior, (n, k), each cluster counted as the one of the reference that it shares most with.
    """
    total = np.zeros_like(reference)
    for posterior in posteriors:
        total += posterior @ np.eye(reference.shape[1])[(posterior.T @ reference).argmax(axis=1)]
    return np.asarray(total / len(posteriors))


def refine(posterior: Posterior, operator: csr_matrix, strength: float, *, n_iter: int = 10) -> Posterior:
    """Let neighbours in tissue agree: mean-field updates of a Potts model on top of a posterior.

    Parameters
    ----------
    posterior
        (n, k).
    operator
        Random-walk operator of the spatial graph, (n, n): the field on a spot is the mean over its surroundings.
    strength
        Weight of the field, 0 for none.
    n_iter
        Mean-field rounds.

    Returns
    -------
    Posterior, (n, k).
    """
    evidence = np.log(np.maximum(posterior, 1e-12))
    for _ in range(n_iter if strength > 0 else 0):
        logits = evidence + strength * (operator @ posterior)
        logits -= logits.max(axis=1, keepdims=True)
        posterior = np.exp(logits)
        posterior /= posterior.sum(axis=1, keepdims=True)
    return np.asarray(posterior)


def non_empty(posterior: Posterior) -> NDArray[np.int64]:
    """Labels (n,) with every one of the k clusters used.

    A cluster no observation prefers takes the observation closest to it whose own cluster can spare it.
    """
    labels = posterior.argmax(axis=1)
    k = posterior.shape[1]
    for missing in np.setdiff1d(np.arange(k), labels):
        spare = np.bincount(labels, minlength=k)[labels] > 1
        labels[np.where(spare, posterior[:, missing], -1.0).argmax()] = missing
    return np.asarray(labels, dtype=np.int64)

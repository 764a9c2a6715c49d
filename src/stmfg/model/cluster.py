"""Clusterings and their consensus: arrays in, posteriors (n, k) out, rows summing to one."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg._core.blocks import FIT_AT_MOST, subsample
from stmfg.config import Config
from stmfg.errors import InputError, MissingDependencyError
from stmfg.model.kmeans import blocks, find_best_centers, measure_distances
from stmfg.model.mixture import fit_mixtures, softmax
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    Posterior = NDArray[np.float64]

HALF_AT_MOST = 200_000
"""Posteriors of more rows are stored in steps: those of sixty clusterings of a million fill 400 MB."""
STEPS = 255.0

__all__ = ["consensus", "kmeans", "leiden", "map_clusters", "mixture", "mixtures", "refine"]


def mixture(x: NDArray[Any], k: int, *, n_starts: int = Config.n_starts, random_state: int = 0) -> Posterior:
    """Gaussian mixture with one full covariance shared by all components (mclust's EEE); posteriors (n, k).

    One covariance for all absorbs gradients that run through every domain alike, such as depth. The likelihood
    does not depend on linear maps of ``x`` (n, d); the k-means starts, of which the likeliest is kept, do.
    """
    return mixtures(x, k, [random_state], n_starts=n_starts)[0]


@torch.inference_mode()
def mixtures(
    x: NDArray[Any] | Tensor,
    k: int,
    seeds: Sequence[int],
    *,
    n_starts: int = Config.n_starts,
    device: torch.device | str = "cpu",
) -> list[Posterior]:
    """Cluster the same values (n, d) by a :func:`mixture` for every seed, all at once: much cheaper than one by one.

    Fitted on at most ``FIT_AT_MOST`` rows. Posteriors (n, k) are in single precision, of more rows in half, and of very
    many in steps of 1/255.
    """
    values = torch.as_tensor(x, device=device)
    center, scale = _measure_scale(values)
    n = len(values)
    rows = torch.from_numpy(subsample(n, FIT_AT_MOST, seeds[0])).to(values.device)
    sample = values if len(rows) == n else values[rows]
    fitted = fit_mixtures((sample - center).float().div_(scale), k, seeds, n_starts)
    kind = torch.float32 if len(rows) == n else torch.float16 if n <= HALF_AT_MOST else torch.uint8
    posteriors = torch.empty(len(seeds), k, n, dtype=kind)
    for block in blocks(values):  # nothing but that is scaled at a time
        of_block = fitted.assign((values[block] - center).float().div_(scale))[0]
        posteriors[:, :, block] = (of_block.mul_(STEPS).round_() if kind == torch.uint8 else of_block).to(posteriors)
    return [posterior.T for posterior in posteriors.numpy()]


def unit_scale(x: NDArray[Any] | Tensor, device: torch.device | str) -> tuple[Tensor, Tensor, float]:
    """Centre and scale, for the k-means start and the covariance floor to mean the same on every data set.

    Returns
    -------
    The values, what was taken off, (d,), and what they were divided by then.
    """
    values = torch.as_tensor(x, device=device)
    center, scale = _measure_scale(values)
    return (values - center).float().div_(scale), center, scale


def _measure_scale(values: Tensor) -> tuple[Tensor, float]:
    """Return the mean of values (n, d), and the standard deviation of all that is left without it."""
    total = torch.stack([values[rows].double().sum(dim=0) for rows in blocks(values)]).sum(dim=0)
    center = (total / len(values)).to(values.dtype)
    square = sum(float(((values[rows] - center).float().double() ** 2).sum()) for rows in blocks(values))
    return center, max((square / values.numel()) ** 0.5, 1e-12)


@torch.inference_mode()
def kmeans(x: NDArray[Any], k: int, *, n_starts: int = Config.n_starts, random_state: int = 0) -> Posterior:
    """k-means; the posterior (n, k) is the softmax of squared distances over their mean per dimension."""
    values = unit_scale(x, "cpu")[0]
    rows = torch.from_numpy(subsample(len(values), FIT_AT_MOST, random_state))
    best = measure_distances(values, find_best_centers(values[rows], k, seed=random_state, n_starts=n_starts))
    variance = max(float(best.amin(dim=1).mean()) / values.shape[1], 1e-12)
    return torch.softmax(-best / (2 * variance), dim=1).numpy()


def leiden(x: NDArray[Any], k: int, *, n_starts: int = Config.n_starts, random_state: int = 0) -> Posterior:
    """Leiden communities of the 15-neighbour graph, at the resolution that gives ``k`` of them; posteriors (n, k).

    ``n_starts`` is the number of partitions tried per resolution.

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
            if len(best) == k:
                return np.asarray(np.eye(k)[np.asarray(best.membership)])
            low, high = (resolution, high) if len(best) < k else (low, resolution)
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


def consensus(posteriors: Sequence[Posterior], *, n_starts: int = 8) -> Posterior:
    """Vote of several clusterings.

    From a first guess, the clusters of each clustering are matched to it (Hungarian method), averaged, and this is
    repeated until the labels stay. First guesses are clusterings from the one that agrees best with all others
    (adjusted Rand index) to the one that agrees least; the outcome that the clusterings support most is kept.
    Clusterings stuck in a poor optimum disagree with each other and are outvoted.

    Parameters
    ----------
    posteriors
        Clusterings of the same observations, each (n, k).
    n_starts
        First guesses at most.

    Returns
    -------
    Mean posterior after matching, (n, k): a row's largest value is the share of the vote.
    """
    n = len(posteriors[0])
    rows = subsample(n, FIT_AT_MOST, 0)
    sample = [_widen(p if len(rows) == n else p[rows]) for p in posteriors]
    order = np.argsort(-agreement(sample).mean(axis=1), kind="stable")
    firsts = order[:: max(1, len(order) // n_starts)][:n_starts]
    outcomes = list(map_in_order(lambda first: _match_and_average(sample, sample[first]), firsts))
    shares, matches = max(outcomes, key=lambda outcome: float(outcome[0].max(axis=1).mean()))
    return shares if len(rows) == n else _average(posteriors, matches)


def _widen(posterior: Posterior) -> Posterior:
    """Return a posterior in single precision at least: half, and steps, are for storage."""
    wide = posterior.astype(np.promote_types(posterior.dtype, np.float32), copy=False)
    return wide / np.float32(STEPS) if posterior.dtype == np.uint8 else wide


def _match_and_average(
    posteriors: Sequence[Posterior], first: Posterior, *, max_iter: int = 20
) -> tuple[Posterior, list[NDArray[np.int64]]]:
    """Match the clusters of each clustering to a first guess, average, and repeat until the labels stay.

    Returns
    -------
    The average (n, k), and which cluster of each clustering, (k,), became the first, second and so on.
    """
    from scipy.optimize import linear_sum_assignment

    shares = first
    for _ in range(max_iter):
        matches = [np.argsort(linear_sum_assignment(-(posterior.T @ shares))[1]) for posterior in posteriors]
        total = _average(posteriors, matches)
        settled = bool((total.argmax(axis=1) == shares.argmax(axis=1)).all())
        shares = total
        if settled:
            break
    return shares, matches


def _average(posteriors: Sequence[Posterior], matches: Sequence[NDArray[np.int64]]) -> Posterior:
    """Average posteriors (n, k) with their clusters in the order of the matches, each (k,)."""
    total = np.zeros_like(_widen(posteriors[0][:1]), shape=posteriors[0].shape, order="F")

    def add_column(column: int) -> None:
        for posterior, match in zip(posteriors, matches, strict=True):
            total[:, column] += posterior[:, match[column]]

    columns = range(total.shape[1])
    deque(map_in_order(add_column, columns) if len(total) > FIT_AT_MOST else map(add_column, columns), maxlen=0)
    total /= len(posteriors) * (STEPS if posteriors[0].dtype == np.uint8 else 1)
    return total


def map_clusters(posteriors: Sequence[Posterior], reference: Posterior) -> Posterior:
    """Mean of clusterings, each (n, any number), in terms of a reference (n, k).

    Each cluster counts as the one of the reference that it shares most with.
    """
    total = np.zeros_like(reference)
    for posterior in posteriors:
        wide = _widen(posterior)
        total += wide @ np.eye(reference.shape[1])[(wide.T @ reference).argmax(axis=1)]
    return np.asarray(total / len(posteriors))


def refine(posterior: Posterior, operator: csr_matrix, strength: float, *, n_iter: int = 10) -> Posterior:
    """Let neighbours in tissue agree: mean-field updates of a Potts model on top of a posterior (n, k).

    The field on a spot is ``strength`` times the mean over its surroundings, by a random-walk operator (n, n).
    """
    evidence = np.log(np.maximum(posterior, 1e-12))
    for _ in range(n_iter if strength > 0 else 0):
        posterior = softmax(evidence + strength * (operator @ posterior))[0]
    return posterior


def fill_empty(posterior: Posterior) -> NDArray[np.int64]:
    """Labels (n,) with every one of the k clusters used.

    A cluster no observation prefers takes the observation closest to it whose own cluster can spare it.
    """
    labels = posterior.argmax(axis=1)
    k = posterior.shape[1]
    for missing in np.setdiff1d(np.arange(k), labels):
        spare = np.bincount(labels, minlength=k)[labels] > 1
        labels[np.where(spare, posterior[:, missing], -1.0).argmax()] = missing
    return np.asarray(labels, dtype=np.int64)

"""Scores of a labelling: against a ground truth, in space, and between repeated runs; mixing of an embedding.

Arrays in, numbers out. Every function raises :class:`stmfg.StmfgError` with one line where arrays differ in length or
hold values that are missing or not finite, or where an option is out of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import NearestNeighbors

from stmfg._core.comparison import Comparison, compare
from stmfg.errors import InputError

__all__ = ["Comparison", "ari", "asw", "chaos", "compare", "lisi", "nmi", "pas", "stability"]


def ari(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Compute the adjusted Rand index between a labelling and the ground truth.

    Parameters
    ----------
    truth
        True domain of each observation, (n,). Entries that are missing (None, NaN) are left out.
    predicted
        Domain found for each observation, (n,).

    Returns
    -------
    1 for the same partition under any names, about 0 for a random one, at worst -0.5.

    References
    ----------
    Hubert and Arabie (1985), Comparing partitions, Journal of Classification 2, 193-218.
    """
    return float(adjusted_rand_score(*_known(truth, predicted)))


def nmi(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Compute the mutual information of a labelling and the ground truth, over the mean of their entropies.

    Parameters
    ----------
    truth
        True domain of each observation, (n,). Entries that are missing (None, NaN) are left out.
    predicted
        Domain found for each observation, (n,).

    Returns
    -------
    1 for the same partition under any names, 0 for an independent one.

    References
    ----------
    Strehl and Ghosh (2002), Cluster ensembles, Journal of Machine Learning Research 3, 583-617; normalised by the
    arithmetic mean, as scikit-learn does.
    """
    return float(normalized_mutual_info_score(*_known(truth, predicted)))


def chaos(coords: ArrayLike, labels: ArrayLike) -> float:
    """Compute spatial chaos: the mean distance to the nearest observation of the same domain; lower is better.

    Every axis is first scaled to mean 0 and variance 1, so that the score depends neither on the unit nor on the
    origin. A domain of a single observation adds 0 to the sum, and the sum is divided by the number of all
    observations, as in the reference.

    Parameters
    ----------
    coords
        Positions in any unit, (n, 2) or (n, 3).
    labels
        Domain of each observation, (n,).

    Returns
    -------
    A distance in standard deviations of the coordinates, at least 0. It falls as n grows, so compare labellings of the
    same slice only.

    References
    ----------
    Shang and Zhou (2022), Spatially aware dimension reduction for spatial transcriptomics, Nature Communications 13,
    7203 (SpatialPCA, ``fx_CHAOS``).
    """
    xy, codes = _placed(coords, labels)
    spread = xy.std(axis=0, ddof=min(1, len(xy) - 1))  # as R's scale(), which the reference uses
    xy = (xy - xy.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    total = 0.0
    for code in np.unique(codes):
        members = xy[codes == code]
        if len(members) > 1:
            total += cKDTree(members).query(members, k=2)[0][:, 1].sum()
    return float(total / len(xy))


def pas(coords: ArrayLike, labels: ArrayLike, n_neighbors: int = 10) -> float:
    """Compute the share of abnormal spots, unlike most of their neighbourhood; lower is smoother.

    An observation is abnormal when its domain differs from that of more than half of its nearest neighbours (at least 6
    of 10, as in the reference).

    Parameters
    ----------
    coords
        Positions in any unit, (n, 2) or (n, 3); all axes in the same one.
    labels
        Domain of each observation, (n,).
    n_neighbors
        Size of the neighbourhood, the observation itself not counted; fewer if n is smaller.

    Returns
    -------
    A share between 0 and 1.

    References
    ----------
    Shang and Zhou (2022), Spatially aware dimension reduction for spatial transcriptomics, Nature Communications 13,
    7203 (SpatialPCA, ``fx_PAS``).
    """
    xy, codes = _placed(coords, labels)
    if n_neighbors < 1:
        raise InputError(f"n_neighbors must be at least 1, got {n_neighbors}")
    if len(xy) < 2:
        raise InputError("PAS needs at least 2 observations, got 1")
    k = min(n_neighbors, len(xy) - 1)
    near = _others(cKDTree(xy).query(xy, k + 1)[1])
    differing = (codes[near] != codes[:, None]).sum(axis=1)
    return float((2 * differing > k).mean())


def asw(coords: ArrayLike, labels: ArrayLike, *, max_obs: int = 10_000, random_state: int = 0) -> float:
    """Compute the average silhouette width of the domains in space; higher is more compact.

    Parameters
    ----------
    coords
        Positions in any unit, (n, 2) or (n, 3); all axes in the same one.
    labels
        Domain of each observation, (n,).
    max_obs
        Above this number of observations, a random sample of this size is scored, because time grows with its square.
    random_state
        Seed of that sample.

    Returns
    -------
    Between -1 and 1; NaN where it is not defined: a single domain, or no domain with two observations.

    References
    ----------
    Rousseeuw (1987), Silhouettes, Journal of Computational and Applied Mathematics 20, 53-65; used on coordinates by
    Yuan et al. (2024), Benchmarking spatial clustering methods with spatially resolved transcriptomics data, Nature
    Methods 21, 712-722.
    """
    xy, codes = _placed(coords, labels)
    if max_obs < 2:
        raise InputError(f"max_obs must be at least 2, got {max_obs}")
    if len(xy) > max_obs:
        sample = np.random.default_rng(random_state).choice(len(xy), max_obs, replace=False)
        xy, codes = xy[sample], codes[sample]
    n_domains = len(np.unique(codes))
    if not 1 < n_domains < len(xy):
        return float("nan")
    return float(silhouette_score(xy, codes))


def lisi(x: ArrayLike, labels: ArrayLike, *, perplexity: float = 30.0) -> NDArray[np.float64]:
    r"""Compute the local inverse Simpson's index: how many labels there are around each observation in an embedding.

    The neighbours j of observation i, three times the perplexity of them, weigh
    :math:`p_{ij} \propto \exp(-b_i d_{ij})`, with :math:`b_i` such that the entropy of the weights is the logarithm of
    the perplexity. The index is :math:`1 / \sum_l (\sum_{j \in l} p_{ij})^2`. With slices as labels it is called iLISI
    (higher is better mixed), with domains or cell types cLISI (1 is best kept apart).

    Parameters
    ----------
    x
        Embedding, (n, d).
    labels
        Label of each observation, (n,).
    perplexity
        Effective number of neighbours.

    Returns
    -------
    Index of each observation, (n,): 1 where all around have one label, at most the number of labels.

    References
    ----------
    Korsunsky et al. (2019), Fast, sensitive and accurate integration of single-cell data with Harmony, Nature Methods
    16, 1289-1296.
    """
    points, codes = _placed(x, labels)
    k = int(3 * perplexity) if 1 <= perplexity < np.inf else 0
    if not 0 < k < len(points):
        raise InputError(
            f"perplexity must be at least 1 and 3 perplexity below the {len(points)} observations, got {perplexity}"
        )
    distances, near = NearestNeighbors(n_neighbors=k).fit(points).kneighbors()
    weights = _perplexity_weights(distances, perplexity)
    shares = np.stack([(weights * (codes[near] == code)).sum(axis=1) for code in np.unique(codes)], axis=1)
    return np.asarray(1 / np.square(shares).sum(axis=1))


def _perplexity_weights(distances: NDArray[np.float64], perplexity: float) -> NDArray[np.float64]:
    """Weights exp(-b d) of neighbours, rows summing to one, b by bisection for the entropy wanted; (n, k)."""
    distances = distances - distances[:, :1]
    unit = distances.mean(axis=1, keepdims=True)
    distances = np.divide(distances, unit, out=np.zeros_like(distances), where=unit > 0)
    low, high = np.full((len(distances), 1), -20.0), np.full((len(distances), 1), 20.0)  # logarithms of b
    for _ in range(40):
        middle = (low + high) / 2
        weights = np.exp(-np.exp(middle) * distances)
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1, keepdims=True)
        flat = entropy > np.log(perplexity)
        low, high = np.where(flat, middle, low), np.where(flat, high, middle)
    return np.asarray(weights)


def stability(labelings: Sequence[ArrayLike]) -> float:
    """Compute the mean adjusted Rand index over all pairs of labellings, such as those of several seeds.

    Parameters
    ----------
    labelings
        At least two labellings of the same n observations, each (n,).

    Returns
    -------
    1 if all are the same partition under any names, about 0 if they are unrelated.

    References
    ----------
    Hubert and Arabie (1985), Comparing partitions, Journal of Classification 2, 193-218, for the index.
    """
    if len(labelings) < 2:
        raise InputError(f"stability needs at least 2 labelings, got {len(labelings)}")
    codes = [_codes(labels, "labelings") for labels in labelings]
    if len({len(c) for c in codes}) > 1:
        raise InputError(f"labelings must have one length, got {', '.join(str(len(c)) for c in codes)}")
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(codes, 2)]))


def _known(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    true, labels = _column(truth, "truth"), _column(predicted, "predicted")
    if len(true) != len(labels):
        raise InputError(f"truth and predicted must have one length, got {len(true)} and {len(labels)}")
    known = pd.notna(true)
    if not known.any():
        raise InputError("truth has no known entry; at least one is needed")
    return _codes(true[known], "truth"), _codes(labels[known], "predicted")


def _placed(coords: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return positions as floats and labels as integers, checked against each other."""
    xy, codes = np.asarray(coords, dtype=np.float64), _codes(labels, "labels")
    if xy.ndim != 2 or len(xy) != len(codes):
        raise InputError(f"coords must be (n, 2) or (n, 3) with n = {len(codes)} labels, got shape {xy.shape}")
    if len(xy) == 0:
        raise InputError("coords is empty; at least one observation is needed")
    if not np.isfinite(xy).all():
        raise InputError("coords must be finite, got NaN or infinity; leave those observations out")
    return xy, codes


def _column(labels: ArrayLike, name: str) -> NDArray[np.object_]:
    """Return labels of any type as objects, so that NaN among strings does not become the string "nan"."""
    column = np.asarray(labels, dtype=object)
    if column.ndim != 1:
        raise InputError(f"{name} must have one dimension, got shape {column.shape}")
    return column


def _codes(labels: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return labels of any type as integers from 0."""
    codes, _ = pd.factorize(_column(labels, name))
    if (codes < 0).any():
        raise InputError(f"{name} must not have missing values, got {int((codes < 0).sum())} of {len(codes)}")
    return np.asarray(codes, dtype=np.int64)


def _others(near: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop each observation from its own neighbours, (n, k + 1) to (n, k)."""
    own = near == np.arange(len(near))[:, None]
    # Among many observations at one place, an observation may not find itself: then the farthest one goes.
    own[~own.any(axis=1), -1] = True
    others: NDArray[np.int64] = near[~own].reshape(len(near), -1)
    return others

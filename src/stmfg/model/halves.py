"""The domains, found again and again from half of the molecules: arrays in, arrays out.

What comes back is what a domain, and a spot's place in it, can be relied on for; and domains found from one half of the
molecules alone can be tested on the other (Neufeld et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from stmfg._core.blocks import FIT_AT_MOST, Counts
from stmfg.model import cluster, features
from stmfg.model.averages import choose_base, list_averages, prepare_inputs
from stmfg.model.thinning import Half, split_embedding
from stmfg.model.threads import beside
from stmfg.model.vote import Member, cluster_members

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config
    from stmfg.model.averages import Base
    from stmfg.model.plugins import Clusterer

N_STARTS = 2
"""Starts of each clustering of a half: several clusterings vote, and one in a poor optimum is outvoted."""


SHARPNESS = 4
"""Power of the shares of the vote in a half: what most of a few clusterings say, more of them would say more often."""
BESIDE_AT_MOST = 100_000
"""Of more observations halves take long, and what is computed beside cannot be interrupted."""


@dataclass(frozen=True)
class Redraws:
    """What the domains become when half of the molecules are drawn again."""

    labels: NDArray[np.int64]
    """Domain of each spot as the first half alone shows it, codes (n,) of the domains it was matched with."""
    confidence: NDArray[np.float64]
    """Probability that the spot keeps its domain when half of the molecules are drawn again, (n,): how often it does in
    these halves, on average over the spot and its neighbours of the same domain."""
    found_again: NDArray[np.float64]
    """Mean overlap (Jaccard) of each domain with its match in the halves, (k,)."""


def begin_redraws(
    spots: Tissue,
    n_domains: int | None,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[NDArray[np.int64]], Redraws]:
    """Begin to find domains in halves of the molecules, each time from the first step, beside what follows.

    Each half has its own genes, components and averages over neighbours: nothing of the other half is in them. No
    network is trained; the plain averages vote. Halves come in pairs that add up to the whole.

    Parameters
    ----------
    spots
        Prepared observations, see :func:`stmfg.model.inputs.prepare`.
    n_domains
        Number of domains; ``None`` where it is not known yet.
    config
        ``redraws``, the number of halves, and how features and clusters are found.
    random_state
        Seed.
    clusterer
        A user's, in place of ``config.clusterer``.
    device
        Where averages and mixtures are computed.

    Returns
    -------
    What waits for the halves and matches them with domains, codes (n,) from 0 without gaps.
    """

    def fit_bases() -> list[Base]:
        return [
            choose_base(features.fit(take_half(spots, random_state, draw), config, random_state + draw))
            for draw in range(config.redraws)
        ]

    def find(bases: list[Base], k: int) -> list[list[NDArray[Any]]]:
        return _cluster_averages(bases, spots, k, config, random_state, clusterer, device)

    begin = beside if len(spots.coordinates) <= BESIDE_AT_MOST else cache
    if n_domains is None:
        bases = begin(fit_bases)
        return lambda codes: _match_votes(find(bases(), int(codes.max()) + 1), codes, spots.surroundings)
    votes = begin(lambda: find(fit_bases(), n_domains))
    return lambda codes: _match_votes(votes(), codes, spots.surroundings)


def _match_votes(votes: list[list[NDArray[Any]]], codes: NDArray[np.int64], surroundings: csr_matrix) -> Redraws:
    k, overlap = int(codes.max()) + 1, []
    shares = [_match(cluster.consensus(posteriors), codes) for posteriors in votes]
    for matched in shares:
        shared = _count_shared(matched.argmax(axis=1), codes, k)
        overlap.append(np.diag(shared) / np.maximum(shared.sum(axis=1) + shared.sum(axis=0) - np.diag(shared), 1))
    kept = np.mean([_sharpen(matched)[np.arange(len(codes)), codes] for matched in shares], axis=0)
    confidence = _average_within_domains(kept, codes, surroundings)
    return Redraws(shares[0].argmax(axis=1), confidence, np.mean(overlap, axis=0))


def _sharpen(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that each domain wins, (n, k), from its shares of the vote of a few clusterings."""
    powers = shares**SHARPNESS
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _average_within_domains(
    kept: NDArray[np.float64], codes: NDArray[np.int64], graph: csr_matrix
) -> NDArray[np.float64]:
    """Average over each spot and its neighbours of the same domain: a few halves alone say little of one spot."""
    edges = graph.tocoo()
    same = codes[edges.row] == codes[edges.col]
    rows, columns = edges.row[same], edges.col[same]
    total = kept + np.bincount(rows, weights=kept[columns], minlength=len(kept))
    return np.asarray(total / (1 + np.bincount(rows, minlength=len(kept))))


def _cluster_averages(
    bases: list[Base],
    spots: Tissue,
    k: int,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None,
    device: torch.device | str,
) -> list[list[NDArray[Any]]]:
    """Cluster averages over neighbourhoods of every width once, of every half; the neighbours are looked up once."""
    libraries = None if config.stacked else spots.libraries
    settings = config.replace(n_starts=min(N_STARTS, config.n_starts))
    posteriors: list[list[NDArray[Any]]] = [[] for _ in bases]
    how: dict[str, Any] = {"libraries": libraries, "device": device, "mixtures": bases[0].mixtures}
    for average_once in list_averages(spots.coordinates, k, **how):
        for draw, base in enumerate(bases):
            inputs = prepare_inputs(base, plain=libraries is None)
            members = (Member(average_once(average_once(torch.from_numpy(x).to(device))), 1) for x in inputs)
            seed = random_state + draw
            posteriors[draw] += cluster_members(members, k, settings, seed, clusterer, device=device)
    return posteriors


def take_half(spots: Tissue, random_state: int, draw: int) -> Tissue:
    """Return the observations with half of the molecules: halves 0 and 1 add up to the whole, as do 2 and 3."""
    seed, other = random_state + draw // 2, bool(draw % 2)
    if spots.counts is not None:
        half: Counts = Half(spots.counts, spots.names, spots.genes, seed, other=other)
        if half.shape[0] <= FIT_AT_MOST:
            half = Counts(half.rows(slice(None)))  # read twice, dealt once
        return replace(spots, counts=half)
    if spots.representation is None:
        raise ValueError("there is nothing to take half of")
    halves = split_embedding(spots.representation, spots.surroundings, seed)
    return replace(spots, representation=halves[other])


def _match(shares: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bring the columns of a vote (n, k) into the order of the domains they share most spots with, one to one."""
    shared = _count_shared(shares.argmax(axis=1), codes, shares.shape[1])
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return shares[:, rows[np.argsort(columns)]]


def _count_shared(one: NDArray[np.int64], other: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Count the observations of each domain of one labelling (rows) and another (columns), (k, k)."""
    return np.bincount(one * k + other, minlength=k * k).reshape(k, k)

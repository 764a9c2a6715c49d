"""The domains, found again and again from half of the molecules: arrays in, arrays out.

What comes back is what a domain, and a spot's place in it, can be relied on for; and domains found from one half of the
molecules alone can be tested on the other (Neufeld et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from stmfg._core.blocks import subsample
from stmfg.model import cluster, features
from stmfg.model.averages import Base, choose_base, list_averages, prepare_inputs
from stmfg.model.thinning import number_names, take_half
from stmfg.model.threads import beside
from stmfg.model.vote import Member, cluster_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config
    from stmfg.model.plugins import Clusterer

    Codes = NDArray[np.int64]
    Shares = NDArray[np.float64]

SHARPNESS = 4
"""Power of the shares of the vote: what most of a few clusterings say, more of them would say more often."""
NEAR = 10
"""Observations of one domain, the nearest ones, that share what a few redraws say of each."""
FEW = 2000
"""Of more observations with counts half as many halves are drawn: their features take most of the time."""
CLUSTERED = 5000
"""At most so many observations are clustered in a half, but for the first; of fewer, other domains can come."""
LEAST_PER_DOMAIN = 10
"""So many observations per domain are clustered, on average."""
BESIDE_AT_MOST = 100_000
"""Of more observations halves take long, and what is computed beside cannot be interrupted."""


@dataclass(frozen=True)
class Redraws:
    """What the domains become when half of the molecules are drawn again."""

    labels: Codes
    """Domain of each spot as the first half alone shows it, codes (n,) of the domains it was matched with."""
    confidence: NDArray[np.float64]
    """Probability that the spot keeps its domain when half of the molecules are drawn again, (n,)."""
    found_again: NDArray[np.float64]
    """Mean overlap (Jaccard) of each domain with its match in the redraws, (k,)."""


def begin_redraws(
    spots: Tissue,
    n_domains: int | None,
    config: Config,
    random_state: int,
    mixtures: bool | None = None,
    clusterer: Clusterer | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[Codes], Redraws]:
    """Begin to find domains in halves of the molecules, each time from the first step, beside what follows.

    Each half has its own genes, components and averages over neighbours: nothing of the other half is in them. No
    network is trained; the plain averages vote, clustered with as many starts as in a run, all of them of the first
    half and some of the others. Halves come in pairs that add up to the whole. What they say of a spot is the mean over
    the nearest spots of its domain.

    Parameters
    ----------
    spots
        Prepared observations, see :func:`stmfg.model.inputs.prepare`.
    n_domains
        Number of domains; ``None`` where it is not known yet.
    config
        ``redraws``, the number of halves, and how features and clusters are found; half as many are drawn of counts of
        more than ``FEW`` observations.
    random_state
        Seed.
    mixtures
        Whether observations are mixtures of cells; found in each half when not given.
    clusterer
        A user's, in place of ``config.clusterer``.
    device
        Where averages and mixtures are computed.

    Returns
    -------
    What waits for the redraws and matches them with domains, codes (n,) from 0 without gaps.
    """
    n, libraries = len(spots.coordinates), None if config.stacked else spots.libraries
    kind = config
    if mixtures is not None:
        fewer = min(features.N_LEADING, config.n_components) if mixtures else config.n_components
        kind = config.replace(features="components" if mixtures else "factors", n_components=fewer)

    def fit_bases() -> Iterator[Base]:
        numbered = spots if spots.counts is None else replace(spots, names=number_names(spots.names))  # once for all
        for draw in range(config.redraws if spots.counts is None or n <= FEW else -(-config.redraws // 2)):
            half = take_half(numbered, random_state + draw // 2, other=bool(draw % 2))
            yield choose_base(features.fit(half, kind, random_state + draw), kind)

    def draw_rows(k: int) -> Codes:
        return subsample(n, max(CLUSTERED, LEAST_PER_DOMAIN * k), random_state)

    def find(bases: Iterable[Base], k: int) -> list[Shares]:
        """Return the vote of the first half on all observations, and that of each other on some."""
        averages: list[Callable[[Tensor], Tensor]] = []
        votes, rows = [], draw_rows(k)
        for draw, base in enumerate(bases):
            averages = averages or list(list_averages(base, spots.coordinates, k, libraries, device))
            inputs = [torch.from_numpy(x).to(device) for x in prepare_inputs(base, plain=libraries is None)]
            of = rows if draw else slice(None)
            members = (Member(once(once(x))[of], 1) for once in averages for x in inputs)
            seed = random_state + draw
            votes.append(cluster.consensus(cluster_members(members, k, config, seed, clusterer, device=device)))
        return votes

    def match(votes: list[Shares], codes: Codes) -> Redraws:
        k = int(codes.max()) + 1
        rows, shared = draw_rows(k), np.zeros((k, k))
        kept, first = np.zeros(len(rows)), _match(votes[0], codes)
        for matched in [first[rows], *(_match(shares, codes[rows]) for shares in votes[1:])]:
            shared += _count_shared(matched.argmax(axis=1), codes[rows], k)
            powers = matched**SHARPNESS
            kept += powers[np.arange(len(rows)), codes[rows]] / powers.sum(axis=1) / len(votes)
        both = np.diag(shared)
        overlap = both / np.maximum(shared.sum(axis=1) + shared.sum(axis=0) - both, 1)
        confidence = _average_within_domains(kept, rows, codes, spots.coordinates, libraries)
        return Redraws(first.argmax(axis=1), confidence, overlap)

    is_safe = clusterer is None and config.clusterer != "leiden" and torch.device(device).type == "cpu"
    begin = beside if is_safe and len(spots.coordinates) <= BESIDE_AT_MOST else cache
    if n_domains is None:
        bases = begin(lambda: list(fit_bases()))
        return lambda codes: match(find(bases(), int(codes.max()) + 1), codes)
    votes = begin(lambda: find(fit_bases(), n_domains))
    return lambda codes: match(votes(), codes)


def _average_within_domains(
    kept: NDArray[np.float64],
    rows: Codes,
    codes: Codes,
    coordinates: NDArray[np.float64],
    libraries: Codes | None,
) -> NDArray[np.float64]:
    """Average over the nearest of some rows that are in the same domain and slice, (n,); of all where none is."""
    confidence = np.full(len(codes), kept.mean())
    group = codes if libraries is None else codes * (libraries.max() + 1) + libraries
    for code in np.unique(group[rows]):
        inside, near = np.flatnonzero(group == code), np.flatnonzero(group[rows] == code)
        nearest = cKDTree(coordinates[rows[near]]).query(coordinates[inside], min(NEAR, len(near)))[1]
        confidence[inside] = kept[near][nearest.reshape(len(inside), -1)].mean(axis=1)
    return confidence


def _match(shares: Shares, codes: Codes) -> Shares:
    """Bring the columns of a vote (n, k) into the order of the domains they share most spots with, one to one."""
    shared = _count_shared(shares.argmax(axis=1), codes, shares.shape[1])
    rows, columns = linear_sum_assignment(shared, maximize=True)
    return shares[:, rows[np.argsort(columns)]]


def _count_shared(one: Codes, other: Codes, k: int) -> NDArray[np.int64]:
    """Count the observations of each domain of one labelling (rows) and another (columns), (k, k)."""
    return np.bincount(one * k + other, minlength=k * k).reshape(k, k)

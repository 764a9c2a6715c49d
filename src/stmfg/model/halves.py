"""The domains, found again and again from half of the molecules: arrays in, arrays out.

What comes back is what a domain, and a spot's place in it, can be relied on for; and domains found from one half of the
molecules alone can be tested on the other (Neufeld et al. 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from stmfg._core.blocks import FIT_AT_MOST, Counts, subsample
from stmfg.model import cluster, features, offsets, survey
from stmfg.model.averages import Base, choose_base, list_averages, prepare_inputs
from stmfg.model.graphs import walk_operator
from stmfg.model.thinning import Half, split_embedding
from stmfg.model.threads import beside
from stmfg.model.vote import Member, cluster_members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config
    from stmfg.model.plugins import Clusterer

    Codes = NDArray[np.int64]
    Shares = NDArray[np.float64]

SHARPNESS = 4
"""Power of the shares of the vote: what most of a few clusterings say, more of them would say more often."""
NEAR = 10
"""Observations of one domain, the nearest ones, that share what a few redraws say of each."""
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


class _Halves(NamedTuple):
    """Two halves of the molecules."""

    first: Base
    """What is averaged of the first one."""
    axes: tuple[NDArray[np.float32], ...]
    """Both along the axes of the whole, (n, d) each; nothing of an embedding, which is cheap to draw again."""


def begin_redraws(
    spots: Tissue,
    n_domains: int | None,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
    device: torch.device | str = "cpu",
) -> Callable[[Codes], Redraws]:
    """Begin to find domains in halves of the molecules, beside what follows.

    The first half is taken from the first step, with genes, components and averages of its own: nothing of the other
    half is in it. How far both halves are from their middle, along the principal axes of the whole, is the noise of
    each spot; with another sign at each spot it is that of a half that could have been drawn as well (the wild
    bootstrap, Wu 1986), and costs no pass over the counts. No network is trained: the plain averages of a subsample
    vote, and what redraws say of a spot is the mean over the nearest spots of its domain.

    Parameters
    ----------
    spots
        Prepared observations, see :func:`stmfg.model.inputs.prepare`.
    n_domains
        Number of domains; ``None`` where it is not known yet.
    config
        ``redraws``, how often, and how features and clusters are found.
    random_state
        Seed.
    clusterer
        A user's, in place of ``config.clusterer``.
    device
        Where averages and mixtures are computed.

    Returns
    -------
    What waits for the redraws and matches them with domains, codes (n,) from 0 without gaps.
    """
    libraries = None if config.stacked else spots.libraries

    def fit_halves() -> _Halves:
        return _fit_halves(spots, config, random_state)

    def draw_rows(k: int) -> Codes:
        return subsample(len(spots.coordinates), max(survey.FIT_AT_MOST, LEAST_PER_DOMAIN * k), random_state)

    def find(halves: _Halves, k: int) -> list[Shares]:
        """Return the vote of the first half on all observations, and that of each redraw on some."""
        averages = list(list_averages(spots.coordinates, k, libraries, device, mixtures=halves.first.mixtures))

        def vote(base: Base, of: Codes | slice, seed: int) -> Shares:
            inputs = [torch.from_numpy(x).to(device) for x in prepare_inputs(base, plain=libraries is None)]
            members = (Member(once(once(x))[of], 1) for once in averages for x in inputs)
            return cluster.consensus(cluster_members(members, k, config, seed, clusterer, device=device))

        rows, redraws = draw_rows(k), enumerate(_redraw(halves, spots, config, random_state))
        return [
            vote(halves.first, slice(None), random_state),
            *(vote(base, rows, random_state + draw) for draw, base in redraws),
        ]

    def match(votes: list[Shares], codes: Codes) -> Redraws:
        k = int(codes.max()) + 1
        rows, shared = draw_rows(k), np.zeros((k, k))
        kept = np.zeros(len(rows))
        for shares in votes[1:]:
            matched = _match(shares, codes[rows])
            shared += _count_shared(matched.argmax(axis=1), codes[rows], k)
            powers = matched**SHARPNESS
            kept += powers[np.arange(len(rows)), codes[rows]] / powers.sum(axis=1) / len(votes[1:])
        both = np.diag(shared)
        overlap = both / np.maximum(shared.sum(axis=1) + shared.sum(axis=0) - both, 1)
        confidence = _average_within_domains(kept, rows, codes, spots.coordinates, libraries)
        return Redraws(_match(votes[0], codes).argmax(axis=1), confidence, overlap)

    begin = beside if len(spots.coordinates) <= BESIDE_AT_MOST else cache
    if n_domains is None:
        halves = begin(fit_halves)
        return lambda codes: match(find(halves(), int(codes.max()) + 1), codes)
    votes = begin(lambda: find(fit_halves(), n_domains))
    return lambda codes: match(votes(), codes)


def _fit_halves(spots: Tissue, config: Config, random_state: int) -> _Halves:
    halves = [take_half(spots, random_state, other) for other in (False, True)]
    first = choose_base(features.fit(halves[0], config, random_state))
    if spots.counts is None:
        return _Halves(first, ())
    fewer = min(features.N_LEADING, config.n_components) if first.mixtures else config.n_components
    whole = features.fit_counts(spots.counts, config.replace(n_components=fewer), random_state, spots.libraries)[2]
    return _Halves(first, tuple(features.apply_map(whole, half.counts, log1p=config.log1p) for half in halves))


def _redraw(halves: _Halves, spots: Tissue, config: Config, random_state: int) -> Iterator[Base]:
    """Yield what is averaged where half of the molecules are drawn again, in pairs that add up to the whole."""
    operator, libraries = walk_operator(spots.surroundings), spots.libraries
    rotation, groups = None, None
    for draw in range(config.redraws):
        if halves.axes:
            one, other = halves.axes
            signs = np.random.default_rng([random_state, draw // 2]).choice([-0.5, 0.5], (len(one), 1)) * (-1) ** draw
            components = scores = (one + other) / 2 + signs.astype(np.float32) * (one - other)
        else:
            drawn = take_half(spots, random_state + draw // 2, bool(draw % 2)).representation
            components, scores, _ = features.fit_representation(np.asarray(drawn), libraries)
        # Of much tissue the rotation is known well, and takes long.
        if rotation is None or (not halves.first.mixtures and len(scores) <= FIT_AT_MOST):
            rotation = features.spatial_factors(offsets.centred(scores, libraries), operator, config)[0]
            groups = offsets.find_groups((scores @ rotation).astype(np.float32), libraries)
        values = (scores @ rotation).astype(np.float32)
        if halves.first.mixtures:
            values = components[:, : features.limit_components(features.N_LEADING, len(components))]
            values = offsets.align(values, libraries, groups)
        else:
            values = offsets.align(values, libraries)
        yield halves.first.with_values(values)


def take_half(spots: Tissue, random_state: int, other: bool) -> Tissue:
    """Return the observations with one half of the molecules; it and the ``other`` add up to the whole."""
    if spots.counts is not None:
        half: Counts = Half(spots.counts, spots.names, spots.genes, random_state, other=other)
        if half.shape[0] <= FIT_AT_MOST:
            half = Counts(half.rows(slice(None)))  # read twice, dealt once
        return replace(spots, counts=half)
    if spots.representation is None:
        raise ValueError("there is nothing to take half of")
    return replace(spots, representation=split_embedding(spots.representation, spots.surroundings, random_state)[other])


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

"""The clusterings that vote on the domains: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg.config import PLUG_IN
from stmfg.errors import InputError
from stmfg.model import cluster
from stmfg.model.plugins import cluster_with
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from stmfg.config import Config
    from stmfg.model.plugins import Clusterer

OWN_FROM = 200
"""A slice of fewer observations has too few for clusterings of its own."""
OWN_WEIGHT = 1.0
AVERAGES_VOTE_LESS = 2
"""How much less often an average is clustered than a layer of the network: there are more of them."""


@dataclass(frozen=True)
class Member:
    """An embedding that is clustered on its own, (n, d), and how often."""

    values: NDArray[Any] | Tensor
    n_votes: int


def list_members(
    embedding: NDArray[np.float32], widths: list[int], averages: Iterable[NDArray[Any] | Tensor], config: Config
) -> Iterator[Member]:
    """Yield what is clustered, one at a time: the embedding, the fused features of every layer, and plain averages.

    Parameters
    ----------
    embedding
        (n, d).
    widths
        Columns that belong to each layer, in order.
    averages
        Each (n, any number), see :func:`stmfg.model.averages.average`; asked for one at a time, as they are large.
    config
        ``n_votes``, ``scales``.
    """
    yield Member(embedding, config.n_votes)
    if config.scales == "every" and len(widths) > 1:
        for part in np.split(embedding, np.cumsum(widths)[:-1], axis=1):
            yield Member(part, config.n_votes)
    for values in averages:
        yield Member(values, max(1, config.n_votes // AVERAGES_VOTE_LESS))


def cluster_members(
    members: Iterable[Member],
    n_domains: int,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
    *,
    device: torch.device | str = "cpu",
) -> list[NDArray[Any]]:
    """Cluster every member as often as it votes; posteriors, each (n, n_domains), see :func:`cluster.mixtures`.

    Members are clustered by as many threads as there are cores, each member by one, so that no posterior hangs on the
    number of cores; no more members than that are held at a time.

    Parameters
    ----------
    members
        What is clustered.
    n_domains
        Number of clusters.
    config
        ``clusterer``, ``n_starts``.
    random_state
        Seed.
    clusterer
        A user's, in place of ``config.clusterer``.
    device
        Where mixtures are fitted.
    """
    return _cluster_slices(members, [slice(None)], n_domains, config, random_state, clusterer, device)[0]


def _cluster_slices(
    members: Iterable[Member],
    slices: Sequence[NDArray[np.int64] | slice],
    n_domains: int,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None,
    device: torch.device | str,
) -> list[list[NDArray[Any]]]:
    """Cluster the members of all observations, the first of the slices, and half as often of some by themselves."""
    if clusterer is None and config.clusterer.startswith(PLUG_IN):
        raise InputError(f"clusterer={config.clusterer!r} was a function of a user's own; give it again")

    def cluster_once(x: NDArray[Any] | Tensor, seeds: list[int]) -> list[NDArray[Any]]:
        if clusterer is None and config.clusterer == "mixture":
            return cluster.mixtures(x, n_domains, seeds, n_starts=config.n_starts, device=device)
        values = torch.as_tensor(x).cpu().numpy()
        if clusterer is not None:
            return [cluster_with(clusterer, values, n_domains, seed).astype(np.float32) for seed in seeds]
        method: Clusterer = getattr(cluster, config.clusterer)
        return [method(values, n_domains, n_starts=config.n_starts, random_state=seed) for seed in seeds]

    def cluster_all(task: tuple[Member, list[list[int]]]) -> list[list[NDArray[Any]]]:
        member, seeds = task
        return [cluster_once(member.values[rows], each) for rows, each in zip(slices, seeds, strict=True)]

    def draw_seeds() -> Iterator[tuple[Member, list[list[int]]]]:
        rngs = [np.random.default_rng(random_state) for _ in slices]
        for member in members:
            times = [member.n_votes, *[max(1, member.n_votes // 2)] * (len(slices) - 1)]
            yield member, [rng.integers(2**31, size=n).tolist() for rng, n in zip(rngs, times, strict=True)]

    # Others than ours may not be safe in threads, as Leiden is not, and a GPU does one thing at a time.
    in_threads = clusterer is None and config.clusterer != "leiden" and torch.device(device).type == "cpu"
    clustered = map_in_order(cluster_all, draw_seeds(), n_threads=None if in_threads else 1)
    return [[posterior for some in of_slice for posterior in some] for of_slice in zip(*clustered, strict=True)]


def vote(
    members: Iterable[Member],
    n_domains: int,
    config: Config,
    random_state: int,
    *,
    libraries: NDArray[np.int64] | None = None,
    clusterer: Clusterer | None = None,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Find the domains: the consensus of all clusterings, and of several slices also those of each slice by itself.

    The clusterings of all slices decide which domains there are; where their borders lie is told better by those that
    need not suit other slices, so these have as large a say (``OWN_WEIGHT``). Each of their clusters counts for the
    domain it shares most with: a slice that lacks a domain keeps lacking it, and what it splits further stays one.

    Parameters
    ----------
    members, n_domains, config, random_state, clusterer, device
        As in :func:`cluster_members`. A slice's own clusterings are half as many, so none where ``n_votes`` is 1.
    libraries
        Slice of each observation, codes (n,) from 0; ``None`` of a single slice.

    Returns
    -------
    Share of the vote, (n, n_domains).
    """
    large: list[NDArray[np.int64]] = []
    if libraries is not None and config.n_votes > 1:
        large = [np.flatnonzero(libraries == code) for code in range(libraries.max() + 1)]
        large = [rows for rows in large if len(rows) >= max(OWN_FROM, n_domains)]
    everything, *parts = _cluster_slices(
        members, [slice(None), *large], n_domains, config, random_state, clusterer, device
    )
    shares = cluster.consensus(everything)
    for rows, posteriors in zip(large, parts, strict=True):
        shares[rows] = add_own(shares[rows], posteriors)
    return shares


def add_own(shares: NDArray[np.float64], posteriors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """Join the vote on a slice, (n, k), with the clusterings of the slice by itself."""
    return np.asarray((shares + OWN_WEIGHT * cluster.map_clusters(posteriors, shares)) / (1 + OWN_WEIGHT))

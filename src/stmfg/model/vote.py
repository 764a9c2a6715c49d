"""The clusterings that vote on the domains, and the evidence for their number: arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stmfg.config import PLUG_IN
from stmfg.errors import InputError
from stmfg.model import cluster
from stmfg.model.plugins import cluster_with

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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

    values: NDArray[Any]
    n_votes: int

    def subset(self, rows: NDArray[np.int64], n_votes: int) -> Member:
        """Return the same of some observations."""
        return Member(self.values[rows], n_votes)


def list_members(
    embedding: NDArray[np.float32], widths: list[int], averages: Sequence[NDArray[Any]], config: Config
) -> list[Member]:
    """List what is clustered: the embedding, the fused features of every layer, and plain averages.

    Parameters
    ----------
    embedding
        (n, d).
    widths
        Columns that belong to each layer, in order.
    averages
        Each (n, any number), see :func:`stmfg.model.averages.average`.
    config
        ``n_votes``, ``scales``.
    """
    parts = [embedding]
    if config.scales == "every" and len(widths) > 1:
        parts += np.split(embedding, np.cumsum(widths)[:-1], axis=1)
    members = [Member(part, config.n_votes) for part in parts]
    return members + [Member(x, max(1, config.n_votes // AVERAGES_VOTE_LESS)) for x in averages]


def cluster_members(
    members: Sequence[Member],
    n_domains: int,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
) -> list[NDArray[np.float64]]:
    """Cluster every member as often as it votes; posteriors, each (n, n_domains).

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
    """
    if clusterer is None and config.clusterer.startswith(PLUG_IN):
        raise InputError(f"clusterer={config.clusterer!r} was a function of a user's own; give it again")

    def cluster_once(x: NDArray[Any], seed: int) -> NDArray[np.float64]:
        if clusterer is not None:
            return cluster_with(clusterer, x, n_domains, seed)
        method: Clusterer = getattr(cluster, config.clusterer)
        return method(x, n_domains, n_starts=config.n_starts, random_state=seed)

    rng = np.random.default_rng(random_state)
    with threadpool_limits(1):  # the matrices are small: threads would wait for each other more than they work
        return [
            cluster_once(member.values, int(seed)).astype(np.float32)
            for member in members
            for seed in rng.integers(2**31, size=member.n_votes)
        ]


def vote(
    members: Sequence[Member],
    n_domains: int,
    config: Config,
    random_state: int,
    *,
    libraries: NDArray[np.int64] | None = None,
    clusterer: Clusterer | None = None,
) -> NDArray[np.float64]:
    """Find the domains: the consensus of all clusterings, and of several slices also those of each slice by itself.

    The clusterings of all slices decide which domains there are; where their borders lie is told better by those that
    need not suit other slices, so these have as large a say (``OWN_WEIGHT``). Each of their clusters counts for the
    domain it shares most with: a slice that lacks a domain keeps lacking it, and what it splits further stays one.

    Parameters
    ----------
    members, n_domains, config, random_state, clusterer
        As in :func:`cluster_members`. A slice's own clusterings are half as many, so none where ``n_votes`` is 1.
    libraries
        Slice of each observation, codes (n,) from 0; ``None`` of a single slice.

    Returns
    -------
    Share of the vote, (n, n_domains).
    """
    shares = cluster.consensus(cluster_members(members, n_domains, config, random_state, clusterer))
    if libraries is None or config.n_votes < 2:
        return shares
    for code in range(libraries.max() + 1):
        rows = np.flatnonzero(libraries == code)
        if len(rows) >= max(OWN_FROM, n_domains):
            own = [member.subset(rows, max(1, member.n_votes // 2)) for member in members]
            posteriors = cluster_members(own, n_domains, config, random_state, clusterer)
            of_slice = cluster.map_clusters(posteriors, shares[rows])
            shares[rows] = (shares[rows] + OWN_WEIGHT * of_slice) / (1 + OWN_WEIGHT)
    return shares


def choose_n_domains(
    embedding: NDArray[np.float32], neighbourhood: float, config: Config, random_state: int
) -> pd.Series[float]:
    """Measure the evidence for every number of domains that is tried.

    It is that of the mixture on the embedding (n, d), see :func:`stmfg.model.cluster.evidence`, where a spot and the
    neighbours it was averaged with, ``neighbourhood`` spots on average, count as one independent observation: taken one
    each, they would support ever more domains.

    Returns
    -------
    Evidence in nats less that of the best number, so at most 0, indexed by k from 3 to 15.
    """
    candidates = range(3, max(4, min(15, len(embedding) // 10) + 1))
    with threadpool_limits(1):
        evidence = [
            cluster.evidence(
                embedding, k, independent=1 / neighbourhood, n_starts=config.n_starts, random_state=random_state
            )
            for k in candidates
        ]
    return pd.Series(evidence, index=list(candidates)) - max(evidence)

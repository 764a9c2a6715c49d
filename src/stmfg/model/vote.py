"""The clusterings that vote on the domains, and the evidence for their number: arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stmfg.model import cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stmfg.config import Config

OWN_FROM = 200
"""A slice of fewer observations has too few for clusterings of its own."""
OWN_WEIGHT = 2.0


def clusterings(
    embedding: NDArray[np.float32], scales: list[int], n_domains: int, config: Config, random_state: int
) -> list[NDArray[np.float64]]:
    """Cluster the embedding and the fused features of every layer, several times each.

    Parameters
    ----------
    embedding
        (n, d).
    scales
        Columns that belong to each layer, in order.
    n_domains
        Number of clusters.
    config
        ``clusterer``, ``n_starts``, ``n_votes``, ``scales``.
    random_state
        Seed.

    Returns
    -------
    Posteriors, each (n, n_domains).
    """
    method: Callable[..., NDArray[np.float64]] = getattr(cluster, config.clusterer)
    parts = [embedding]
    if config.scales == "every" and len(scales) > 1:
        parts += np.split(embedding, np.cumsum(scales)[:-1], axis=1)
    seeds = np.random.default_rng(random_state).integers(2**31, size=(len(parts), config.n_votes))
    with threadpool_limits(1):  # the matrices are small: threads would wait for each other more than they work
        return [
            method(part, n_domains, n_starts=config.n_starts, random_state=int(seed)).astype(np.float32)
            for part, row in zip(parts, seeds, strict=True)
            for seed in row
        ]


def vote(
    embedding: NDArray[np.float32],
    scales: list[int],
    n_domains: int,
    config: Config,
    random_state: int,
    libraries: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Find the domains: the consensus of all clusterings, and of several slices also those of each slice by itself.

    The clusterings of all slices decide which domains there are; where their borders lie is told better by those that
    need not suit other slices, so these have the larger say (``OWN_WEIGHT``). Each of their clusters counts for the
    domain it shares most with: a slice that lacks a domain keeps lacking it, and what it splits further stays one.

    Parameters
    ----------
    embedding, scales, n_domains, config, random_state
        As in :func:`clusterings`. A slice's own clusterings are half as many, so none where ``n_votes`` is 1.
    libraries
        Slice of each observation, codes (n,) from 0; ``None`` of a single slice.

    Returns
    -------
    Share of the vote, (n, n_domains).
    """
    shares = cluster.consensus(clusterings(embedding, scales, n_domains, config, random_state))
    if libraries is None or config.n_votes < 2:
        return shares
    own = config.replace(n_votes=config.n_votes // 2)
    for code in range(libraries.max() + 1):
        here = np.flatnonzero(libraries == code)
        if len(here) >= max(OWN_FROM, n_domains):
            members = clusterings(embedding[here], scales, n_domains, own, random_state)
            mapped = cluster.mapped(members, shares[here])
            shares[here] = (shares[here] + OWN_WEIGHT * mapped) / (1 + OWN_WEIGHT)
    return shares


def choose_n_domains(
    embedding: NDArray[np.float32], neighbourhood: float, config: Config, random_state: int
) -> pd.Series[float]:
    """Measure the evidence for every number of domains that is tried.

    It is that of the mixture on the embedding (:func:`stmfg.model.cluster.evidence`), where a spot and the neighbours
    it was averaged with count as one independent observation: taken one each, they would support ever more domains.

    Parameters
    ----------
    embedding
        (n, d).
    neighbourhood
        Spots in a neighbourhood: the mean number of spatial neighbours, and the spot itself.
    config
        ``n_starts``.
    random_state
        Seed.

    Returns
    -------
    Evidence in nats less that of the best number, so at most 0, indexed by k from 3 to 15.
    """
    candidates = range(3, max(4, min(15, len(embedding) // 10) + 1))
    with threadpool_limits(1):
        found = [
            cluster.evidence(
                embedding, k, independent=1 / neighbourhood, n_starts=config.n_starts, random_state=random_state
            )
            for k in candidates
        ]
    return pd.Series(found, index=list(candidates)) - max(found)

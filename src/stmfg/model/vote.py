"""The clusterings that vote on the domains, and the evidence for their number: arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stmfg.config import PLUG_IN
from stmfg.errors import InputError
from stmfg.model import cluster
from stmfg.model.plugins import cluster_with

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg.config import Config
    from stmfg.model.plugins import Clusterer

OWN_FROM = 200
"""A slice of fewer observations has too few for clusterings of its own."""
OWN_WEIGHT = 2.0


def cluster_often(
    embedding: NDArray[np.float32],
    widths: list[int],
    n_domains: int,
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
) -> list[NDArray[np.float64]]:
    """Cluster an embedding (n, d) and the features of every layer, several times each; posteriors (n, n_domains).

    ``widths`` are the columns of each layer, in order; a user's ``clusterer`` takes the place of ``config.clusterer``.
    """
    parts = [embedding]
    if config.scales == "every" and len(widths) > 1:
        parts += np.split(embedding, np.cumsum(widths)[:-1], axis=1)
    seeds = np.random.default_rng(random_state).integers(2**31, size=(len(parts), config.n_votes))

    if clusterer is None and config.clusterer.startswith(PLUG_IN):
        raise InputError(f"clusterer={config.clusterer!r} was a function of a user's own; give it again")

    def one(x: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
        if clusterer is not None:
            return cluster_with(clusterer, x, n_domains, seed)
        method: Clusterer = getattr(cluster, config.clusterer)
        return method(x, n_domains, n_starts=config.n_starts, random_state=seed)

    with threadpool_limits(1):  # the matrices are small: threads would wait for each other more than they work
        return [one(part, int(seed)).astype(np.float32) for part, row in zip(parts, seeds, strict=True) for seed in row]


def vote(
    embedding: NDArray[np.float32],
    widths: list[int],
    n_domains: int,
    config: Config,
    random_state: int,
    *,
    libraries: NDArray[np.int64] | None = None,
    clusterer: Clusterer | None = None,
) -> NDArray[np.float64]:
    """Find the domains: the consensus of all clusterings, and of several slices also those of each slice by itself.

    The clusterings of all slices decide which domains there are; where their borders lie is told better by those that
    need not suit other slices. These have the larger say (``OWN_WEIGHT``), though they are half as many, and none where
    ``n_votes`` is 1. Each of their clusters counts for the domain it shares most with: what a slice lacks it keeps
    lacking, and what it splits further stays one. Arguments as in :func:`cluster_often`, and the slice of each
    observation, codes (n,) from 0; returns the share of the vote, (n, n_domains).
    """
    shares = cluster.consensus(cluster_often(embedding, widths, n_domains, config, random_state, clusterer))
    if libraries is None or config.n_votes < 2:
        return shares
    own = config.replace(n_votes=config.n_votes // 2)
    for code in range(libraries.max() + 1):
        rows = np.flatnonzero(libraries == code)
        if len(rows) >= max(OWN_FROM, n_domains):
            members = cluster_often(embedding[rows], widths, n_domains, own, random_state, clusterer)
            of_slice = cluster.map_clusters(members, shares[rows])
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

"""The clusterings that vote on the domains, and the evidence for their number: arrays in, arrays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from stmfg import cluster

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stmfg.config import Config


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


def choose_n_domains(
    embedding: NDArray[np.float32], neighbourhood: float, config: Config, random_state: int
) -> pd.Series[float]:
    """Measure the evidence for every number of domains that is tried.

    It is that of the mixture on the embedding (:func:`stmfg.cluster.evidence`), where a spot and the neighbours it was
    averaged with count as one independent observation: taken one each, they would support ever more domains.

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

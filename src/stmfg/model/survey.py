"""Clusterings of the members of a vote at every number of domains: what a tree and a choice of number are made from.

There are many of them, so each has one start and sees a subsample; what it finds can be asked of any observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from stmfg._core.blocks import BLOCK, subsample
from stmfg.model.mixture import Mixture, fit_likeliest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stmfg.model.vote import Member

FIT_AT_MOST = 2000
"""Observations that are clustered."""
OF_EACH = 30
"""Observations of every domain that are among them, where it has so many."""
SEED = 0
"""The same whatever the seed of a run: what is surveyed should depend on the data."""


@dataclass(frozen=True)
class Clustering:
    """A mixture of one member of the vote."""

    values: NDArray[Any]  # (n, d)
    center: NDArray[np.float64]
    scale: float
    mixture: Mixture

    def posterior(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the posterior of some observations, (m, k)."""
        return self.mixture.posterior((self.values[rows].astype(np.float64) - self.center) / self.scale)


@dataclass(frozen=True)
class Survey:
    """Clusterings at several numbers."""

    rows: NDArray[np.int64]
    """Observations that were clustered, (m,)."""
    clusterings: dict[int, list[Clustering]]
    """By number of clusters."""

    def profile(self, k: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return which clusters observations are in, (m, number of clusterings times k).

        The squared distance of two rows is the share of clusterings that tell them apart, times two.
        """
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        made = [np.hstack([c.posterior(block) for c in self.clusterings[k]]).astype(np.float32) for block in blocks]
        return np.concatenate(made) / np.float32(np.sqrt(len(self.clusterings[k])))


def make_survey(members: Sequence[Member], numbers: Iterable[int], labels: NDArray[np.int64] | None = None) -> Survey:
    """Cluster every member once at every number.

    Parameters
    ----------
    members
        What is clustered.
    numbers
        Numbers of clusters.
    labels
        Domains (n,) of which each has to be seen.
    """
    n = len(members[0].values)
    rows = subsample(n, FIT_AT_MOST, SEED)
    if labels is not None and len(rows) < n:
        first = [np.flatnonzero(labels == code)[:OF_EACH] for code in np.unique(labels)]
        rows = np.unique(np.concatenate([rows, *first]))
    clusterings: dict[int, list[Clustering]] = {k: [] for k in numbers if k <= len(rows)}
    with threadpool_limits(1):  # the matrices are small
        for i, member in enumerate(members):
            x = member.values[rows].astype(np.float64)
            center = x.mean(axis=0)
            scale = max(float((x - center).std()), 1e-12)
            x = (x - center) / scale
            for k, fits in clusterings.items():
                fits.append(Clustering(member.values, center, scale, fit_likeliest(x, k, [1000 * i + k])))
    return Survey(rows, clusterings)

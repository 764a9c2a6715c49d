"""Clusterings of the members of a vote at every number of domains: what a tree and a choice of number are made from.

There are many of them, so each has one start and sees a subsample; what it finds can be asked of any observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stmfg._core.blocks import BLOCK, subsample
from stmfg.model.mixture import Mixtures, fit_mixtures
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

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

    values: Tensor  # (n, d)
    center: Tensor
    scale: float
    mixture: Mixtures
    k: int

    def posterior(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the posterior of some observations, (m, k)."""
        x = (self.values[torch.from_numpy(rows).to(self.values.device)] - self.center) / self.scale
        return self.mixture.assign(x)[0][0, : self.k].T.cpu().numpy()


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
    numbers = [k for k in numbers if k <= len(rows)]

    def cluster_member(task: tuple[int, Member]) -> list[Clustering]:
        i, member = task
        values = torch.as_tensor(member.values)
        x = values[torch.from_numpy(rows).to(values.device)]
        center = x.mean(dim=0)
        scale = max(float((x - center).std(correction=0)), 1e-12)
        fitted = fit_mixtures((x - center) / scale, numbers, [1000 * i + k for k in numbers])
        return [Clustering(values, center, scale, fitted[[j]], k) for j, k in enumerate(numbers)]

    by_member = list(map_in_order(cluster_member, enumerate(members)))
    return Survey(rows, {k: [of_member[j] for of_member in by_member] for j, k in enumerate(numbers)})

"""Clusterings at every number of domains: what the number is chosen from, and the tree of domains made of.

What is clustered are averages over neighbourhoods of several widths, as in the vote, around a subsample, so that a
survey costs the same whatever the number of observations. It depends on the data and not on the seed of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from stmfg._core.blocks import subsample
from stmfg.model.averages import prepare_inputs
from stmfg.model.mixture import fit_mixtures
from stmfg.model.threads import map_in_order
from stmfg.model.widths import choose_widths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from stmfg.model.averages import Base

FIT_AT_MOST = 2000
"""Observations that are clustered."""
N_CLUSTERINGS = 12
"""At least so many at each number."""
MOST = 30
"""Clusterings of more than that say little of tissue, and take long."""
TYPICAL = 7
"""Number of domains that the widths of the averages suit."""


@dataclass(frozen=True)
class Survey:
    """Clusterings at several numbers."""

    rows: NDArray[np.int64]
    """Observations that were clustered, (m,)."""
    posteriors: dict[int, NDArray[np.float32]]
    """By number of clusters k: posteriors (m, clusterings, k)."""
    of_member: NDArray[np.int64]
    """Average that each clustering is of, (clusterings,)."""

    def first(self, n_clusterings: int) -> Survey:
        """Return the survey with the first of its clusterings, at least so many."""
        n = len(set(self.of_member.tolist()))
        n *= -(-n_clusterings // n)
        return Survey(self.rows, {k: p[:, :n] for k, p in self.posteriors.items()}, self.of_member[:n])

    def at(self, k: int) -> NDArray[np.float32]:
        """Return the posteriors at a number, or at the largest that there is below it."""
        return self.posteriors[min(k, max(self.posteriors))]

    def profile(self, k: int) -> NDArray[np.float32]:
        """Return which clusters the observations are in, (m, clusterings times k).

        The squared distance of two rows is twice the share of the clusterings that tell them apart.
        """
        posteriors = self.at(k)
        return posteriors.reshape(len(posteriors), -1) / np.float32(np.sqrt(posteriors.shape[1]))


def survey(
    base: Base | None,
    embedding: NDArray[np.float32],
    coordinates: NDArray[np.float64],
    libraries: NDArray[np.int64] | None,
    numbers: Iterable[int],
    n_clusterings: int = N_CLUSTERINGS,
    *,
    random_state: int = 0,
) -> Survey:
    """Cluster a subsample at several numbers.

    Parameters
    ----------
    base
        What is averaged; without, the embedding is clustered.
    embedding
        (n, d).
    coordinates
        Positions, (n, 2) or (n, 3).
    libraries
        Slice of each observation, codes (n,); ``None`` of a single slice.
    numbers
        Numbers of clusters; those above the number of observations, and above ``MOST``, are left out.
    n_clusterings
        At least so many of each number, each average as often as the others.
    random_state
        Seed of the starts. It is no seed of a run, whose number of domains does not hang on chance.
    """
    # Taken in the order of their places, which no seed has a part in.
    rows = np.lexsort(coordinates.T)[subsample(len(coordinates), FIT_AT_MOST, 0)]
    members = list(_average_around(rows, base, coordinates, libraries)) if base is not None else [embedding[rows]]
    numbers = [k for k in numbers if k <= min(MOST, len(rows))]
    rounds = -(-n_clusterings // len(members))

    @torch.inference_mode()
    def cluster_member(task: tuple[int, tuple[int, NDArray[Any]]]) -> list[NDArray[np.float32]]:
        which, (i, values) = task
        x = torch.from_numpy(values - values.mean(axis=0)).float()
        x /= max(float(x.std(correction=0)), 1e-12)
        seeds = [1000 * (len(members) * which + i) + k + 1_000_000 * random_state for k in numbers]
        posteriors = fit_mixtures(x, numbers, seeds).assign(x)[0].numpy()
        return [posterior[:k].T for posterior, k in zip(posteriors, numbers, strict=True)]

    tasks = list(product(range(rounds), enumerate(members)))
    clustered = list(map_in_order(cluster_member, tasks))
    posteriors = {k: np.stack([each[j] for each in clustered], axis=1) for j, k in enumerate(numbers)}
    return Survey(rows, posteriors, np.array([i for _, (i, _) in tasks]))


def _average_around(
    rows: NDArray[np.int64], base: Base, coordinates: NDArray[np.float64], libraries: NDArray[np.int64] | None
) -> Iterator[NDArray[np.float32]]:
    """Yield averages over the neighbourhoods of some observations, each (m, d)."""
    slices = np.zeros(len(coordinates), dtype=np.int64) if libraries is None else libraries
    n_slices = len(np.unique(slices))
    inputs = list(prepare_inputs(base, plain=libraries is None))
    for width in choose_widths(len(coordinates) / n_slices, TYPICAL, mixtures=base.mixtures, narrow=base.narrow):
        averages = [np.empty((len(rows), x.shape[1]), dtype=np.float32) for x in inputs]
        for code in np.unique(slices[rows]):
            of_slice, asked = np.flatnonzero(slices == code), np.flatnonzero(slices[rows] == code)
            near = cKDTree(coordinates[of_slice]).query(coordinates[rows[asked]], min(width + 1, len(of_slice)))[1]
            near = of_slice[near.reshape(len(asked), -1)]
            for averaged, x in zip(averages, inputs, strict=True):
                averaged[asked] = x[near].mean(axis=1)
        yield from averages

"""The choice of a number of domains: where more of them stop being what different clusterings agree on. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg.model.survey import Survey

N_CLUSTERINGS = 48
"""So many of each number are compared."""
MOST = 15
LEAST_PER_DOMAIN = 10
"""Observations that a domain should have on average, where the tissue is that small."""
FEWEST_PARTS = 3
"""So many averages are needed to leave out one at a time."""
FEW = 3
"""With more rivals than that the data do not tell."""


@dataclass(frozen=True)
class Choice:
    """How well each number of domains is supported, and the one that was chosen."""

    numbers: NDArray[np.int64]
    """From 2 on, (L,)."""
    score: NDArray[np.float64]
    """By how much what clusterings share is above the line between the ends of its curve, over its range, (L,)."""
    shared: NDArray[np.float64]
    """What two clusterings share at a number, in 0..1, (L,), see :func:`measure_shared`."""
    chosen: int
    rivals: NDArray[np.int64]
    """Numbers whose score is within a standard error of the best."""

    @property
    def sentence(self) -> str:
        """What the scores say, in words."""
        first = f"{self.chosen} domains are best supported"
        if len(self.rivals) > FEW:
            first = (
                f"The data do not tell how many domains there are: {_join(self.rivals)} are as well supported as "
                f"{self.chosen}"
            )
        elif len(self.rivals):
            first += f"; {_join(self.rivals)} {'is' if len(self.rivals) == 1 else 'are'} nearly as good"
        else:
            first += ", clearly more than any other number"
        gain = np.diff(self.shared)
        large = np.flatnonzero(gain > max(gain.mean(), 0) / 2)
        last = int(self.numbers[large[-1] + 1 if len(large) else -1])
        return f"{first}; beyond {last} little is gained." if self.chosen <= last < self.numbers[-1] else f"{first}."

    def to_dict(self) -> dict[str, Any]:
        """Return what a result keeps."""
        parts = {"n": self.numbers, "score": self.score, "shared": self.shared}
        return parts | {"chosen": self.chosen, "rivals": self.rivals, "sentence": self.sentence}


def _join(numbers: NDArray[np.int64]) -> str:
    words = [str(number) for number in numbers]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def choose_number(surveyed: Survey, most: int = MOST, least_per_domain: int = LEAST_PER_DOMAIN) -> Choice:
    """Choose the number of domains.

    What clusterings of different averages share grows with the number of domains: fast while these are in the data,
    slowly when each clustering splits elsewhere. Chosen is the number where it is farthest above the straight line
    between the smallest and the largest number, the knee of the curve (Satopaa et al. 2011). Rivals are those that
    differ by less than the standard error, by a jackknife over the averages, or over
    the clusterings where there are next to no averages.
    """
    most = max(4, min(most, len(surveyed.rows) // least_per_domain))
    numbers = np.array([k for k in sorted(surveyed.posteriors) if k <= most])
    pairs = np.stack([measure_shared(surveyed.posteriors[k]) for k in numbers])
    parts = surveyed.of_member
    if len(np.unique(parts)) < FEWEST_PARTS:
        parts = np.arange(len(parts))
    different = ~np.eye(len(surveyed.of_member), dtype=bool)
    shared = pairs[:, different].mean(axis=1)
    score = _find_knee(shared)
    best = int(score.argmax())
    without = []
    for part in np.unique(parts):
        others = parts != part
        without.append(_find_knee(pairs[:, different & others & others[:, None]].mean(axis=1)))
    behind = np.array(without)[:, best, None] - np.array(without)
    rivals = score > score[best] - np.sqrt((len(without) - 1) * behind.var(axis=0))
    rivals[best] = False
    return Choice(numbers, score, shared, int(numbers[best]), numbers[rivals])


def measure_shared(posteriors: NDArray[np.float32]) -> NDArray[np.float64]:
    r"""Return what every two of m clusterings share, (m, m), of their posteriors (n, m, k).

    How much oftener the cluster of an observation in one is guessed right from its cluster in the other, guessing in
    proportion, than without it: :math:`\sum_{ij} p_{ij}^2 / p_i - \sum_j p_j^2`, what Goodman and Kruskal (1954) call
    tau before it is divided by the largest there can be. 0 where clusterings have nothing to do with each other, and
    at most 1 less 1 / k.
    """
    n, m, k = posteriors.shape
    member = np.eye(k, dtype=np.float32)[posteriors.argmax(axis=2)].reshape(n, m * k)
    together = (member.T @ member).astype(np.float64).reshape(m, k, m, k) / n
    share = member.mean(axis=0, dtype=np.float64).reshape(m, k)
    guessed = (together**2 / np.maximum(share, 1 / n)[:, :, None, None]).sum(axis=(1, 3))
    gained = guessed - (share**2).sum(axis=1)
    return np.asarray((gained + gained.T) / 2)


def _find_knee(shared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the height of a curve (L,) above the line between its ends, as a share of its range."""
    line = np.linspace(shared[0], shared[-1], len(shared))
    return np.asarray((shared - line) / max(float(np.ptp(shared)), 1e-9))

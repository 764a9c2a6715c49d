"""k-means, many runs at once on the CPU or a GPU: the starts of mixtures. Tensors only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

ROWS = {"cpu": 4096, "cuda": 65_536}
"""Rows worked on at a time: few enough for a cache of the CPU, many enough for a GPU. Of fixed number, so that sums are
taken in the same order whatever the number of cores."""


def blocks(x: Tensor) -> Iterator[slice]:
    """Yield slices of the rows of x (n, ...) that are worked on at a time."""
    step = ROWS.get(x.device.type, ROWS["cuda"])
    for start in range(0, len(x), step):
        yield slice(start, min(start + step, len(x)))


def draw(seeds: Sequence[int], n_starts: int, k: int) -> Tensor:
    """Draw the random numbers of all runs, (n_seeds * n_starts, k, trials): the same on every device."""
    trials = 2 + int(math.log(k))
    return torch.from_numpy(np.concatenate([np.random.default_rng(s).random((n_starts, k, trials)) for s in seeds]))


def find_centers(
    x: Tensor, draws: Tensor, *, max_iter: int, tolerance: float = 1e-4, unused: Tensor | None = None
) -> Tensor:
    """Run k-means once for each set of random numbers.

    Parameters
    ----------
    x
        Values, float32 (n, d).
    draws
        Uniform random numbers, (b, k, trials), see :func:`draw`.
    max_iter
        Steps at most.
    tolerance
        The steps end when no centre of any run moves further, squared and in units of the mean variance of a column.
    unused
        Which centres do not count, (b, k): a run may have fewer than others.

    Returns
    -------
    Centres, (b, k, d).
    """
    centers = _spread_centers(x, draws.to(x.device))
    b, k, d = centers.shape
    still = tolerance * float(x.var(dim=0, correction=0).mean())
    for _ in range(max_iter):
        sums, sizes = x.new_zeros(b * k, d), x.new_zeros(b, k)
        for rows in blocks(x):
            nearest = choose_nearest(centers, x[rows], unused)
            sums += nearest.view(b * k, -1) @ x[rows]
            sizes += nearest.sum(dim=2)
        sizes = sizes.unsqueeze(2)
        moved = torch.where(sizes > 0, sums.view(b, k, d) / sizes.clamp(min=1e-12), centers)
        shift = float(((moved - centers) ** 2).sum(dim=2).max())
        centers = moved
        if shift <= still:
            break
    return centers


def find_best_centers(x: Tensor, k: int, *, seed: int, n_starts: int) -> Tensor:
    """Return the centres (k, d) of the best of several runs on values (n, d): those that rows are closest to."""
    runs = find_centers(x, draw([seed], n_starts, k), max_iter=300)
    best: Tensor = min(runs, key=lambda centers: float(measure_distances(x, centers).amin(dim=1).sum()))
    return best


def measure_distances(x: Tensor, centers: Tensor) -> Tensor:
    """Return the squared distances of rows (n, d) from centres (k, d), (n, k)."""
    distances: Tensor = torch.cdist(x, centers).square_()
    return distances


def choose_nearest(centers: Tensor, x: Tensor, unused: Tensor | None = None) -> Tensor:
    """Return 1 for the nearest of the centres (b, k, d) to each row of x (n, d), else 0: (b, k, n).

    Centres in one place share a row: all its parts add up to one.
    """
    b, k, d = centers.shape
    half = (centers**2).sum(dim=2) / 2
    if unused is not None:
        half = half.masked_fill(unused, math.inf)
    closeness = torch.addmm(-half.view(-1, 1), centers.view(b * k, d), x.T).view(b, k, -1)
    nearest = (closeness == closeness.amax(dim=1, keepdim=True)).to(x.dtype)
    return nearest.div_(nearest.sum(dim=1, keepdim=True))


def _spread_centers(x: Tensor, draws: Tensor) -> Tensor:
    """Draw first centres far from each other: of some points, drawn by their squared distance, the best is taken.

    Greedy k-means++ (Arthur and Vassilvitskii 2007), as scikit-learn has it.
    """
    b, k, trials = draws.shape
    n, d = x.shape
    square = (x**2).sum(dim=1)
    runs = torch.arange(b, device=x.device)

    def measure_distance(rows: Tensor) -> Tensor:
        to_all = torch.addmm(square.unsqueeze(0), x[rows], x.T, alpha=-2) + square[rows].unsqueeze(1)
        return to_all.clamp_(min=0)

    first = (draws[:, 0, 0] * n).long().clamp_(max=n - 1)
    chosen, closest = [first], measure_distance(first)
    for step in range(1, k):
        cumulated = closest.double().cumsum(dim=1)
        rows = torch.searchsorted(cumulated, draws[:, step] * cumulated[:, -1:]).clamp_(max=n - 1)
        left = torch.minimum(measure_distance(rows.view(-1)).view(b, trials, n), closest.unsqueeze(1))
        best = left.sum(dim=2).argmin(dim=1)
        chosen.append(rows[runs, best])
        closest = left[runs, best]
    return x[torch.stack(chosen, dim=1).view(-1)].view(b, k, d)

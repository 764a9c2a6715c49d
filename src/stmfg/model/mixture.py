"""Gaussian mixtures with one covariance for all components, many fits at once on the CPU or a GPU.

Because the covariance is shared, it is what the components do not explain of the total one (no pass over the data), and
the log-posterior is linear in x (Fisher's discriminant): a step costs n d k, where a general mixture's costs n d^2 k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import linalg

from stmfg.model.kmeans import blocks, choose_nearest, draw, find_centers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]

FLOOR = 1e-4
"""Added to the covariance, in units of the variance of all values."""
START_STEPS = 10
"""Steps of k-means before the mixture takes over: where they end is soon forgotten."""
LOG2 = math.log(2)
FAR = -100.0
"""A component that much less likely, in powers of two, has next to no share: smaller numbers would be slow."""
UNEXPLAINED = 1e-4
"""Share of the total covariance that no means explain, for values without any spread within components."""


def softmax(logits: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Softmax over the columns, in place, and the logarithm of the sums (n,)."""
    highest = logits.max(axis=1, keepdims=True)
    logits -= highest
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    logits /= total
    return logits, (highest + np.log(total))[:, 0]


def discriminant(means: Floats, covariance: Floats, log_shares: Floats) -> tuple[Floats, Floats, Any]:
    """Return slope (d, k) and intercept (k,) of the log-posterior, and the Cholesky factor of the covariance."""
    factor = linalg.cho_factor(covariance)
    slope = linalg.cho_solve(factor, means.T)
    return slope, log_shares - 0.5 * (means.T * slope).sum(axis=0), factor


@dataclass(frozen=True)
class Mixtures:
    """Several fitted mixtures of up to k components. Logarithms are those of base two."""

    slope: Tensor  # (m, k, d)
    intercept: Tensor  # (m, k); minus infinity where a mixture has fewer components
    likelihood: Tensor  # mean log-likelihood of a row, natural logarithm, (m,)

    def __getitem__(self, which: Any) -> Mixtures:
        """Return some of the mixtures."""
        return Mixtures(self.slope[which], self.intercept[which], self.likelihood[which])

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior of every component (m, k, n) of rows (n, d), and the log of their evidence (m, n)."""
        m, k, d = self.slope.shape
        logits = torch.addmm(self.intercept.view(-1, 1), self.slope.reshape(m * k, d), x.T).view(m, k, -1)
        highest = logits.amax(dim=1, keepdim=True)
        # Powers of two, as torch's exp takes several times as long on a CPU.
        posterior = logits.sub_(highest).clamp_(min=FAR).exp2_()
        total = posterior.sum(dim=1, keepdim=True)
        return posterior.div_(total), (highest + total.log2()).squeeze(1)


@torch.inference_mode()
def fit_mixtures(x: Tensor, k: int | Sequence[int], seeds: Sequence[int], n_starts: int = 1) -> Mixtures:
    """Fit a mixture for every seed, all at once, which takes a fraction of the time of one after the other.

    Parameters
    ----------
    x
        Centred values of unit variance over all, float32 (n, d), on the device where they are to be fitted.
    k
        Number of components, or that of each mixture.
    seeds
        One for each mixture.
    n_starts
        Fits from k-means starts of which the likeliest is kept.
    """
    most, unused = max([k] if isinstance(k, int) else k), None
    if not isinstance(k, int):
        numbers = torch.tensor(k, device=x.device).repeat_interleave(n_starts)
        unused = torch.arange(most, device=x.device) >= numbers.unsqueeze(1)
    centers = find_centers(x, draw(seeds, n_starts, most), max_iter=START_STEPS, unused=unused)
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for rows in blocks(x):
        wide = x[rows].double()
        total += wide.T @ wide / len(x)
    variances, axes = torch.linalg.eigh(total + FLOOR * torch.eye(len(total), dtype=total.dtype, device=x.device))
    whitening = axes / variances.sqrt()
    fitted = _maximise(x, (x.double() @ whitening).float(), centers, variances, unused)
    groups = fitted.likelihood.view(-1, n_starts)
    best = fitted[groups.argmax(dim=1) + n_starts * torch.arange(len(groups), device=x.device)]
    return Mixtures((best.slope.double() @ whitening.T).float(), best.intercept, best.likelihood)


def _maximise(
    x: Tensor,
    white: Tensor,
    centers: Tensor,
    variances: Tensor,
    unused: Tensor | None,
    *,
    max_iter: int = 100,
    tolerance: float = 1e-3,
) -> Mixtures:
    """Fit b mixtures by expectation maximisation, from centres (b, k, d) of x, on white values with these variances.

    A fit is done when a step gains less than ``tolerance`` in mean log-likelihood; the others go on without it.
    """
    b, k, d = centers.shape
    n, left, done = len(x), torch.arange(b, device=x.device), []
    current, spread, reached = None, variances.new_zeros(b), variances.new_full((b,), -math.inf)
    for step in range(max_iter + 1):
        sums = variances.new_zeros(len(left) * k, d)
        sizes, evidence = variances.new_zeros(len(left), k), variances.new_zeros(len(left))
        for rows in blocks(x):
            if current is None:
                posterior = choose_nearest(centers, x[rows], unused)
            else:
                posterior, logs = current.assign(white[rows])
                evidence += logs.sum(dim=1)
            sums += posterior.view(-1, posterior.shape[2]) @ white[rows]
            sizes += posterior.sum(dim=2)
        if current is not None:
            likelihood = LOG2 * evidence / n - (spread + d * math.log(2 * math.pi)) / 2
            ended = (likelihood - reached < tolerance) | (step == max_iter)
            if ended.any():
                done.append((left[ended], current.slope[ended], current.intercept[ended], likelihood[ended]))
                if ended.all():
                    break
                sums, sizes = sums.view(-1, k, d)[~ended], sizes[~ended]
            left, reached = left[~ended], likelihood[~ended]
        slope, intercept, spread = _discriminate(sums.view(-1, k, d), sizes, n, variances)
        if unused is not None:
            intercept = intercept.masked_fill(unused[left], -math.inf)
        current = Mixtures((slope / LOG2).float(), (intercept / LOG2).float(), reached)
    order, slopes, intercepts, likelihoods = (torch.cat(parts) for parts in zip(*done, strict=True))
    return Mixtures(slopes, intercepts, likelihoods)[torch.argsort(order)]


def _discriminate(sums: Tensor, sizes: Tensor, n: int, variances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Return slopes (b, k, d) and intercepts (b, k) of log-posteriors, and what the likelihood has that hangs on none.

    Of white values the covariance is :math:`C = I - M^T S M` with means M (k, d) and shares S on a diagonal, so that
    Woodbury's identity leaves matrices of k x k alone: with :math:`G = M M^T`, :math:`Q = I - S^{1/2} G S^{1/2}` and
    :math:`N = S^{1/2} Q^{-1} S^{1/2}`, :math:`C^{-1} = I + M^T N M` and :math:`\det C = \det Q`. The last value is the
    trace of :math:`C^{-1}` times the total covariance (without the floor) plus the logarithm of the determinant.
    """
    share = sizes / n + 1e-12
    root = share.sqrt().unsqueeze(2)
    means = sums / (n * share.unsqueeze(2))
    products = (1 - UNEXPLAINED) * means @ means.transpose(1, 2)
    scaled = root * products * root.transpose(1, 2)
    unit = torch.eye(scaled.shape[1], dtype=scaled.dtype, device=scaled.device)
    factor, failed = torch.linalg.cholesky_ex(unit - scaled)
    if failed.any():  # by rounding, where components explain all there is
        explained = torch.linalg.eigvalsh(scaled)[:, -1].view(-1, 1, 1)
        factor = torch.linalg.cholesky(unit - (0.99 / explained).clamp(max=1) * scaled)
    solved = root * torch.cholesky_solve(root * products, factor)  # N G
    slope = means + solved.transpose(1, 2) @ means
    intercept = share.log() - (slope * means).sum(dim=2) / 2
    inner = root * torch.cholesky_solve(root * ((means / variances) @ means.transpose(1, 2)), factor)
    floor = FLOOR * ((1 / variances).sum() + _diagonal(inner).sum(dim=1))
    determinant = variances.log().sum() + 2 * _diagonal(factor).log().sum(dim=1)
    return slope, intercept, means.shape[2] + _diagonal(solved).sum(dim=1) - floor + determinant


def _diagonal(matrices: Tensor) -> Tensor:
    return torch.diagonal(matrices, dim1=1, dim2=2)

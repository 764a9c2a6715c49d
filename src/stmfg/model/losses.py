"""The training objective's terms: pure functions of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["contrast_dimensions", "gaussian_nll", "held_out_error", "spatial_regularization", "zinb_nll"]


def zinb_nll(x: Tensor, mu: Tensor, theta: Tensor, pi_logits: Tensor) -> Tensor:
    r"""Mean negative log-likelihood of zero-inflated negative binomial counts, in nats per entry.

    .. math::
        p(x) = \pi\,[x = 0] + (1 - \pi)\,\mathrm{NB}(x; \mu, \theta)

    with mean :math:`\mu` and variance :math:`\mu + \mu^2 / \theta` of the negative binomial part
    (Eraslan et al. 2019, DCA, eq. 4). Stable in float32: everything is a sum of logarithms, and the
    log-gamma terms are evaluated only where the count is not zero (there the zero part is closed form).

    Shapes: counts x and positive mu (n, genes); positive theta, and logits of the probability of an extra zero,
    broadcastable to them.
    """
    theta = theta.expand_as(x)
    pi_logits = pi_logits.expand_as(x)
    # log(theta / (theta + mu)), accurate also where mu << theta.
    log_failure = -torch.log1p(mu / theta)
    zero = F.softplus(theta * log_failure - pi_logits) - F.softplus(-pi_logits)
    # One look-up of the positions, and index_select: masks would search them again for every term and gradient.
    at = x.flatten().nonzero().squeeze(1)

    def here(values: Tensor) -> Tensor:
        return values.flatten().index_select(0, at)

    count, mean, size = here(x), here(mu), here(theta)
    negative_binomial = (
        torch.lgamma(count + size)
        - torch.lgamma(size)
        - torch.lgamma(count + 1)
        + size * here(log_failure)
        - count * torch.log1p(size / mean)
    )
    positive = negative_binomial - F.softplus(here(pi_logits))
    return -(zero.sum() - here(zero).sum() + positive.sum()) / x.numel()


def gaussian_nll(x: Tensor, mean: Tensor) -> Tensor:
    """Mean squared error of predictions (n, features): twice the Gaussian negative log-likelihood of unit variance."""
    return (x - mean).square().mean()


def held_out_error(layers: Sequence[Tensor], target: Tensor, share: Tensor) -> Tensor:
    """Squared error of held-out factors given each layer's fused features, mean over layers.

    Each factor has a free gain, since diffusion shrinks what it averages: what counts is the pattern, not its size.

    Parameters
    ----------
    layers
        Fused features, each (n, d).
    target
        Factors of the held-out molecules around each spot, (n, d), columns of zero mean and unit variance.
    share
        Weight of each factor, (d,), adding up to one.

    Returns
    -------
    Scalar, 1 for features that say nothing and 0 for perfect ones.
    """
    total = target.new_zeros(())
    for layer in layers:
        h = layer - layer.mean(0)
        gain = (h * target).sum(0) / h.square().sum(0).clamp(min=1e-12)
        total = total + ((target - gain * h).square().mean(0) * share).sum()
    return total / len(layers)


def contrast_dimensions(a: Tensor, b: Tensor, redundancy: float = 0.01) -> Tensor:
    """Contrast two views dimension by dimension (Zbontar et al. 2021, Barlow twins, eq. 1), mean over dimensions.

    A dimension must agree with itself across the views and differ from the other dimensions. Spots are not contrasted
    with each other: in InfoNCE the neighbours of a spot, which belong to its domain, are negatives.

    Parameters
    ----------
    a, b
        Two views of the same spots, (n, d).
    redundancy
        Weight of the second part.

    Returns
    -------
    Scalar, 0 where the views agree and no two dimensions are alike.
    """
    a, b = (v - v.mean(0) for v in (a, b))
    a, b = (v / (v.square().mean(0) + 1e-8).sqrt() for v in (a, b))
    correlation = a.T @ b / len(a)
    same = correlation.diagonal()
    others = correlation.square().sum() - same.square().sum()
    return ((1 - same).square().sum() + redundancy * others) / len(correlation)


def spatial_regularization(z: Tensor, neighbors: Tensor, strangers: Tensor) -> Tensor:
    r"""Keep neighbours in tissue close and other pairs apart.

    .. math::
        -\tfrac12 \left[\overline{\log s(c_{ij})}_{(i, j) \in A}
        + \overline{\log(1 - s(c_{ij}))}_{(i, j) \notin A}\right]

    with c the cosine similarity of embeddings z (n, d) and s the logistic function (Wang et al. 2023, Spatial-MGCN,
    eq. 12). The pairs (2, m) that are, and are not, linked in the spatial graph are given, so that a sample of them
    can stand for all: nothing n x n is made.
    """
    unit = F.normalize(z, dim=1)
    near = (unit[neighbors[0]] * unit[neighbors[1]]).sum(1)
    far = (unit[strangers[0]] * unit[strangers[1]]).sum(1)
    return -(F.logsigmoid(near).mean() + F.logsigmoid(-far).mean()) / 2

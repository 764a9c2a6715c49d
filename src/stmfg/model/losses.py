"""The training objective's terms: pure functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["gaussian_nll", "info_nce", "spatial_regularization", "zinb_nll"]


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


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Contrast two views (n, d) of each spot with those of the other spots, in both directions.

    InfoNCE (van den Oord et al. 2018, eq. 4) on cosine similarities over the temperature: the positive pair is row i of
    both views, the negatives are all other rows of the other view. Nats; log(n) for unrelated views.
    """
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    same = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(similarity, same) + F.cross_entropy(similarity.T, same)) / 2


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

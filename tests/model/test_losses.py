"""The terms of the loss against closed forms and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import nbinom
from torch import Tensor

from stmfg.model.losses import contrast_dimensions, gaussian_nll, held_out_error, spatial_regularization, zinb_nll

MEANS = (1e-5, 0.3, 40.0, 1e5)
SIZES = (1e-4, 0.7, 50.0, 1e4)
LOGITS = (-20.0, -1.0, 0.5, 20.0)
COUNTS = (0.0, 1.0, 2.0, 37.0, 5000.0, 1e6)


def reference(x: float, mu: float, theta: float, logit: float) -> float:
    """Negative log-likelihood of one count, by scipy in float64."""
    log_pi, log_rest = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    count = log_rest + nbinom.logpmf(x, theta, theta / (theta + mu))
    return -float(np.logaddexp(log_pi, count) if x == 0 else count)


def grid(dtype: torch.dtype) -> list[Tensor]:
    """Every combination of counts and parameters, each (n, 1)."""
    values = torch.tensor(list(itertools.product(COUNTS, MEANS, SIZES, LOGITS)), dtype=dtype)
    return [column.unsqueeze(1).clone() for column in values.T]


@pytest.mark.parametrize("mu", MEANS)
@pytest.mark.parametrize("theta", SIZES)
def test_zinb_is_scipys_negative_binomial_with_extra_zeros(mu: float, theta: float) -> None:
    for x, logit in itertools.product(COUNTS, LOGITS):
        entry = [torch.tensor([[value]], dtype=torch.float64) for value in (x, mu, theta, logit)]
        assert zinb_nll(*entry).item() == pytest.approx(reference(x, mu, theta, logit), rel=1e-6, abs=1e-9)


def test_zinb_is_the_mean_over_entries_and_broadcasts() -> None:
    x = torch.tensor([[0.0, 1.0, 7.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    mu = torch.tensor([[0.5, 1.5, 4.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    theta = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)  # one per gene
    logit = torch.tensor(-1.0, dtype=torch.float64)
    singles = [reference(x[i, j].item(), mu[i, j].item(), theta[j].item(), -1.0) for i, j in np.ndindex(*x.shape)]
    assert zinb_nll(x, mu, theta, logit).item() == pytest.approx(np.mean(singles), rel=1e-9)


def test_zinb_is_finite_with_finite_gradients_in_single_precision() -> None:
    x, mu, theta, logit = grid(torch.float32)
    parameters = [p.requires_grad_() for p in (mu, theta, logit)]
    nll = zinb_nll(x, *parameters)
    nll.backward()
    assert torch.isfinite(nll)
    for parameter in parameters:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_zinb_in_single_precision_is_close_where_data_are() -> None:
    for x, mu, theta in itertools.product((0.0, 1.0, 12.0, 900.0), (0.01, 1.0, 800.0), (0.1, 3.0, 100.0)):
        entry = [torch.tensor([[value]]) for value in (x, mu, theta, -1.0)]
        assert zinb_nll(*entry).item() == pytest.approx(reference(x, mu, theta, -1.0), rel=1e-4, abs=1e-3)


def test_zinb_gradients_are_those_of_finite_differences() -> None:
    x = torch.tensor([[0.0, 1.0, 30.0]], dtype=torch.float64)
    mu, theta, logit = (
        torch.tensor([values], dtype=torch.float64, requires_grad=True)
        for values in ([0.4, 2.0, 25.0], [0.9, 3.0, 40.0], [-1.0, 0.3, -2.0])
    )
    assert torch.autograd.gradcheck(lambda *p: zinb_nll(x, *p), (mu, theta, logit))


def test_gaussian_is_the_mean_square() -> None:
    x, mean = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 4.0]])
    assert gaussian_nll(x, mean).item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_held_out_error_of_perfect_and_of_useless_features() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(50, 4, generator=generator)
    target = (
        torch.linalg.qr(target - target.mean(0))[0] * 50**0.5
    )  # columns of zero mean and unit variance, none like another
    share = torch.tensor([0.7, 0.3])
    perfect, useless = target[:, :2], target[:, 2:]
    gain = torch.tensor([0.01, -300.0])
    assert held_out_error([perfect * gain + 5], perfect, share).item() == pytest.approx(0, abs=1e-5)
    assert held_out_error([useless], perfect, share).item() == pytest.approx(1, abs=1e-5)
    assert held_out_error([torch.zeros(50, 2)], perfect, share).item() == pytest.approx(1, abs=1e-5)
    mixed = torch.stack([perfect[:, 0], useless[:, 1]], dim=1)  # the first factor is told, the second is not
    assert held_out_error([mixed, perfect], perfect, share).item() == pytest.approx(0.3 / 2, abs=1e-5)


def test_contrast_of_dimensions() -> None:
    white = torch.linalg.qr(torch.randn(40, 5, generator=torch.Generator().manual_seed(1)))[0]
    white = torch.linalg.qr(white - white.mean(0))[0]
    assert contrast_dimensions(white, white).item() == pytest.approx(0, abs=1e-4)
    gain = torch.logspace(-1, 2, 5)
    assert contrast_dimensions(white * gain + 3, white).item() == pytest.approx(0, abs=1e-4)
    assert contrast_dimensions(white, -white).item() == pytest.approx(4, rel=1e-3)
    rolled = white.roll(1, dims=1)  # every dimension agrees with another one alone: (5 + 0.01 * 5) / 5
    assert contrast_dimensions(white, rolled).item() == pytest.approx(1.01, rel=1e-3)
    a, b = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3))
    value = contrast_dimensions(a, b).item()
    assert contrast_dimensions(b, a).item() == pytest.approx(value, rel=1e-5)
    assert contrast_dimensions(a[order], b[order]).item() == pytest.approx(value, rel=1e-5)
    assert abs(contrast_dimensions(a, b[order]).item() - value) > 1e-3  # what is paired does matter


def sigmoid(c: float) -> float:
    return 1 / (1 + math.exp(-c))


def test_spatial_regularization_of_four_points() -> None:
    z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    neighbors = torch.tensor([[0, 0], [1, 2]])  # cosines 1 and 0
    strangers = torch.tensor([[0, 1], [3, 2]])  # cosines -1 and 0
    near = (math.log(sigmoid(1)) + math.log(sigmoid(0))) / 2
    far = (math.log(1 - sigmoid(-1)) + math.log(1 - sigmoid(0))) / 2
    assert spatial_regularization(z, neighbors, strangers).item() == pytest.approx(-(near + far) / 2, rel=1e-6)


def test_spatial_regularization_of_a_zero_embedding_is_finite() -> None:
    z = torch.zeros(3, 2, requires_grad=True)
    value = spatial_regularization(z, torch.tensor([[0], [1]]), torch.tensor([[1], [2]]))
    value.backward()
    assert value.item() == pytest.approx(math.log(2))
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()

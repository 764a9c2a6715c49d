"""The terms of the loss against closed forms and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import nbinom
from torch import Tensor

from stmfg.model.losses import gaussian_nll, info_nce, spatial_regularization, zinb_nll

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


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_info_nce_of_views_that_say_nothing_is_log_n(temperature: float) -> None:
    same = torch.ones(7, 3)
    assert info_nce(same, same, temperature).item() == pytest.approx(math.log(7), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
def test_info_nce_of_orthogonal_rows_has_a_closed_form(temperature: float) -> None:
    rows = torch.eye(6)
    told_apart = math.log(1 + 5 * math.exp(-1 / temperature))
    assert info_nce(rows, rows, temperature).item() == pytest.approx(told_apart, rel=1e-4, abs=1e-6)
    # Paired with the wrong rows, the true partner's similarity of 1 / temperature counts against them.
    assert info_nce(rows, rows.roll(1, 0), temperature).item() == pytest.approx(told_apart + 1 / temperature, rel=1e-4)


def test_info_nce_is_symmetric_and_blind_to_length() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20, 5, generator=generator)
    lengths = torch.logspace(-3, 3, 20).unsqueeze(1)
    value = info_nce(a, b, 0.3).item()
    assert info_nce(b, a, 0.3).item() == pytest.approx(value, rel=1e-5)
    assert info_nce(a * lengths, b / lengths, 0.3).item() == pytest.approx(value, rel=1e-5)
    assert abs(value - info_nce(a, b.flip(0), 0.3).item()) > 1e-3  # what is paired does matter


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

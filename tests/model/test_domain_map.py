"""Domains as Gaussians: what they were made from comes back, and a shifted, noisier slice is labelled as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stmfg.model import transfer as _domain_map

MEANS = np.array([[0.0, 0, 0, 0], [6, 0, 6, 0], [0, 6, 0, 6]])


def draw(sizes: tuple[int, ...], *, offset: float = 0.0, noise: float = 1.0, seed: int = 0) -> tuple[Any, Any]:
    """Points about the means, (n, 4), and the domain of each."""
    labels = np.repeat(np.arange(3), sizes)
    return MEANS[labels] + offset + noise * np.random.default_rng(seed).normal(size=(len(labels), 4)), labels


def describe(x: Any, labels: Any, widths: list[int]) -> _domain_map.DomainMap:
    """Fit to points that lie anywhere in tissue, none like its neighbours."""
    places = np.random.default_rng(9).uniform(size=(len(x), 2))
    return _domain_map.fit(x, np.eye(3)[labels], widths, places, around=1)


@pytest.fixture
def fitted() -> _domain_map.DomainMap:
    x, labels = draw((400, 300, 300))
    return describe(x, labels, [2, 2])


def test_moments(fitted: _domain_map.DomainMap) -> None:
    x, labels = draw((400, 300, 300))
    np.testing.assert_allclose(fitted.shares, [0.4, 0.3, 0.3])
    for k in range(3):
        np.testing.assert_allclose(fitted.means[k] * fitted.spread + fitted.center, x[labels == k].mean(axis=0))
    within = sum(np.cov(x[labels == k].T, bias=True) * (labels == k).mean() for k in range(3))
    scale = fitted.spread**2
    np.testing.assert_allclose(
        fitted.covariance * scale,
        0.95 * within + (1e-4 * scale + 0.05 * np.trace(within) / 4) * np.eye(4),
        rtol=1e-8,
        atol=1e-10,
    )


def test_the_posterior_is_that_of_discriminant_analysis(fitted: _domain_map.DomainMap) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    x, labels = draw((400, 300, 300), noise=2.0)
    alone = describe(x, labels, [])
    expected = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.05).fit(x, labels).predict_proba(x)
    np.testing.assert_allclose(alone.posterior(x, adapt=False), expected, atol=1e-3)


def test_every_layer_has_a_say(fitted: _domain_map.DomainMap) -> None:
    confused = np.array([[6.0, 0, 0, 6]])  # one layer says domain 1, the other domain 2
    posterior = fitted.posterior(confused, adapt=False)[0]
    np.testing.assert_allclose(posterior.sum(), 1)
    assert posterior[1] > 0.3
    assert posterior[2] > 0.3


def test_an_offset_noise_and_other_shares_are_found(fitted: _domain_map.DomainMap) -> None:
    x, labels = draw((50, 500, 100), offset=2.5, noise=1.4, seed=1)
    as_it_is = (fitted.posterior(x, adapt=False).argmax(axis=1) == labels).mean()
    adapted = (fitted.posterior(x).argmax(axis=1) == labels).mean()
    assert adapted > 0.97
    assert adapted > as_it_is


def test_a_slice_without_one_of_the_domains(fitted: _domain_map.DomainMap) -> None:
    x, labels = draw((300, 0, 200), offset=1.0, seed=2)
    assert (fitted.posterior(x).argmax(axis=1) == labels).mean() > 0.99


def test_a_few_spots_are_enough(fitted: _domain_map.DomainMap) -> None:
    x, labels = draw((2, 1, 0), seed=3)
    assert (fitted.posterior(x).argmax(axis=1) == labels).all()


def test_unlike_is_the_share_of_spots_that_lie_closer(fitted: _domain_map.DomainMap) -> None:
    x, _ = draw((400, 300, 300))
    unlike = fitted.unlike(x)
    assert 0.48 < unlike.mean() < 0.52  # of the spots themselves it is uniform
    np.testing.assert_allclose(np.quantile(unlike, [0.1, 0.9]), [0.1, 0.9], atol=0.01)
    assert fitted.unlike(MEANS).max() < 0.01
    np.testing.assert_array_equal(fitted.unlike(MEANS + 30), 1)
    # From chi-square: the distance that 95 % of normal points are within.
    np.testing.assert_allclose(fitted.unlike(MEANS[:1] - np.array([[0, 0, 2.45, 0]])), 0.95, atol=0.03)


def test_an_empty_domain_does_no_harm() -> None:
    x, labels = draw((40, 0, 40))
    fitted = describe(x, labels, [])
    posterior = fitted.posterior(x)
    assert np.isfinite(posterior).all()
    assert set(posterior.argmax(axis=1)) == {0, 2}

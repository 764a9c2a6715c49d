"""The way from counts to the network's input, against dense computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from stmfg import STMFG
from stmfg.config import Config
from stmfg.model import features as _features
from stmfg.model import graphs
from stmfg.model.components import Middle, principal_axes
from stmfg.model.features import (
    Counts,
    apply_map,
    fit_counts,
    normalize,
    spatial_factors,
    standardize,
)
from stmfg.model.genes import select_genes

FACTORS = {"features": "factors", "n_components": 12, "factor_steps": 4, "max_factors": 6}


@pytest.fixture
def operator(section: AnnData) -> sparse.csr_matrix:
    return graphs.walk_operator(graphs.spatial_graph(section.obsm["spatial"]))


def poisson(n: int, rates: NDArray[np.float64], seed: int = 0) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(seed).poisson(rates, (n, len(rates))).astype(np.float32))


def test_normalisation_by_hand() -> None:
    counts = sparse.csr_matrix(np.array([[1, 3, 0], [0, 0, 0], [0, 2, 0]], dtype=np.float32))
    kept = counts.copy()
    scaled = np.array([[2.5, 7.5, 0], [0, 0, 0], [0, 10, 0]])
    np.testing.assert_allclose(normalize(counts, target_sum=10, log1p=False).toarray(), scaled)
    np.testing.assert_allclose(normalize(counts, target_sum=10, log1p=True).toarray(), np.log1p(scaled))
    assert (counts != kept).nnz == 0


def test_standardisation_is_the_dense_one_without_centring() -> None:
    dense = np.random.default_rng(0).poisson(0.6, (400, 6)).astype(np.float64)
    dense[:, 4] = 0
    dense[7, 4] = 3.0  # one spot alone has it: 20 standard deviations away, clipped at 10
    dense[:, 5] = 2.0  # constant
    x = sparse.csr_matrix(dense)
    center, scale = _features.moments(x)
    sparse_z = standardize(x, center, scale)
    assert sparse_z.nnz == x.nnz
    deviation = np.where(np.arange(6) == 5, 1, dense.std(axis=0))
    np.testing.assert_allclose(scale, deviation)
    z = np.minimum((dense - dense.mean(axis=0)) / deviation, 10)
    assert z[7, 4] == 10
    np.testing.assert_allclose(sparse_z.toarray() - center / scale, z, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "n_genes"), [(90, 60), (90, 2100), (5, 2100)], ids=["covariance", "lanczos", "few spots"]
)
def test_principal_axes_span_those_of_a_dense_svd(n: int, n_genes: int) -> None:
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(n, 3)) * [30, 20, 12] @ np.linalg.qr(rng.normal(size=(n_genes, 3)))[0].T
    dense = planted + 0.1 * rng.normal(size=(n, n_genes)) + rng.uniform(0, 5, n_genes)  # far from centred
    ours = principal_axes(sparse.csr_matrix(dense, dtype=np.float32), Middle(dense.mean(axis=0)), 3, 0)
    _, _, axes = np.linalg.svd(dense - dense.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(ours.T @ ours, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(np.linalg.svd(axes[:3] @ ours)[1], 1, atol=1e-5)


def test_spatial_factors_find_a_smooth_signal_under_larger_noise(section: AnnData, operator: sparse.csr_matrix) -> None:
    rng = np.random.default_rng(0)
    x, y = (section.obsm["spatial"] / np.ptp(section.obsm["spatial"], axis=0)).T
    signal = np.sin(4 * x + 3 * y)
    columns = np.column_stack([signal, 5 * rng.normal(size=(len(x), 9))])  # the noise has 50 times the variance
    columns = (columns - columns.mean(axis=0)) @ np.linalg.qr(rng.normal(size=(10, 10)))[0]
    leading = columns @ np.linalg.svd(columns, full_matrices=False)[2][0]
    assert abs(np.corrcoef(leading, signal)[0, 1]) < 0.3

    config = Config().replace(**FACTORS, min_autocorrelation=0.5)
    rotation, autocorrelation = spatial_factors(columns, operator, config)
    factors = columns @ rotation
    assert abs(np.corrcoef(factors[:, 0], signal)[0, 1]) > 0.95
    assert autocorrelation[0] > 0.5 > autocorrelation[1]
    assert (np.diff(autocorrelation) <= 0).all()
    np.testing.assert_allclose(np.cov(factors.T, bias=True), np.eye(factors.shape[1]), atol=1e-4)


@pytest.mark.parametrize("features", ["factors", "components"])
@pytest.mark.parametrize("use_rep", [None, "X_rep"])
@pytest.mark.parametrize("options", [{}, {"log1p": False, "target_sum": 1e4}], ids=["log", "linear"])
def test_transform_repeats_fit(section: AnnData, features: str, use_rep: str | None, options: dict[str, Any]) -> None:
    section.obsm["X_rep"] = np.random.default_rng(0).normal(3.0, 2.0, (section.n_obs, 9)).astype(np.float32)
    model = STMFG(features=features, epochs=0, n_layers=1, n_domains=None, **options).fit(section, use_rep=use_rep)
    np.testing.assert_allclose(model.transform(section), model.result.embedding, rtol=1e-3, atol=1e-4)
    # A spot's features are its own: they do not depend on the others given with it.
    x = section.obsm["X_rep"] if use_rep else section.X
    few, every = (
        apply_map(model.maps["feature"], y if use_rep else Counts(y), log1p=model.config.log1p) for y in (x[:7], x)
    )
    assert every.dtype == np.float32
    if features == "components" or not use_rep:  # factors of an embedding are compressed by its median norm
        np.testing.assert_allclose(few, every[:7], atol=1e-5)


def test_spots_are_described_by_components_and_by_their_direction(section: AnnData) -> None:
    model = STMFG(features="components", epochs=0, n_domains=None).fit(section)
    plain, rows = np.split(apply_map(model.maps["feature"], Counts(section.X)), 2, axis=1)
    assert plain.shape[1] == 15
    np.testing.assert_allclose([plain[:, 0].std(), rows[:, 0].std()], 1, rtol=1e-4)
    length = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(length, length[0], rtol=1e-4)
    cosine = (plain * rows).sum(axis=1) / np.linalg.norm(plain, axis=1) / length
    np.testing.assert_allclose(cosine, 1, rtol=1e-4)


def test_genes_are_taken_in_an_order_of_their_values(section: AnnData) -> None:
    order = np.random.default_rng(0).permutation(section.n_vars)
    given, permuted = (fit_counts(Counts(X), Config(), 0) for X in (section.X, section.X[:, order]))
    assert order[permuted[2].genes].tolist() == given[2].genes.tolist()
    np.testing.assert_array_equal(permuted[0], given[0])


def test_a_strong_component_does_not_drown_the_others(operator: sparse.csr_matrix) -> None:
    scores = np.random.default_rng(0).normal(size=(operator.shape[0], 60)).astype(np.float32)
    scores[:, 0] *= 1e7
    rotation, autocorrelation = spatial_factors(scores, operator, Config())
    assert np.isfinite(rotation).all()
    assert np.isfinite(autocorrelation).all()


def test_depth_does_not_reach_the_features(section: AnnData) -> None:
    config = Config()
    features, _, feature_map = fit_counts(Counts(section.X), config, 0)
    deeper = sparse.csr_matrix(section.X.multiply(np.arange(1, section.n_obs + 1)[:, None]))
    np.testing.assert_allclose(apply_map(feature_map, Counts(deeper), log1p=config.log1p), features, atol=1e-4)


def test_rare_genes_are_left_out_of_large_panels_only() -> None:
    counts = poisson(200, np.concatenate([np.full(650, 1.0), [0.0, 0.01]])).tolil()
    counts[:, 650:] = 0
    counts[:3, 651] = 1
    counts = counts.tocsr()
    kept = select_genes(counts, min_spot_share=0.1, n_top_genes=0)
    np.testing.assert_array_equal(kept, np.arange(650))
    kept = select_genes(counts[:, 600:], min_spot_share=0.1, n_top_genes=0)
    np.testing.assert_array_equal(kept, np.append(np.arange(50), 51))  # the gene without any count is never used


def test_the_most_variable_genes_are_kept() -> None:
    rng = np.random.default_rng(0)
    rates = np.tile(rng.uniform(1.0, 8.0, 100), (300, 1))
    variable = [3, 40, 77]
    rates[:, variable] = np.repeat([[0.5], [7.5]], 150, axis=0)  # of middling mean, but not the same everywhere
    dense = rng.poisson(rates)
    kept = select_genes(sparse.csr_matrix(dense.astype(np.float32)), min_spot_share=0.0, n_top_genes=3)
    assert kept.tolist() == variable


@pytest.mark.parametrize("n_top_genes", [12, 500])
def test_fewer_genes_than_asked_are_all_kept(n_top_genes: int) -> None:
    counts = poisson(50, np.full(12, 2.0))
    kept = select_genes(counts, min_spot_share=0.0, n_top_genes=n_top_genes)
    np.testing.assert_array_equal(kept, np.arange(12))


def test_shallow_counts_have_no_variance_trend_but_genes_are_found() -> None:
    counts = poisson(40, np.full(30, 0.05), seed=3)
    kept = select_genes(counts, min_spot_share=0.0, n_top_genes=10)
    assert (np.diff(kept) > 0).all()
    assert set(kept) <= set(np.flatnonzero(counts.sum(axis=0)))
    assert len(kept) >= 10


def test_constant_genes_have_no_variance_trend_and_are_all_kept() -> None:
    counts = sparse.csr_matrix(np.ones((40, 30), dtype=np.float32))
    np.testing.assert_array_equal(select_genes(counts, min_spot_share=0.0, n_top_genes=3), np.arange(30))

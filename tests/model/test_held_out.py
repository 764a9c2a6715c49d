"""What the network learns from held-out molecules, and what the data themselves decide."""

from __future__ import annotations

import logging
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from stmfg import STMFG, tl
from stmfg.datasets import simulate
from stmfg.metrics import ari
from stmfg.model.graphs import spatial_graph
from stmfg.model.kind import holds_mixtures, measure_regularity
from stmfg.model.modes import measure_dip
from stmfg.model.thinning import split_embedding, thin_counts

QUICK: dict[str, Any] = {"n_votes": 2, "n_starts": 2}


def turned(xy: np.ndarray, angle: float, scale: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return scale * xy @ np.array([[c, -s], [s, c]]) + 5


@pytest.mark.parametrize("layout", ["hex", "cells"])
def test_a_view_of_noise_loses_its_weight_and_the_run_says_so(layout: str, caplog: pytest.LogCaptureFixture) -> None:
    adata = simulate(500, 150, n_domains=4, difficulty=0.4, layout=layout, random_state=0)
    adata.obsm["noise"] = np.random.default_rng(0).normal(size=(adata.n_obs, 5))
    plain = tl.domains(adata, n_domains=4, copy=True, **QUICK)
    with caplog.at_level(logging.WARNING, "stmfg"):
        tl.domains(adata, n_domains=4, views=("spatial", "feature", "noise=noise"), **QUICK)
    assert "the view 'noise' does not help to predict expression: its weight is 0.0" in caplog.text
    weights = pd.DataFrame(adata.obsm["stmfg_view_weights"], columns=adata.uns["stmfg"]["view_weight_names"])
    assert weights.filter(like="noise").to_numpy().mean() <= 0.1
    assert plain is not None
    truth = adata.obs["ground_truth"]
    assert ari(truth, adata.obs["stmfg_domain"]) >= ari(truth, plain.obs["stmfg_domain"]) - 0.05


def test_labels_change_nothing(section: AnnData) -> None:
    permuted, removed = section.copy(), section.copy()
    rng = np.random.default_rng(0)
    permuted.obs["ground_truth"] = rng.permutation(section.obs["ground_truth"].astype(str))
    del removed.obs["ground_truth"]
    for adata in (section, permuted, removed):
        tl.domains(adata, n_domains=4, epochs=10, **QUICK)
        pd.testing.assert_series_equal(adata.obs["stmfg_domain"], section.obs["stmfg_domain"])
        np.testing.assert_array_equal(adata.obsm["X_stmfg"], section.obsm["X_stmfg"])


def test_an_embedding_clustered_again_is_as_if_it_were_fitted_with_that_number(section: AnnData, tmp_path: Any) -> None:
    options: dict[str, Any] = {"epochs": 5, "n_layers": 2, "n_votes": 2, "n_starts": 1}
    fresh = tl.domains(section, n_domains=3, copy=True, **options)
    tl.domains(section, n_domains=5, **options)
    section.write_h5ad(tmp_path / "a.h5ad")
    assert fresh is not None
    for adata in (section, anndata.read_h5ad(tmp_path / "a.h5ad")):
        trained = adata.obsm["X_stmfg"].copy()
        tl.domains(adata, n_domains=3)
        np.testing.assert_array_equal(adata.obsm["X_stmfg"], trained)
        pd.testing.assert_series_equal(adata.obs["stmfg_domain"], fresh.obs["stmfg_domain"])


def test_permuted_spots_and_genes_give_the_same_domains_after_training(section: AnnData) -> None:
    rng = np.random.default_rng(3)
    other = section[rng.permutation(section.n_obs), rng.permutation(section.n_vars)].copy()
    domains = [STMFG(n_domains=4, epochs=40, **QUICK).fit(adata).result.labels for adata in (section, other)]
    assert ari(pd.Series(domains[0], section.obs_names)[other.obs_names], domains[1]) == 1


def test_halves_of_counts_add_up_to_the_whole(section: AnnData) -> None:
    counts = sparse.csr_matrix(section.X)
    kept = counts.copy()
    first, second = thin_counts(counts, 3)
    assert (first + second != counts).nnz == 0
    assert (counts != kept).nnz == 0
    for half in (first, second):
        assert half.dtype == counts.dtype
        assert (half.data > 0).all()
        np.testing.assert_array_equal(half.data, np.rint(half.data))
        assert half.sum() / counts.sum() == pytest.approx(0.5, abs=0.02)
    assert (thin_counts(counts, 3)[0] != first).nnz == 0
    assert (thin_counts(counts, 4)[0] != first).nnz > 0


def test_halves_of_large_counts_are_binomial() -> None:
    counts = sparse.csr_matrix(np.full((40, 50), 500_000.0, dtype=np.float32))
    first, second = thin_counts(counts, 3)
    assert (first + second != counts).nnz == 0
    assert abs(first.mean() - 250_000) < 40
    assert 300 < first.toarray().std() < 410  # half of the root of the count: 354


def test_halves_of_an_embedding(section: AnnData) -> None:
    rng = np.random.default_rng(0)
    smooth = section.obsm["spatial"] / section.obsm["spatial"].std()
    x = (np.hstack([smooth, smooth]) + rng.normal(size=(section.n_obs, 4)) * [0, 0, 1, 2]).astype(np.float32)
    kept, graph = x.copy(), spatial_graph(section.obsm["spatial"], n_neighbors=6)
    first, second = split_embedding(x, graph, 3)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_allclose(first + second, 2 * x, atol=1e-4)
    np.testing.assert_allclose((first - x).std(axis=0)[2:], [1, 2], rtol=0.15)  # as much noise as was put in
    assert (first - x).std(axis=0)[:2].max() < 0.3
    np.testing.assert_array_equal(split_embedding(x, graph, 3)[0], first)
    assert not np.array_equal(split_embedding(x, graph, 4)[0], first)


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_spots_are_told_from_cells(angle: float, scale: float) -> None:
    spots, cells = (simulate(600, 60, n_domains=4, layout=kind, random_state=1) for kind in ("hex", "cells"))
    regular, scattered = (measure_regularity(turned(x.obsm["spatial"], angle, scale)) for x in (spots, cells))
    assert regular > 0.98
    assert scattered < 0.7
    for adata, mixtures in ((spots, True), (cells, False)):
        adata.obsm["spatial"] = turned(adata.obsm["spatial"], angle, scale)
        assert STMFG(epochs=0, n_domains=None).fit(adata).maps["feature"].mixtures is mixtures


def test_bins_of_single_cells_lie_on_a_grid_but_are_no_mixtures() -> None:
    row, column = np.divmod(np.arange(900), 30)
    xy = 8.0 * np.column_stack([column, row])
    random = np.random.default_rng(0).normal(size=(900, 5))  # what varies most does not depend on the place
    assert measure_regularity(xy) == 1
    assert not holds_mixtures(random, 0.8, xy)
    assert holds_mixtures(np.column_stack([np.sin(column / 5), random[:, :2]]), 0.8, xy)
    both = np.vstack([xy, xy + 3])  # two slices in one place
    assert measure_regularity(both, np.repeat([0, 1], 900)) == 1


def test_dip() -> None:
    rng = np.random.default_rng(0)
    assert measure_dip(rng.uniform(size=5000)) < 0.01
    assert measure_dip(rng.normal(size=5000)) < 0.01
    assert measure_dip(np.concatenate([rng.normal(-5, 1, 2500), rng.normal(5, 1, 2500)])) > 0.1
    assert measure_dip(np.repeat([0.0, 1.0], 500)) == pytest.approx(0.25, abs=0.01)

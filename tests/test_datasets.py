import re
from collections.abc import Callable

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from stmfg import datasets
from stmfg.datasets import simulate, simulate_slices
from stmfg.errors import InputError

KINDS = [(tissue, layout) for tissue in ("cortex", "blobs") for layout in ("hex", "cells")]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def tissue_and_layout(request):
    return dict(zip(("tissue", "layout"), request.param, strict=True))


@pytest.fixture(scope="module")
def adata(tissue_and_layout):
    return simulate(**tissue_and_layout)


def nearest(adata, k=1):
    return cKDTree(adata.obsm["spatial"]).query(adata.obsm["spatial"], k + 1)


def floor(adata, n_domains):
    """Log-normalise, PCA, mean over 18 neighbours, Gaussian mixture: what any method has to beat."""
    counts = adata.X.toarray()
    logs = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    scaled = np.clip((logs - logs.mean(axis=0)) / np.maximum(logs.std(axis=0), 1e-6), None, 10)
    pcs = PCA(15, svd_solver="randomized", random_state=0).fit_transform(scaled).astype(float)
    smooth = pcs[nearest(adata, 18)[1]].mean(axis=1)
    mixture = GaussianMixture(n_domains, covariance_type="tied", n_init=1, reg_covar=1e-4, random_state=0)
    return mixture.fit_predict(smooth)


def test_default_is_a_visium_section_of_cortex():
    adata = simulate()
    assert adata.shape == (3000, 500)
    assert list(adata.obs["ground_truth"].cat.categories) == ["L1", "L2", "L3", "L4", "L5", "L6", "WM"]
    assert adata.var_names[0] == "Gene0001"
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique


def test_counts_are_sparse_and_integral(adata):
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert adata.X.has_sorted_indices
    assert (adata.X.data > 0).all()
    np.testing.assert_array_equal(adata.X.data, np.round(adata.X.data))


def test_every_domain_is_there(adata):
    assert adata.obs["ground_truth"].dtype == "category"
    assert (adata.obs["ground_truth"].value_counts() > 30).all()
    assert adata.obs["ground_truth"].nunique() == 7


def test_domains_are_coherent_in_space(adata):
    codes = adata.obs["ground_truth"].cat.codes.to_numpy()
    _, near = nearest(adata, 6)
    assert (codes[near[:, 1:]] == codes[:, None]).mean() > 0.8


def test_markers_are_higher_in_their_domain(adata):
    counts = adata.X.toarray()
    fractions = counts / counts.sum(axis=1, keepdims=True)
    truth = adata.obs["ground_truth"]
    ratios = []
    for name in truth.cat.categories:
        marker, inside = (adata.var["marker_of"] == name).to_numpy(), (truth == name).to_numpy()
        assert marker.sum() >= 10
        markers = fractions[:, marker].sum(axis=1)
        ratios.append(markers[inside].mean() / markers[~inside].mean())
    assert min(ratios) > 1.02
    assert 1.3 < max(ratios) < 3
    assert (adata.var["marker_of"] == "").sum() > 200


def test_floor_is_neither_blind_nor_perfect(adata):
    score = adjusted_rand_score(adata.obs["ground_truth"], floor(adata, 7))
    assert 0.2 < score < 0.9


def test_same_seed_same_data_other_seed_other_data(tissue_and_layout, global_generators):
    before = global_generators()
    a, b, c = (simulate(300, 60, random_state=seed, **tissue_and_layout) for seed in (5, 5, 6))
    assert global_generators() == before
    assert (a.X != b.X).nnz == 0
    np.testing.assert_array_equal(a.obsm["spatial"], b.obsm["spatial"])
    assert a.obs.equals(b.obs)
    assert a.var.equals(b.var)
    assert (a.X != c.X).nnz > 0
    assert not a.obs["ground_truth"].equals(c.obs["ground_truth"])


@pytest.mark.parametrize("n_obs", [100, 101, 3000])
def test_hexagonal_spots_are_100_um_apart(n_obs):
    adata = simulate(n_obs, 40)
    assert adata.obsm["spatial"].dtype == np.float64
    distance, _ = nearest(adata, 6)
    np.testing.assert_allclose(distance[:, 1], 100, rtol=1e-9)
    inner = np.isclose(distance[:, 6], 100, rtol=1e-9).mean()
    assert inner > 0.6
    width, height = np.ptp(adata.obsm["spatial"], axis=0)
    assert 0.7 < width / height < 1.4


def test_cells_are_irregular_and_about_10_um_apart():
    distance = nearest(simulate(layout="cells"))[0][:, 1]
    assert distance.min() > 4
    assert 6 < distance.mean() < 11
    assert distance.std() > 0.5


@pytest.mark.parametrize(("n_obs", "n_genes", "n_domains"), [(100, 500, 7), (12, 48, 12), (2, 8, 2), (257, 1001, 15)])
def test_any_size(tissue_and_layout, n_obs, n_genes, n_domains):
    adata = simulate(n_obs, n_genes, n_domains=n_domains, **tissue_and_layout)
    assert adata.shape == (n_obs, n_genes)
    assert adata.obs["ground_truth"].nunique() == n_domains
    assert set(adata.var["marker_of"]) - {""} == set(adata.obs["ground_truth"])


def test_blocks_join_up(monkeypatch):
    monkeypatch.setattr(datasets, "_BLOCK_ENTRIES", 40 * 70)
    adata = simulate(1000, 40, mean_depth=200)
    assert adata.shape == (1000, 40)
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    assert depth[:500].mean() == pytest.approx(depth[500:].mean(), rel=0.1)


def test_mean_depth_is_the_mean_number_of_counts(tissue_and_layout):
    adata = simulate(2000, 100, mean_depth=400, **tissue_and_layout)
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    assert depth.mean() == pytest.approx(400, rel=0.05)
    assert depth.std() / depth.mean() > 0.2


def test_difficulty_lowers_the_contrast():
    def contrast(difficulty):
        adata = simulate(1000, 200, n_domains=3, difficulty=difficulty)
        marker, inside = adata.var["marker_of"] == "L1", adata.obs["ground_truth"] == "L1"
        markers = adata[:, marker].X.sum(axis=1) / adata.X.sum(axis=1)
        return markers[inside.to_numpy()].mean() / markers[~inside.to_numpy()].mean()

    assert contrast(0.5) > contrast(1) > contrast(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_obs": 6}, "n_obs must be an integer of at least 7 (one per domain), got 6"),
        ({"n_obs": 1e3}, "n_obs must be an integer of at least 7 (one per domain), got 1000.0"),
        ({"n_genes": 27}, "n_genes must be an integer of at least 28 (4 per domain), got 27"),
        ({"n_domains": 1}, "n_domains must be an integer of at least 2, got 1"),
        ({"tissue": "bone"}, "tissue must be one of 'cortex', 'blobs', got 'bone'"),
        ({"layout": "square"}, "layout must be one of 'hex', 'cells', got 'square'"),
        ({"difficulty": 0}, "difficulty must be a positive finite number, got 0"),
        ({"difficulty": float("nan")}, "difficulty must be a positive finite number, got nan"),
        ({"mean_depth": -5.0}, "mean_depth must be a positive finite number, got -5.0"),
        ({"random_state": -1}, "random_state must be an integer of at least 0, got -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        simulate(**arguments)


def test_slices_share_domains_and_markers_and_only_the_first_has_the_last_domain() -> None:
    adata = simulate_slices(3, 300, 100, n_domains=4, random_state=1)
    domains = adata.obs.groupby("slice", observed=True)["ground_truth"].unique()
    assert [sorted(d) for d in domains] == [["L1", "L2", "L3", "WM"], ["L1", "L2", "L3"], ["L1", "L2", "L3"]]
    assert list(adata.obs["slice"].cat.categories) == ["slice1", "slice2", "slice3"]
    assert set(adata.var["marker_of"]) == {"", "L1", "L2", "L3", "WM"}
    assert adata.obs_names.is_unique
    assert adata.obsm["spatial"].shape == (900, 2)


def test_the_batch_effect_is_as_large_as_asked_for(refused: Callable[..., str]) -> None:
    def spread(batch_effect: float) -> float:
        adata = simulate_slices(2, 2000, 200, n_domains=3, batch_effect=batch_effect, random_state=2)
        same = (adata.obs["ground_truth"] == "L1").to_numpy()
        first = (adata.obs["slice"] == "slice1").to_numpy()
        one, other = (np.asarray(adata.X[same & s].sum(axis=0)).ravel() + 0.5 for s in (first, ~first))
        return float(np.std(np.log(one / other)))

    assert spread(0) < 0.3
    assert spread(1.0) == pytest.approx(np.sqrt(2), abs=0.35)
    assert "batch_effect" in refused(simulate_slices, batch_effect=-1)
    assert "n_slices" in refused(simulate_slices, 1)
    assert "n_domains" in refused(simulate_slices, n_domains=2)

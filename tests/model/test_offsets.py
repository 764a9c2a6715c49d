"""Offsets of slices are taken off, domains that one slice alone has are not."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import stmfg
from stmfg import datasets, metrics
from stmfg.model import offsets as _offsets
from stmfg.model.components import Middle, principal_axes


def blobs(
    counts: dict[int, list[int]], offsets: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points about four means in the plane and more, shifted by slice, with their slices and groups."""
    rng = np.random.default_rng(seed)
    means = np.array([[6.0, 0, 0], [-6, 0, 0], [0, 6, 0], [0, -6, 6]])
    libraries = np.repeat(list(counts), [sum(n) for n in counts.values()])
    groups = np.concatenate([np.repeat(np.arange(4), n) for n in counts.values()])
    return means[groups] + offsets[libraries] + rng.normal(size=(len(groups), 3)), libraries, groups


def between(x: np.ndarray, libraries: np.ndarray, groups: np.ndarray, shared: list[int]) -> float:
    """Return how far the means of one group lie apart on two slices, at most over the groups."""
    return max(
        float(np.linalg.norm(x[(groups == g) & (libraries == 0)].mean(0) - x[(groups == g) & (libraries == 1)].mean(0)))
        for g in shared
    )


def test_offsets_are_found_where_slices_are_made_up_differently() -> None:
    offsets = np.array([[3.0, -2, 1], [-3, 2, 4]])
    x, libraries, groups = blobs({0: [200, 50, 50, 150], 1: [50, 200, 150, 0]}, offsets)
    aligned = _offsets.align(x.astype(np.float32), libraries)
    assert between(x, libraries, groups, [0, 1, 2]) > 7
    assert between(aligned, libraries, groups, [0, 1, 2]) < 0.5
    # Plain centring pulls the groups apart, as one slice has more of one and the other of another.
    assert between(_offsets.centred(x, libraries), libraries, groups, [0, 1, 2]) > 3


def test_a_single_slice_is_left_as_it_is() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert _offsets.align(x, None) is x
    assert _offsets.centred(x, None) is x


def test_slices_that_share_nothing_and_slices_of_few_spots_are_borne() -> None:
    x, libraries, _ = blobs({0: [30, 30, 0, 0], 1: [0, 0, 30, 30], 2: [1, 0, 0, 0]}, np.zeros((3, 3)))
    aligned = _offsets.align(x.astype(np.float32), libraries)
    assert np.isfinite(aligned).all()
    np.testing.assert_allclose(aligned.mean(axis=0), 0, atol=1e-5)


def test_the_order_of_the_spots_hardly_matters() -> None:
    x, libraries, _ = blobs({0: [60, 60, 60, 60], 1: [80, 40, 60, 0]}, np.array([[1.0, 0, 0], [0, 1, 0]]))
    order = np.random.default_rng(1).permutation(len(x))
    one = _offsets.align(x.astype(np.float32), libraries)
    other = _offsets.align(x[order].astype(np.float32), libraries[order])
    np.testing.assert_allclose(other, one[order], atol=0.1)  # starts are drawn in the order of the spots


@pytest.mark.parametrize("genes", [40, 1200])
def test_principal_axes_are_those_of_centred_slices(genes: int) -> None:
    rng = np.random.default_rng(2)
    libraries = np.repeat([0, 1], [100, 60])
    strength = np.r_[9.0, 6.0, 4.0, np.full(genes - 3, 0.1)]
    x = rng.normal(size=(160, genes)) * strength + np.where(libraries[:, None] == 0, 50.0, -50.0)
    center = Middle(_offsets.means(x, libraries), libraries)
    ours = principal_axes(sparse.csr_matrix(x, dtype=np.float32), center, 3, 0)
    _, _, expected = np.linalg.svd(_offsets.centred(x, libraries), full_matrices=False)
    np.testing.assert_allclose(np.abs(ours.T @ expected[:3].T), np.eye(3), atol=5e-3)


@pytest.fixture(scope="module")
def both() -> AnnData:
    return datasets.simulate_slices(2, 800, 300, n_domains=5, difficulty=0.3, random_state=0)


def test_domains_are_named_alike_and_the_one_of_a_single_slice_stays_its_own(both: AnnData) -> None:
    adata = both.copy()
    stmfg.tl.domains(adata, n_domains=5, library_key="slice")
    truth, found = adata.obs["ground_truth"].astype(str), adata.obs["stmfg_domain"].astype(str)
    assert metrics.ari(truth, found) > 0.7  # over both slices at once: only names that mean the same score
    own = truth == "WM"
    holds = found == found[own].mode()[0]
    assert holds[own].mean() > 0.9  # recall
    assert own[holds].mean() > 0.9  # precision


@pytest.mark.parametrize("random_state", [0, 1, 4])
def test_slices_of_different_make_up_are_laid_over_each_other(random_state: int) -> None:
    # The larger domain of the first slice is missing on the second: with equal means one domain would lie on another.
    slices = datasets.simulate_slices(2, 400, 100, n_domains=3, difficulty=0.4, random_state=random_state)
    stmfg.tl.domains(slices, n_domains=3, library_key="slice", epochs=0, finest_level=0, redraws=0)
    assert metrics.ari(slices.obs["ground_truth"], slices.obs["stmfg_domain"]) > 0.85


def test_slices_mix_where_they_did_not(both: AnnData) -> None:
    before, after = both.copy(), both.copy()
    stmfg.gr.spatial(before, library_key="slice")
    del before.uns["stmfg"]  # as if of another tool, which is used without the slices being known
    before.obs = before.obs.rename(columns={"slice": "part"})
    before.obsm["spatial"] = before.obsm["spatial"] + 10_000 * (before.obs["part"] == "slice2").to_numpy()[:, None]
    stmfg.tl.embed(before, epochs=0)
    stmfg.tl.embed(after, epochs=0, library_key="slice")
    mixing = [metrics.lisi(x.obsm["X_stmfg"], x.obs[key]).mean() for x, key in ((before, "part"), (after, "slice"))]
    assert mixing[0] < 1.01 < mixing[1]


def test_transform_repeats_what_was_fitted(both: AnnData) -> None:
    model = stmfg.STMFG(epochs=2).fit(both, library_key="slice")
    again = stmfg.STMFG(epochs=2).fit(both, library_key="slice").result.embedding
    np.testing.assert_allclose(model.transform(both, library_key="slice"), again, atol=1e-4)


def test_a_model_of_several_slices_is_saved_and_decodes_the_average_slice(both: AnnData, tmp_path: object) -> None:
    model = stmfg.STMFG(epochs=30, decoder_genes=0).fit(both, library_key="slice")
    model.save(f"{tmp_path}/model")
    loaded = stmfg.STMFG.load(f"{tmp_path}/model")
    denoised = loaded.denoise(both, library_key="slice")
    np.testing.assert_array_equal(denoised, model.denoise(both, library_key="slice"))
    # What a slice detects more of is taken off: the slices' profiles differ less than those of the counts.
    first = (both.obs["slice"] == "slice1").to_numpy()
    shared = first & (both.obs["ground_truth"] != "WM").to_numpy()

    def apart(x: np.ndarray) -> float:
        one, other = x[shared].sum(axis=0) + 1, x[~first].sum(axis=0) + 1
        return float(np.std(np.log(one / one.sum()) - np.log(other / other.sum())))

    assert apart(denoised) < 0.5 * apart(both.X.toarray())

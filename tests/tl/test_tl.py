"""What a user calls, and everything it promises to write: the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import stmfg
from stmfg import gr, tl
from stmfg.config import PRESETS
from stmfg.errors import MissingKeyError


def keys(adata: AnnData) -> dict[str, set[str]]:
    return {slot: set(getattr(adata, slot)) for slot in ("obs", "var", "obsm", "varm", "obsp", "layers", "uns")}


def same_results(a: AnnData, b: AnnData) -> None:
    """Check that two runs wrote the very same."""
    for column in ("stmfg_domain", "stmfg_confidence"):
        pd.testing.assert_series_equal(a.obs[column], b.obs[column])
    for key in ("X_stmfg", "stmfg_view_weights"):
        np.testing.assert_array_equal(a.obsm[key], b.obsm[key])
    assert (a.obsp["spatial_connectivities"] != b.obsp["spatial_connectivities"]).nnz == 0
    assert set(a.uns["stmfg"]) == set(b.uns["stmfg"])
    for term, values in a.uns["stmfg"]["history"].items():
        np.testing.assert_array_equal(values, b.uns["stmfg"]["history"][term])


def test_exactly_the_promised_keys_are_written(section: AnnData, quick: dict[str, Any]) -> None:
    section.layers["other"] = section.X.copy()
    section.raw = section.copy()
    section.uns["mine"] = {"a": 1}
    before, untouched = keys(section), section.copy()
    assert tl.domains(section, n_domains=4, denoised=True, **quick) is None
    before["layers"] |= {"stmfg_denoised"}
    before["obs"] |= {"stmfg_domain", "stmfg_confidence", "stmfg_half", "stmfg_leaf"}
    before["obsm"] |= {"X_stmfg", "stmfg_components", "stmfg_view_weights"}
    before["obsp"] |= {"spatial_connectivities"}
    before["uns"] |= {"stmfg", "stmfg_domain_colors", "stmfg_leaf_colors"}
    assert keys(section) == before
    for matrix in (section.X, section.layers["other"], section.raw.X):
        assert matrix.dtype == untouched.X.dtype
        assert (matrix != untouched.X).nnz == 0
    np.testing.assert_array_equal(section.obsm["spatial"], untouched.obsm["spatial"])
    pd.testing.assert_frame_equal(section.obs[untouched.obs.columns], untouched.obs)
    pd.testing.assert_frame_equal(section.var, untouched.var)
    assert section.uns["mine"] == {"a": 1}


def test_what_is_written_has_the_promised_form(solved: AnnData) -> None:
    n = solved.n_obs
    domain, confidence = solved.obs["stmfg_domain"], solved.obs["stmfg_confidence"]
    assert domain.cat.categories.tolist() == ["1", "2", "3", "4"]
    sizes = domain.value_counts()[domain.cat.categories]
    assert sizes.is_monotonic_decreasing
    assert sizes.min() > 0
    assert confidence.dtype == np.float32
    assert confidence.between(0, 1).all()
    assert confidence.nunique() > 2
    z, weights = solved.obsm["X_stmfg"], solved.obsm["stmfg_view_weights"]
    assert z.dtype == weights.dtype == np.float32
    assert z.shape[0] == n
    assert np.isfinite(z).all()
    record = solved.uns["stmfg"]
    names = list(record["view_weight_names"])
    assert names == [f"layer {layer}: {view}" for layer in (1, 2) for view in ("spatial", "feature")]
    assert weights.shape == (n, 4)
    np.testing.assert_allclose(weights.reshape(n, 2, 2).sum(axis=2), 1, rtol=1e-5)
    assert record["version"] == stmfg.__version__
    assert (record["random_state"], record["n_domains"]) == (7, {"chosen": 4})
    assert (record["params"]["epochs"], record["params"]["n_layers"]) == (3, 2)
    assert set(record["params"]) == set(stmfg.Config().to_dict())
    assert {len(values) for values in record["history"].values()} == {3}
    graph = solved.obsp["spatial_connectivities"]
    assert sparse.issparse(graph)
    assert graph.dtype == np.float32
    assert (graph != graph.T).nnz == 0


def test_colours_are_where_scanpy_looks_for_them(section: AnnData, quick: dict[str, Any]) -> None:
    tl.domains(section, n_domains=4, **quick)
    assert len(set(section.uns["stmfg_domain_colors"])) == 4
    section.uns["stmfg_domain_colors"] = ["red", "green", "blue", "white"]
    tl.domains(section, n_domains=3)
    assert list(section.uns["stmfg_domain_colors"]) == ["red", "green", "blue", "white"]  # the user's, and enough
    tl.domains(section, n_domains=5, key_added="five")
    tl.domains(section, n_domains=5)
    assert list(section.uns["stmfg_domain_colors"]) == list(section.uns["five_colors"])
    assert len(set(section.uns["five_colors"])) == 5


@pytest.mark.parametrize("clusterer", ["mixture", "kmeans"])
@pytest.mark.parametrize("k", [2, 5, 11])
def test_as_many_domains_as_asked_and_none_empty(
    section: AnnData, quick: dict[str, Any], k: int, clusterer: str
) -> None:
    tl.domains(section, n_domains=k, clusterer=clusterer, n_votes=2, n_starts=1, **quick)
    found = section.obs["stmfg_domain"]
    assert found.cat.categories.tolist() == [str(i + 1) for i in range(k)]
    assert found.value_counts().min() > 0
    assert section.uns["stmfg"]["n_domains"]["chosen"] == k


def test_a_few_spots_are_enough(quick: dict[str, Any]) -> None:
    tiny = stmfg.datasets.simulate(8, 16, n_domains=2)
    tl.domains(tiny, 7, **quick)
    assert tiny.obs["stmfg_domain"].nunique() == 7


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_equal_domains_have_the_same_numbers(order: tuple[int, ...], section: AnnData, quick: dict[str, Any]) -> None:
    def thirds(x: Any, k: int, *, random_state: int) -> Any:
        return np.array(order)[np.argsort(np.argsort(x[:, 0], kind="stable")) * k // len(x)]

    tl.domains(section, n_domains=3, clusterer=thirds, refine=0, averages=False, **quick)
    sizes = section.obs["stmfg_domain"].value_counts()
    assert sizes.to_list() == [100, 100, 100]
    place = np.lexsort(section.obsm["spatial"].T)
    first = [np.flatnonzero((section.obs["stmfg_domain"] == str(i + 1)).to_numpy()[place])[0] for i in range(3)]
    assert first == sorted(first)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_find_clear_domains(section: AnnData, preset: str) -> None:
    tl.domains(section, n_domains=4, preset=preset, epochs=15)
    assert stmfg.metrics.ari(section.obs["ground_truth"], section.obs["stmfg_domain"]) > 0.35
    assert section.uns["stmfg"]["params"]["features"] == stmfg.Config.preset(preset).features


def test_the_number_of_domains_can_be_left_open(section: AnnData, quick: dict[str, Any]) -> None:
    tl.domains(section, n_domains="auto", n_votes=2, n_starts=1, **quick)
    choice = section.uns["stmfg"]["n_domains"]
    assert 2 <= choice["chosen"] <= 15
    assert section.obs["stmfg_domain"].nunique() == choice["chosen"] == choice["n"][choice["score"].argmax()]
    assert choice["chosen"] not in choice["rivals"]
    assert str(choice["chosen"]) in choice["sentence"]
    tl.domains(section, n_domains=4)
    assert section.uns["stmfg"]["n_domains"] == {"chosen": 4}  # nothing is left of the choice


def test_the_same_seed_gives_the_same(section: AnnData, quick: dict[str, Any]) -> None:
    before = keys(section)
    copies = [tl.domains(section, n_domains=4, random_state=3, copy=True, **quick) for _ in range(2)]
    same_results(*copies)
    assert keys(section) == before
    other = tl.domains(section, n_domains=4, random_state=4, copy=True, **quick)
    assert not np.array_equal(other.uns["stmfg"]["history"]["total"], copies[0].uns["stmfg"]["history"]["total"])


@pytest.mark.parametrize("n_domains", [4, "auto"])
def test_nothing_hangs_on_the_number_of_cores(
    section: AnnData, quick: dict[str, Any], n_domains: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    for cores in (1, 2):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        adata = section.copy()
        tl.domains(adata, n_domains=n_domains, **quick | {"redraws": 2})
        kept.append(adata)
    pd.testing.assert_frame_equal(kept[0].obs, kept[1].obs)
    np.testing.assert_array_equal(kept[0].obsm["X_stmfg"], kept[1].obsm["X_stmfg"])


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")  # anndata's own news
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_results_go_through_files(section: AnnData, quick: dict[str, Any], form: str, tmp_path: Path) -> None:
    counts = section.X.toarray()
    counts[5] = 0  # a spot left out is recorded by name
    section.X = sparse.csr_matrix(counts)
    tl.embed(section, denoised=True, **quick)
    tl.domains(section, n_domains=4, **quick)
    path = tmp_path / f"result.{form}"
    if form == "h5ad":
        section.write_h5ad(path)
        back = anndata.read_h5ad(path)
    else:
        with anndata.settings.override(zarr_write_format=3):
            section.write_zarr(path)
        back = anndata.read_zarr(path)
    same_results(section, back)
    np.testing.assert_array_equal(back.layers["stmfg_denoised"], section.layers["stmfg_denoised"])
    for name, value in section.uns["stmfg"]["params"].items():
        np.testing.assert_array_equal(back.uns["stmfg"]["params"][name], value)
    for name in ("version", "random_state", "n_domains", "view_weight_names", "left_out"):
        np.testing.assert_array_equal(back.uns["stmfg"][name], section.uns["stmfg"][name])
    # What was read can be clustered again, without the network.
    tl.domains(back, n_domains=4, **quick)
    same_results(section, back)


def test_a_spatial_graph_that_is_there_is_used(section: AnnData, quick: dict[str, Any]) -> None:
    built = section.copy()
    gr.spatial(built, n_neighbors=stmfg.Config().spatial_neighbors, radius=stmfg.Config().spatial_radius)
    for adata in (section, built):  # a narrow one would link fewer, were none given
        tl.domains(adata, n_domains=4, neighborhoods="wide", **quick)
    same_results(section, built)

    n = section.n_obs
    ring = sparse.csr_matrix((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    for graph in (ring, ring.toarray(), sparse.csc_array(ring)):
        other = AnnData(section.X, obsm={"spatial": section.obsm["spatial"]}, obsp={"spatial_connectivities": graph})
        tl.domains(other, n_domains=4, **quick)
        kept = sparse.csr_matrix(other.obsp["spatial_connectivities"])
        assert (kept != ring).nnz == 0
        assert not np.array_equal(other.obsm["X_stmfg"], section.obsm["X_stmfg"])


def test_a_second_call_only_clusters(solved: AnnData, quick: dict[str, Any]) -> None:
    z, history = solved.obsm["X_stmfg"].copy(), solved.uns["stmfg"]["history"]
    tl.domains(solved, n_domains=6, key_added="finer", random_state=7, **quick)
    assert solved.obs["finer"].nunique() == 6
    assert solved.obs["stmfg_domain"].nunique() == 4
    np.testing.assert_array_equal(solved.obsm["X_stmfg"], z)
    assert solved.uns["stmfg"]["history"] is history
    assert {"stmfg_confidence", "finer_confidence"} <= set(solved.obs)
    assert not solved.obs["finer_confidence"].equals(solved.obs["stmfg_confidence"])


def test_an_embedding_keeps_the_hyperparameters_it_was_trained_with(solved: AnnData, refused: Any) -> None:
    first = solved.obs["stmfg_domain"].copy()
    tl.domains(solved, n_domains=4, random_state=7)  # the layers are those of the embedding, not the preset's
    pd.testing.assert_series_equal(solved.obs["stmfg_domain"], first)
    tl.domains(solved, n_domains=4, clusterer="kmeans")
    for options in ({"epochs": 30}, {"preset": "paper"}, {"use_rep": "X_pca"}):
        assert "to train anew" in refused(tl.domains, solved, n_domains=4, **options)
    assert "epochs=3, not 30" in refused(tl.domains, solved, n_domains=4, epochs=30)
    del solved.obsp["spatial_connectivities"]
    assert "stmfg.gr.spatial(adata)" in refused(tl.domains, solved, n_domains=3, refine=1.0, kind=MissingKeyError)


def test_denoised_expression_on_request(section: AnnData, quick: dict[str, Any], refused: Any) -> None:
    before = keys(section)
    embedded = tl.embed(section, denoised=True, copy=True, **quick)
    assert keys(section) == before
    before["layers"] |= {"stmfg_denoised"}
    before["obsm"] |= {"X_stmfg", "stmfg_components", "stmfg_view_weights"}
    before["obsp"] |= {"spatial_connectivities"}
    before["uns"] |= {"stmfg"}
    assert keys(embedded) == before
    assert embedded.layers["stmfg_denoised"].dtype == np.float32
    assert (embedded.layers["stmfg_denoised"] > 0).all()
    tl.domains(section, n_domains=3, denoised=True, **quick)
    np.testing.assert_array_equal(section.layers["stmfg_denoised"], embedded.layers["stmfg_denoised"])
    tl.domains(section, n_domains=4, denoised=True)  # it is there
    del section.layers["stmfg_denoised"]
    assert "del adata.obsm['X_stmfg'] to train anew" in refused(tl.domains, section, n_domains=3, denoised=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(({"n_domains": k}, f"n_domains is {k!r}") for k in (1, 0, -3, 2.5, True, None, "seven", 301)),
        ({"epoch": 3}, "'epoch'"),
        ({"preset": "fast"}, "'fast'"),
        ({"device": "tpu"}, "'tpu'"),
        ({"use_rep": "X_pca"}, "X_pca"),
        ({"layer": "umi"}, "umi"),
        ({"library_key": "slice"}, "slice"),
        ({"clusterer": "louvain"}, "'louvain'"),
        ({"random_state": -1}, "random_state"),
    ],
    ids=str,
)
def test_bad_options_are_refused_and_nothing_is_written(
    section: AnnData, options: dict[str, Any], words: str, refused: Any
) -> None:
    before = keys(section)
    assert words in refused(tl.domains, section, **{"n_domains": 4, "epochs": 1} | options)
    assert keys(section) == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda adata: setattr(adata, "X", adata.X.log1p()), "raw counts"),
        (lambda adata: adata.obsm.pop("spatial"), "spatial"),
        (lambda adata: adata.obsm["spatial"].__setitem__(7, np.nan), "spot8"),
    ],
)
def test_bad_data_are_refused_and_nothing_is_written(
    section: AnnData, spoil: Callable[[AnnData], Any], words: str, refused: Any
) -> None:
    spoil(section)
    before = keys(section)
    assert words in refused(tl.domains, section, n_domains=4, epochs=1)
    assert keys(section) == before


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_an_embedding_takes_the_place_of_counts(section: AnnData, quick: dict[str, Any], dtype: str) -> None:
    section.obsm["X_pca"] = np.random.default_rng(0).normal(size=(section.n_obs, 7)).astype(dtype)
    without = AnnData(obs=section.obs, obsm=dict(section.obsm))
    assert without.X is None
    for adata in (section, without):
        tl.domains(adata, n_domains=4, use_rep="X_pca", **quick)
        assert adata.uns["stmfg"]["use_rep"] == "X_pca"
    same_results(section, without)  # the counts, where there are any, are not looked at


def test_slices_are_not_linked(section: AnnData, quick: dict[str, Any]) -> None:
    half = section.n_obs // 2
    section.obs["slice"] = pd.Categorical(np.where(np.arange(section.n_obs) < half, "a", "b"))
    section.obsm["spatial"][half:] = section.obsm["spatial"][: section.n_obs - half]  # one on top of the other
    shuffled = section[np.random.default_rng(0).permutation(section.n_obs)].copy()
    tl.domains(shuffled, n_domains=4, library_key="slice", **quick)
    first = (shuffled.obs["slice"] == "a").to_numpy()
    graph = shuffled.obsp["spatial_connectivities"]
    assert graph[first][:, ~first].nnz == 0
    assert graph[first][:, first].nnz > 3 * half
    assert shuffled.obs["stmfg_domain"].nunique() == 4
    again = shuffled.copy()
    tl.domains(again, n_domains=4)  # remembers what the slices are
    same_results(shuffled, again)


def test_spots_left_out_take_the_domain_of_their_own_slice(section: AnnData, quick: dict[str, Any]) -> None:
    # Two slices in the same places, of which the second has another tissue: its genes are the other way round.
    twin = section.copy()
    twin.X = sparse.csr_matrix(twin.X.toarray()[:, ::-1])
    counts = twin.X.toarray()
    counts[29] = 0
    twin.X = sparse.csr_matrix(counts)
    both = anndata.concat({"a": section, "b": twin}, label="slice", index_unique="-")
    tl.domains(both, n_domains=4, library_key="slice", features="factors", **quick)
    domain = both.obs["stmfg_domain"].astype(str).to_numpy()
    own = both.obsp["spatial_connectivities"][section.n_obs + 29].indices
    assert len(own) >= 6
    assert not set(domain[own]) & set(domain[own - section.n_obs])  # or the test would show nothing
    assert domain[section.n_obs + 29] in set(domain[own])

"""What is done with domains once they are found: values worked out by hand, keys, and round trips."""

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
from _finished import finished
from _optional import optional
from stmfg import tl


@pytest.fixture
def line() -> AnnData:
    """Six spots in a row, a a b b b c, each linked to the next, in two slices of three."""
    counts = np.array([[5, 0], [7, 1], [0, 3], [1, 4], [0, 5], [9, 9]])
    adata = AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    adata.obs["domain"] = pd.Categorical(list("aabbbc"))
    adata.obs["slice"] = ["one"] * 3 + ["two"] * 3
    adata.obs["donor"] = ["x"] * 3 + ["y"] * 3
    adata.obs["depth"] = counts.sum(axis=1)
    adata.obsm["spatial"] = np.column_stack([np.arange(6.0), np.zeros(6)])
    adata.obsp["spatial_connectivities"] = sparse.diags_array([[1.0] * 5, [0.5] * 5], offsets=[1, -1]).tocsr()
    return adata


def only_new(change: Callable[..., Any], adata: AnnData, **options: Any) -> set[str]:
    """Call with a copy asked for; return the keys it has besides, and check that the input was left alone."""
    before = adata.copy()
    changed = change(adata, copy=True, **options)
    for slot in ("obs", "obsm", "obsp", "uns", "layers", "var"):
        assert set(getattr(adata, slot)) == set(getattr(before, slot)) <= set(getattr(changed, slot))
    assert change(before, **options) is None
    return {f"{s}/{k}" for s in ("obs", "obsm", "uns") for k in set(getattr(changed, s)) - set(getattr(adata, s))}


def test_adjacency_by_hand(line: AnnData) -> None:
    tl.adjacency(line, key="domain")
    table = line.uns["stmfg_adjacency"].set_index(["domain", "neighbor"])
    assert table["observed"].to_dict() == {
        ("a", "a"): 1, ("a", "b"): 1, ("a", "c"): 0,
        ("b", "a"): 1, ("b", "b"): 2, ("b", "c"): 1,
        ("c", "a"): 0, ("c", "b"): 1, ("c", "c"): 0,
    }  # fmt: skip
    assert table["expected"].to_dict() == pytest.approx(
        {
            # One pair leaves a, for one of the four spots outside: three b and a c. Two leave b, one leaves c.
            ("a", "b"): 3 / 4, ("a", "c"): 1 / 4,
            ("b", "a"): 2 * 2 / 3, ("b", "c"): 2 * 1 / 3,
            ("c", "a"): 2 / 5, ("c", "b"): 3 / 5,
            ("a", "a"): np.nan, ("b", "b"): np.nan, ("c", "c"): np.nan,  # there is nothing outside to shuffle
        },
        nan_ok=True,
    )  # fmt: skip
    assert table.loc[("a", "b"), "ratio"] == pytest.approx(4 / 3)
    assert np.isnan(table.loc[("c", "c"), "ratio"])


def test_labels_are_shuffled_within_slices(line: AnnData) -> None:
    tl.adjacency(line, key="domain", library_key="slice")
    table = line.uns["stmfg_adjacency"].set_index(["domain", "neighbor"])
    # The link between the slices does not count: two pairs of neighbours in each slice of three.
    assert table["observed"].sum() == 4 + 2  # pairs between domains are there in both orders
    assert table.loc[("a", "b"), "expected"] == 1
    assert table.loc[("a", "c"), "expected"] == 0
    assert table.loc[("b", "a"), "expected"] == table.loc[("b", "c"), "expected"] == 1


def test_adjacency_is_that_of_squidpy() -> None:
    squidpy, adata = optional("squidpy"), finished(side=10)
    tl.adjacency(adata)
    found = adata.uns["stmfg_adjacency"].pivot(index="domain", columns="neighbor", values="observed").to_numpy()
    theirs = squidpy.gr.interaction_matrix(adata, "stmfg_domain", copy=True)  # every pair in both directions
    np.testing.assert_array_equal(found + np.diag(np.diag(found)), theirs)


def test_pseudobulk_by_hand(line: AnnData, refused: Any) -> None:
    line.var["gene_ids"] = ["g0", "g1"]
    line.layers["counts"] = line.X.copy()
    line.X = line.X * 0.3
    bulk = tl.pseudobulk(line, key="domain")
    assert list(bulk.obs_names) == ["a", "b", "c"]
    np.testing.assert_array_equal(bulk.X.toarray(), [[12, 1], [1, 12], [9, 9]])
    assert bulk.X.dtype == np.int64
    assert list(bulk.obs["n_spots"]) == [2, 3, 1]
    assert list(bulk.var["gene_ids"]) == ["g0", "g1"]
    del line.layers["counts"]
    assert "non-integer" in refused(tl.pseudobulk, line, key="domain")


def test_pseudobulk_of_samples(line: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stmfg._core.blocks.READ", 2)
    bulk = tl.pseudobulk(line, key="domain", sample_key="slice")
    assert list(bulk.obs_names) == ["one_a", "one_b", "two_b", "two_c"]
    np.testing.assert_array_equal(bulk.X.toarray(), [[12, 1], [0, 3], [1, 9], [9, 9]])
    # What is the same all over a sample is known of its bulks, too.
    assert list(bulk.obs.columns) == ["slice", "domain", "n_spots", "donor"]
    assert list(bulk.obs["donor"]) == ["x", "x", "y", "y"]
    bulk.write_h5ad(tmp_path / "bulk.h5ad")
    assert (anndata.read_h5ad(tmp_path / "bulk.h5ad").X != bulk.X).nnz == 0


def test_markers_are_written(section: AnnData, tmp_path: Path) -> None:
    assert only_new(tl.markers, section, key="ground_truth") == {"uns/stmfg_markers"}
    tl.markers(section, key="ground_truth", n_genes=3)
    table = section.uns["stmfg_markers"]
    assert table["domain"].value_counts().max() == 3
    section.write_h5ad(tmp_path / "a.h5ad")
    pd.testing.assert_frame_equal(stmfg.read(tmp_path / "a.h5ad").uns["stmfg_markers"], table, check_dtype=False)


def test_one_domain_is_split(section: AnnData, quick: dict[str, Any]) -> None:
    tl.domains(section, n_domains=3, **quick)
    before = section.obs["stmfg_domain"].copy()
    written = {"obs/stmfg_subdomain", "obs/stmfg_subdomain_confidence", "uns/stmfg_subdomain_colors"}
    assert only_new(tl.subdomains, section, domain="2", n_domains=2) == written
    tl.subdomains(section, domain="2", n_domains=2, random_state=4)
    found, confidence = section.obs["stmfg_subdomain"], section.obs["stmfg_subdomain_confidence"]
    assert list(found.cat.categories) == ["1", "2.1", "2.2", "3"]
    pd.testing.assert_series_equal(section.obs["stmfg_domain"], before)
    assert (found.astype(str).str.partition(".")[0] == before.astype(str)).all()
    assert (found == "2.1").sum() >= (found == "2.2").sum() > 0
    assert (confidence.notna() == (before == "2")).all()
    assert section.uns["stmfg"]["n_domains"]["chosen"] == 3
    assert len(set(section.uns["stmfg_subdomain_colors"])) == 4
    # A part can be split again.
    tl.subdomains(section, domain="2.1", n_domains=2, key="stmfg_subdomain", key_added="again")
    assert list(section.obs["again"].cat.categories) == ["1", "2.1.1", "2.1.2", "2.2", "3"]


def test_a_split_is_the_clustering_of_that_domain_alone(section: AnnData, quick: dict[str, Any]) -> None:
    tl.domains(section, n_domains=2, **quick)
    shuffled = section[np.random.default_rng(0).permutation(section.n_obs)].copy()
    for adata in (section, shuffled):
        tl.subdomains(adata, domain="1", n_domains=3, clusterer="kmeans")
    pd.testing.assert_series_equal(shuffled.obs["stmfg_subdomain"], section.obs["stmfg_subdomain"][shuffled.obs_names])
    alone = section[section.obs["stmfg_domain"] == "1"].copy()
    tl.domains(alone, n_domains=3, clusterer="kmeans")
    inside = section.obs["stmfg_subdomain"][alone.obs_names].astype(str)
    assert (inside == "1." + alone.obs["stmfg_domain"].astype(str)).all()


def test_parts_may_be_left_open_and_hold_spots_without_counts(section: AnnData, quick: dict[str, Any]) -> None:
    counts = section.X.toarray()
    counts[[3, 40, 200]] = 0
    section.X = sparse.csr_matrix(counts)
    tl.domains(section, n_domains=2, **quick)
    tl.subdomains(section, domain=2, n_domains="auto")
    inside = section.obs["stmfg_domain"] == "2"
    assert section.obs["stmfg_subdomain"].notna().all()
    assert section.obs.loc[inside, "stmfg_subdomain"].nunique() >= 3
    assert not section.obs.loc[~inside, "stmfg_subdomain"].str.contains(".", regex=False).any()


def test_bad_input(section: AnnData, quick: dict[str, Any], refused: Any) -> None:
    assert "run stmfg.tl.domains(adata) first" in refused(tl.subdomains, section, domain="1", n_domains=2)
    assert "'nonsense'" in refused(tl.markers, section, key="nonsense")
    assert "gr.spatial(adata) first" in refused(tl.adjacency, section, key="ground_truth")
    tl.domains(section, n_domains=3, **quick)
    assert "no domain '9'; name one of 1, 2, 3" in refused(tl.subdomains, section, domain="9", n_domains=2)
    assert "fewer spots" in refused(tl.subdomains, section, domain="1", n_domains=290)
    assert "n_layers" in refused(tl.subdomains, section, domain="1", n_domains=2, n_layers=4)
    section.obs["partly"] = section.obs["stmfg_domain"].where(section.obs["stmfg_domain"] != "1")
    for function in (tl.markers, tl.adjacency, tl.pseudobulk):
        assert "adata.obs['partly'].notna()" in refused(function, section, key="partly")
    assert "name the column of obs" in refused(tl.pseudobulk, section, sample_key="nonsense")

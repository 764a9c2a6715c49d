"""A spatial graph that is there: ours follows positions, slices and options, another tool's is used if it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import stmfg
from stmfg.workflow import run

GRAPH = "spatial_connectivities"


def links(adata: AnnData) -> float:
    """Links of a spot, on average."""
    return float(adata.obsp[GRAPH].nnz / adata.n_obs)


def foreign(adata: AnnData, n_neighbors: int = 4) -> AnnData:
    """Give a graph that has no record."""
    stmfg.gr.spatial(adata, n_neighbors=n_neighbors)
    del adata.uns["stmfg"]
    return adata


def test_a_new_run_on_a_result_builds_its_own_graph(section: AnnData, quick: dict[str, Any], tmp_path: Path) -> None:
    run(section, tmp_path / "one", n_domains=3, **quick)
    record = run(tmp_path / "one" / "result.h5ad", tmp_path / "two", n_domains=3, spatial_neighbors=6, **quick)
    result, fresh = stmfg.read(tmp_path / "two" / "result.h5ad"), stmfg.datasets.simulate(300, 80, random_state=1)
    stmfg.gr.spatial(fresh, n_neighbors=6)
    np.testing.assert_array_equal(result.obsp[GRAPH].toarray(), fresh.obsp[GRAPH].toarray())
    assert record["params"]["spatial_neighbors"] == result.uns["stmfg"]["params"]["spatial_neighbors"] == 6
    assert record["warnings"] == []


@pytest.mark.parametrize("change", ["positions", "rows", "option", "slices"])
def test_ours_is_built_anew_when_what_it_was_made_from_changes(
    change: str, section: AnnData, quick: dict[str, Any], caplog: Any
) -> None:
    section.obs["slice"] = np.where(np.arange(300) % 2, "a", "b")
    stmfg.tl.embed(section, **quick)
    changed, options = section, dict(quick)
    if change == "positions":
        section.obsm["spatial"] = section.obsm["spatial"][::-1] ** 1.1
    elif change == "rows":
        changed = section[:200].copy()
    elif change == "option":
        options["spatial_neighbors"] = 6
    else:
        options["library_key"] = "slice"
    fresh = AnnData(changed.X, obs=changed.obs[["slice"]], obsm={"spatial": changed.obsm["spatial"]})
    for adata in (changed, fresh):
        stmfg.tl.embed(adata, **options)
    np.testing.assert_array_equal(changed.obsp[GRAPH].toarray(), fresh.obsp[GRAPH].toarray())
    assert caplog.text == ""


def test_a_graph_made_step_by_step_is_used_and_its_options_recorded(
    section: AnnData, quick: dict[str, Any], tmp_path: Path, caplog: Any
) -> None:
    stmfg.gr.spatial(section, n_neighbors=6)
    before = links(section)
    section.write_h5ad(tmp_path / "a.h5ad")
    stmfg.tl.domains(section, n_domains=3, **quick)
    assert links(section) == before
    assert section.uns["stmfg"]["params"]["spatial_neighbors"] == 6
    record = run(tmp_path / "a.h5ad", tmp_path / "out", n_domains=3, **quick)
    assert links(stmfg.read(tmp_path / "out" / "result.h5ad")) == before
    assert (record["params"]["spatial_neighbors"], record["spatial_graph"]) == (6, "stmfg.gr.spatial")
    assert record["warnings"] == []
    assert caplog.text == ""


def test_options_that_contradict_a_graph_are_refused(section: AnnData, quick: dict[str, Any], refused: Any) -> None:
    stmfg.gr.spatial(section, n_neighbors=6)
    said = refused(stmfg.tl.domains, section, n_domains=3, spatial_neighbors=10, **quick)
    assert "made by stmfg.gr.spatial with spatial_neighbors=6, not 10" in said
    foreign(section)
    said = refused(stmfg.tl.domains, section, n_domains=3, spatial_radius=2.0, **quick)
    assert "is of another tool and would be used, so spatial_radius has no effect" in said


def test_moved_positions_after_gr_spatial(section: AnnData, quick: dict[str, Any], caplog: Any) -> None:
    stmfg.gr.spatial(section, n_neighbors=6)
    section.obsm["spatial"] = section.obsm["spatial"][::-1] ** 1.1
    stmfg.tl.domains(section, n_domains=3, neighborhoods="wide", **quick)
    assert "was made from other positions or slices; it is built anew" in caplog.text
    assert section.uns["stmfg"]["params"]["spatial_neighbors"] == 18


def test_a_graph_of_another_tool_is_used_and_it_is_said(
    section: AnnData, quick: dict[str, Any], tmp_path: Path
) -> None:
    foreign(section).write_h5ad(tmp_path / "a.h5ad")
    record = run(tmp_path / "a.h5ad", tmp_path / "out", n_domains=3, **quick)
    assert any("of another tool, is used" in line for line in record["warnings"])
    assert links(stmfg.read(tmp_path / "out" / "result.h5ad")) == links(section)
    assert "of another tool, is used" in (tmp_path / "out" / "report.html").read_text()
    again = run(tmp_path / "out" / "result.h5ad", tmp_path / "again", n_domains=3, **quick)
    assert any("of another tool, is used" in line for line in again["warnings"])  # of the result, too


@pytest.mark.parametrize(
    "graph", ["empty", "diagonal", "not a number", "negative", "another order", "all with all", "a part"]
)
def test_a_graph_that_is_not_one_of_neighbours_is_replaced(
    graph: str, section: AnnData, quick: dict[str, Any], caplog: Any
) -> None:
    given, order = foreign(section).obsp[GRAPH], np.random.default_rng(0).permutation(300)
    made = {
        "negative": -given,
        "a part": given.multiply(np.arange(300)[:, None] < 100).multiply(np.arange(300) < 100).tocsr(),
        "another order": given[order][:, order],
        "all with all": sparse.csr_matrix(1 - np.eye(300)),
        "empty": sparse.csr_matrix((300, 300)),
        "diagonal": sparse.identity(300, format="csr"),
        "not a number": given * np.nan,
    }
    section.obsp[GRAPH] = made[graph]
    stmfg.tl.domains(section, n_domains=3, neighborhoods="wide", **quick)
    assert "is built anew" in caplog.text
    assert 17 < links(section) < 30


@pytest.mark.parametrize(
    "record", [5, "text", {"graph": 3}, {"graph": {"made_by": "training"}}, {"graph": {"n_obs": "many"}}]
)
def test_what_a_file_has_in_place_of_the_record_is_no_record(
    record: Any, section: AnnData, quick: dict[str, Any], tmp_path: Path
) -> None:
    foreign(section)
    section.uns["stmfg"] = record
    section.write_h5ad(tmp_path / "a.h5ad")
    record = run(tmp_path / "a.h5ad", tmp_path / "out", n_domains=3, **quick)
    assert any("of another tool, is used" in line for line in record["warnings"])


def test_a_graph_that_joins_slices_is_replaced(tmp_path: Path) -> None:
    adata = stmfg.datasets.simulate_slices(2, 400, 100, n_domains=3, difficulty=0.4, random_state=3)
    expected = stmfg.tl.domains(adata, n_domains=3, library_key="slice", copy=True)
    foreign(adata)
    assert sparse.coo_matrix(adata.obsp[GRAPH]).nnz
    adata.write_h5ad(tmp_path / "a.h5ad")
    record = run(tmp_path / "a.h5ad", tmp_path / "out", n_domains=3, library_key="slice")
    assert any("links from slice to slice; the spatial graph is built anew" in line for line in record["warnings"])
    result = stmfg.read(tmp_path / "out" / "result.h5ad")
    assert list(result.obs["stmfg_domain"]) == list(expected.obs["stmfg_domain"])
    assert adjusted_rand_score(result.obs["ground_truth"], result.obs["stmfg_domain"]) > 0.6


def test_other_orders_and_parts_of_the_spots_keep_what_is_theirs(
    section: AnnData, quick: dict[str, Any], caplog: Any
) -> None:
    stmfg.gr.spatial(section, n_neighbors=6)
    stmfg.tl.embed(section, **quick)
    mixed = section[np.random.default_rng(0).permutation(300)].copy()
    part = section[:200].copy()
    for adata in (mixed, part):
        stmfg.tl.domains(adata, n_domains=3)  # of the embedding that is there
    stmfg.tl.embed(mixed, **quick)
    assert links(mixed) == links(section)
    assert caplog.text == ""


def test_an_embedding_of_other_positions_is_not_clustered(
    section: AnnData, quick: dict[str, Any], refused: Any
) -> None:
    stmfg.tl.embed(section, **quick)
    section.obsm["spatial"] = section.obsm["spatial"] * [1, 2]
    assert "del adata.obsm['X_stmfg'] to train anew" in refused(stmfg.tl.domains, section, n_domains=3)

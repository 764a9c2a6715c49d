"""One whole run: what it leaves in its folder, whatever it is given, and what it leaves when it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse

import stmfg
import stmfg.workflow
from _runs import QUICK, go, table, tissue
from stmfg.datasets import simulate
from stmfg.metrics import ari

pytestmark = pytest.mark.usefixtures("single_thread")

EMPTY_SPOTS, EMPTY_GENES = [0, 17, 18, 19, 100], [2, 30]


def with_empty(adata: ad.AnnData) -> ad.AnnData:
    """Some spots and genes without a single count."""
    keep_spots, keep_genes = np.ones(adata.n_obs), np.ones(adata.n_vars)
    keep_spots[EMPTY_SPOTS] = keep_genes[EMPTY_GENES] = 0
    adata.X = sparse.csr_matrix(sparse.diags_array(keep_spots) @ adata.X @ sparse.diags_array(keep_genes), dtype="f4")
    adata.X.eliminate_zeros()
    return adata


# -- the five files ------------------------------------------------------------------------------------


def test_table(finished: tuple[Path, dict[str, Any]]) -> None:
    output, _ = finished
    assert (output / "domains.csv").read_text().splitlines()[0] == "spot,domain,confidence"
    domains = table(output)
    assert domains["spot"].tolist() == ad.read_h5ad(output.parent / "input.h5ad").obs_names.tolist()
    assert set(domains["domain"]) == {"1", "2", "3"}
    assert domains["confidence"].between(0, 1).all()
    sizes = domains["domain"].value_counts()
    assert sizes["1"] >= sizes["2"] >= sizes["3"]


def test_markers(finished: tuple[Path, dict[str, Any]]) -> None:
    output, _ = finished
    markers = pd.read_csv(output / "markers.csv", dtype={"domain": str, "next_domain": str})
    result = ad.read_h5ad(output / "result.h5ad")
    assert result.obs["stmfg_half"].cat.categories.tolist() == ["1", "2", "3"]
    pd.testing.assert_frame_equal(markers, result.uns["stmfg_markers"].reset_index(drop=True), rtol=1e-5)
    stmfg.tl.markers(result)
    pd.testing.assert_frame_equal(markers, result.uns["stmfg_markers"].reset_index(drop=True), rtol=1e-5)
    assert (markers.groupby("domain").size() <= 10).all()
    assert set(markers["domain"]) == {"1", "2", "3"}


def test_figure(finished: tuple[Path, dict[str, Any]]) -> None:
    with Image.open(finished[0] / "domains.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
        colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colours) > 3  # a colour per domain on the background


def test_record(finished: tuple[Path, dict[str, Any]]) -> None:
    output, record = finished
    assert record["version"] == stmfg.__version__
    assert record["input"] == str(output.parent / "input.h5ad")
    assert (record["n_obs"], record["n_vars"], record["n_domains"]) == (150, 50, 3)
    assert record["device"] == "cpu" or torch.cuda.is_available()
    assert record["warnings"] == []
    options = record["options"]
    assert (options["n_domains"], options["preset"], options["random_state"]) == (3, "default", 0)
    assert {"use_rep", "library_key", "device"} <= set(options)
    assert {k: record["params"][k] for k in QUICK} == QUICK
    assert {"python", "torch", "numpy", "anndata"} <= set(record["versions"])
    assert {"read", "train", "domains"} <= {stage["name"] for stage in record["stages"]}
    for stage in record["stages"]:
        assert min(stage["seconds"], stage["cpu_seconds"], stage["peak_mb"] - 10) >= 0
    assert {len(values) for values in record["history"].values()} == {QUICK["epochs"]}
    assert np.isfinite(record["history"]["total"]).all()


def test_result(finished: tuple[Path, dict[str, Any]]) -> None:
    output, record = finished
    result, given = ad.read_h5ad(output / "result.h5ad"), ad.read_h5ad(output.parent / "input.h5ad")
    assert result.obs_names.equals(given.obs_names)
    assert result.var.equals(given.var)
    assert (result.X != given.X).nnz == 0
    assert result.X.dtype == given.X.dtype
    assert list(result.layers) == ["other"]
    assert (result.layers["other"] != given.layers["other"]).nnz == 0
    written = {"stmfg_domain", "stmfg_confidence", "stmfg_half", "stmfg_leaf"}
    assert set(result.obs) == {*given.obs, *written}
    assert set(result.obsm) == {*given.obsm, "X_stmfg", "stmfg_components", "stmfg_view_weights"}
    np.testing.assert_array_equal(result.obsm["spatial"], given.obsm["spatial"])
    np.testing.assert_array_equal(result.obs["note"], given.obs["note"])

    domains = table(output)
    assert result.obs["stmfg_domain"].cat.categories.tolist() == ["1", "2", "3"]
    assert result.obs["stmfg_domain"].astype(str).tolist() == domains["domain"].tolist()
    np.testing.assert_allclose(result.obs["stmfg_confidence"], domains["confidence"], atol=1e-4)
    for key in ("X_stmfg", "stmfg_view_weights"):
        assert result.obsm[key].dtype == np.float32
        assert np.isfinite(result.obsm[key]).all()
    names = pd.Series(result.uns["stmfg"]["view_weight_names"]).str.split(": ", expand=True)
    assert set(names[1]) == {"spatial", "feature"}
    weights = pd.DataFrame(result.obsm["stmfg_view_weights"])
    np.testing.assert_allclose(weights.T.groupby(names[0]).sum(), 1, atol=1e-5)  # attention is a share
    graph = result.obsp["spatial_connectivities"]
    assert sparse.issparse(graph)
    assert (graph != graph.T).nnz == 0
    assert graph.diagonal().sum() == 0
    assert result.uns["stmfg"]["random_state"] == 0
    assert result.uns["stmfg"]["version"] == stmfg.__version__
    assert {k: result.uns["stmfg"]["params"][k] for k in QUICK} == QUICK
    np.testing.assert_allclose(result.uns["stmfg"]["history"]["total"], record["history"]["total"])


# -- the same answer twice -----------------------------------------------------------------------------


def test_the_graph_and_the_spots_left_out_do_not_depend_on_the_order(tmp_path: Path) -> None:
    # On a hexagonal grid many neighbours are equally far away; the order of the input must not choose among them.
    given = simulate(300, 60, n_domains=3, random_state=3)
    keep = np.ones(300)
    keep[np.random.default_rng(3).choice(300, 60, replace=False)] = 0
    given.X = sparse.csr_matrix(sparse.diags_array(keep) @ given.X, dtype="f4")
    given.X.eliminate_zeros()
    order = np.random.default_rng(12).permutation(300)
    permuted = given[order].copy()
    for adata, name in ((given, "given"), (permuted, "permuted")):
        go(adata, tmp_path / name, n_votes=2)
    a, b = (table(tmp_path / name).set_index("spot") for name in ("given", "permuted"))
    assert ari(a["domain"], b["domain"].loc[a.index]) == 1
    graph = given.obsp["spatial_connectivities"]
    assert (graph[order][:, order] != permuted.obsp["spatial_connectivities"]).nnz == 0


def test_the_result_of_a_run_can_be_run_again_into_its_folder(tmp_path: Path) -> None:
    go(tissue(), tmp_path)
    record = go(tmp_path / "result.h5ad", tmp_path, n_domains=4, overwrite=True)
    assert len(record["history"]["total"]) == QUICK["epochs"]  # trained anew, not only clustered anew
    assert set(table(tmp_path)["domain"]) == {"1", "2", "3", "4"}


# -- every kind of input -------------------------------------------------------------------------------


def test_spots_and_genes_without_a_count(tmp_path: Path) -> None:
    given = with_empty(tissue())
    before = given.copy()
    record = go(given, tmp_path / "out")
    names = before.obs_names[EMPTY_SPOTS].tolist()
    about = [line for line in record["warnings"] if "without a single count" in line]
    assert about
    assert all(name in about[0] for name in names)
    domains = table(tmp_path / "out").set_index("spot")
    assert domains.index.tolist() == before.obs_names.tolist()
    assert (domains["confidence"][names] == 0).all()
    assert (domains["confidence"].drop(names) > 0).all()
    result = ad.read_h5ad(tmp_path / "out" / "result.h5ad")
    assert result.shape == before.shape  # genes are kept, too
    assert (result.X != before.X).nnz == 0
    assert np.isfinite(result.obsm["X_stmfg"]).all()
    assert set(result.uns["stmfg"]["left_out"]) == set(names)
    used = ~domains.index.isin(names)
    for name in names:  # the domain of its surroundings
        at = result.obsm["spatial"][result.obs_names.get_loc(name)]
        near = np.argsort(np.linalg.norm(result.obsm["spatial"][used] - at, axis=1))[:10]
        assert domains["domain"][name] in set(domains["domain"][used].iloc[near])


def test_an_embedding_in_place_of_counts(tmp_path: Path) -> None:
    given = tissue()
    embedding = np.random.default_rng(0).normal(size=(given.n_obs, 6))
    embedding[:, 0] += 4 * given.obs["ground_truth"].cat.codes
    adata = ad.AnnData(obs=pd.DataFrame(index=given.obs_names))
    adata.obsm.update({"spatial": given.obsm["spatial"], "X_pca": embedding})
    assert adata.X is None
    assert adata.n_vars == 0
    adata.write_h5ad(tmp_path / "input.h5ad")
    record = go(tmp_path / "input.h5ad", tmp_path / "out", use_rep="X_pca")
    assert record["n_vars"] == 0
    assert record["options"]["use_rep"] == "X_pca"
    result = ad.read_h5ad(tmp_path / "out" / "result.h5ad")
    assert result.X is None
    assert result.uns["stmfg"]["use_rep"] == "X_pca"
    np.testing.assert_array_equal(result.obsm["X_pca"], embedding)
    assert len(table(tmp_path / "out")) == given.n_obs


def test_counts_in_a_layer(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    given = tissue()
    given.layers["counts"] = given.X.copy()
    given.X = np.log1p(given.X.toarray())
    go(given, tmp_path / "out")
    given.layers["umis"] = given.layers.pop("counts")
    record = go(given, tmp_path / "named", layer="umis")
    assert record["options"]["layer"] == "umis"
    for name in ("domains.csv", "markers.csv"):
        for output in ("out", "named"):
            assert (tmp_path / output / name).read_bytes() == (finished[0] / name).read_bytes()


def test_the_report_can_be_made_again(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished[0], folder)
    assert stmfg.workflow.write_report(folder) == folder / "report.html"
    again, first = ((path / "report.html").read_text() for path in (folder, finished[0]))
    maps = [text[text.index('<script type="application/json"') :] for text in (again, first)]
    assert maps[0] == maps[1]
    stmfg.workflow.write_report(folder / "result.h5ad", tmp_path / "other.html", title="Slice <1>")
    assert "<h1>Slice &lt;1&gt;" in (tmp_path / "other.html").read_text()
    (folder / "run.json").unlink()
    stmfg.workflow.write_report(folder)


def test_a_title(tmp_path: Path, refused: Callable[..., str]) -> None:
    record = go(tissue(), tmp_path / "out", title="Cortex")
    assert record["options"]["title"] == "Cortex"
    assert "<h1>Cortex" in (tmp_path / "out" / "report.html").read_text()
    tissue().write_h5ad(tmp_path / "result.h5ad")
    assert "stmfg_domain" in refused(stmfg.workflow.write_report, tmp_path)
    assert "no such file" in refused(stmfg.workflow.write_report, tmp_path / "absent")


def test_the_paper_preset_on_spots_that_coincide(tmp_path: Path) -> None:
    # Two slices put together without a library key: every position is there twice.
    given = tissue()
    given.obsm["spatial"][1::2] = given.obsm["spatial"][::2]
    record = go(given, tmp_path / "out", preset="paper")
    assert record["params"] == {**stmfg.Config.preset("paper").to_dict(), **QUICK}
    assert given.obsp["spatial_connectivities"].nnz > given.n_obs


def test_the_number_of_domains_is_chosen(tmp_path: Path) -> None:
    record = go(tissue(), tmp_path / "out", n_domains="auto")
    assert record["options"]["n_domains"] == "auto"
    assert record["n_domains"] == table(tmp_path / "out")["domain"].nunique() > 1


def test_few_spots_and_few_genes(tmp_path: Path) -> None:
    record = go(tissue()[:4].copy(), tmp_path / "four", n_domains=2)
    assert record["n_obs"] == 4
    go(tissue()[:, :2].copy(), tmp_path / "two_genes")


def test_several_inputs_are_slices_of_one_run(section: ad.AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    paths = [tmp_path / "left.h5ad", tmp_path / "right.h5ad"]
    section[:140].copy().write_h5ad(paths[0])
    section[140:].copy().write_h5ad(paths[1])
    record = stmfg.workflow.run(paths, tmp_path / "out", n_domains=4, epochs=2)
    table = pd.read_csv(tmp_path / "out" / "domains.csv")
    assert list(table.columns) == ["spot", "slice", "domain", "confidence"]
    assert list(table["spot"]) == list(section.obs_names)  # as in the files
    assert list(table["slice"]) == ["left"] * 140 + ["right"] * 160
    result = ad.read_h5ad(tmp_path / "out" / "result.h5ad")
    assert list(result.obs["stmfg_slice"]) == list(table["slice"])
    assert result.obsp["spatial_connectivities"][:140, 140:].nnz == 0
    assert stmfg.workflow.read_record(tmp_path / "out")["source"] == record["input"] == [str(path) for path in paths]
    assert "leave it out" in refused(stmfg.workflow.run, paths, tmp_path / "other", library_key="patient")
    assert "third column" in refused(stmfg.workflow.run, paths, tmp_path / "other", stacked=True)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("stored", [5, {"1": "red"}])
def test_colours_that_are_none_are_replaced(stored: Any, tmp_path: Path) -> None:
    given = tissue()
    given.uns["stmfg_domain_colors"] = stored
    go(given, tmp_path / "out")
    assert len(given.uns["stmfg_domain_colors"]) == len(given.obs["stmfg_domain"].cat.categories)

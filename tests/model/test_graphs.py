"""Graphs over the observations, on layouts whose neighbours are known."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from stmfg import gr
from stmfg.errors import MissingKeyError
from stmfg.model import graphs, threads

SIDE = 12
ROW, COLUMN = np.divmod(np.arange(SIDE * SIDE), SIDE)
HEX = 100.0 * np.column_stack([COLUMN + 0.5 * (ROW % 2), ROW * np.sqrt(0.75)])
"""Hexagonal grid, neighbours 100 apart."""
EDGE = (ROW == 0) | (COLUMN == 0) | (ROW == SIDE - 1) | (COLUMN == SIDE - 1)
SCATTER = np.random.default_rng(0).uniform(0, 1000, (150, 2))
"""Irregular positions: no two distances are the same."""


def same(a: sparse.csr_matrix, b: sparse.csr_matrix) -> bool:
    return a.shape == b.shape and (a != b).nnz == 0


def links(graph: sparse.csr_matrix, node: int) -> set[int]:
    return set(graph[node].indices.tolist())


def check_form(graph: sparse.csr_matrix) -> None:
    """A graph is CSR, float32, symmetric, of ones, without diagonal."""
    assert sparse.isspmatrix_csr(graph)
    assert graph.dtype == np.float32
    assert (graph.data == 1).all()
    assert same(graph, graph.T.tocsr())
    assert not graph.diagonal().any()


@pytest.mark.parametrize("options", [{"n_neighbors": 6}, {"radius": 1.1}])
def test_hexagonal_grid_has_six_neighbors_inside(options: dict[str, Any]) -> None:
    graph = graphs.spatial_graph(HEX, **options)
    check_form(graph)
    middle = 5 * SIDE + 5  # of an odd row: the neighbours above and below are right of it
    around = {middle - 1, middle + 1, *(middle + d for d in (-SIDE, -SIDE + 1, SIDE, SIDE + 1))}
    assert links(graph, middle) == around
    # Nearest neighbours of the edge reach a row further in, and the link holds both ways.
    inside = (np.minimum(ROW, COLUMN) > 2) & (np.maximum(ROW, COLUMN) < SIDE - 3)
    assert (np.diff(graph.indptr)[inside] == 6).all()


def test_radius_links_exactly_what_is_near() -> None:
    distance = np.linalg.norm(HEX[:, None] - HEX[None], axis=2)
    for radius in (1.1, 1.8, 2.05):
        expected = (distance > 0) & (distance < 100 * radius)
        np.testing.assert_array_equal(graphs.spatial_graph(HEX, radius=radius).toarray() > 0, expected)


def test_nearest_neighbors_are_linked_both_ways() -> None:
    graph = graphs.spatial_graph(SCATTER, n_neighbors=4)
    check_form(graph)
    distance = np.linalg.norm(SCATTER[:, None] - SCATTER[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    expected = np.zeros(distance.shape, dtype=bool)
    np.put_along_axis(expected, np.argsort(distance, axis=1)[:, :4], True, axis=1)
    np.testing.assert_array_equal(graph.toarray() > 0, expected | expected.T)


@pytest.mark.parametrize("options", [{"n_neighbors": 5}, {"radius": 2.0}])
def test_unit_and_orientation_do_not_matter(options: dict[str, Any]) -> None:
    graph = graphs.spatial_graph(SCATTER, **options)
    c, s = np.cos(0.4), np.sin(0.4)
    assert same(graphs.spatial_graph(1000 * SCATTER, **options), graph)
    assert same(graphs.spatial_graph(SCATTER @ np.array([[c, -s], [s, c]]) + 7.0, **options), graph)


@pytest.mark.parametrize("options", [{"n_neighbors": 6}, {"radius": 1.1}])
@pytest.mark.parametrize("positions", [HEX, SCATTER], ids=["hexagonal", "irregular"])
def test_order_does_not_matter(positions: NDArray[np.float64], options: dict[str, Any]) -> None:
    # At the edge of a regular grid several spots are equally near: which of them are linked is fixed too.
    order = np.random.default_rng(1).permutation(len(positions))
    graph = graphs.spatial_graph(positions, **options)
    assert same(graphs.spatial_graph(positions[order], **options), graph[order][:, order])


def test_twins_in_one_place_are_neighbors() -> None:
    twins = np.repeat(SCATTER[:30], 2, axis=0)
    graph = graphs.spatial_graph(twins, n_neighbors=3)
    check_form(graph)
    assert (graph[np.arange(0, 60, 2), np.arange(1, 60, 2)] == 1).all()
    assert (np.diff(graph.indptr) >= 3).all()


def test_twins_do_not_change_the_spacing() -> None:
    twins = np.repeat(HEX, 2, axis=0)
    graph = graphs.spatial_graph(twins, radius=1.1)
    check_form(graph)
    assert (np.diff(graph.indptr)[np.repeat(~EDGE, 2)] == 13).all()  # the twin, and six pairs around


@pytest.mark.parametrize("options", [{"n_neighbors": 5}, {"radius": 2.0}])
def test_libraries_are_never_linked(options: dict[str, Any]) -> None:
    positions = np.vstack([SCATTER, SCATTER[:100], SCATTER[:1]])  # in the very same places
    libraries = np.array(["b"] * 150 + ["a"] * 100 + ["c"])
    order = np.random.default_rng(2).permutation(len(positions))
    positions, libraries = positions[order], libraries[order]
    graph = graphs.spatial_graph(positions, libraries=libraries, **options)
    check_form(graph)
    for name in "abc":
        mine = libraries == name
        assert same(graph[mine][:, mine], graphs.spatial_graph(positions[mine], **options))
        assert graph[mine][:, ~mine].nnz == 0
    assert graph[libraries == "c"].nnz == 0  # a slice of one spot


@pytest.mark.parametrize("dimensions", [5, 30], ids=["tree", "search"])
def test_feature_graph_is_cosine_nearest_neighbors(dimensions: int) -> None:
    x = np.random.default_rng(0).normal(size=(80, dimensions))
    graph = graphs.feature_graph(x, n_neighbors=4)
    check_form(graph)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    expected = np.zeros(cosine.shape, dtype=bool)
    np.put_along_axis(expected, np.argsort(-cosine, axis=1)[:, :4], True, axis=1)
    np.testing.assert_array_equal(graph.toarray() > 0, expected | expected.T)
    lengths = np.random.default_rng(1).uniform(0.01, 100, (80, 1))
    assert same(graphs.feature_graph(lengths * x, n_neighbors=4), graph)


def test_feature_graph_with_rows_of_zeros_and_repeats() -> None:
    x = np.random.default_rng(0).normal(size=(40, 5))
    x[:3] = 0
    x[10:20] = x[10]
    graph = graphs.feature_graph(x, n_neighbors=4)
    check_form(graph)
    assert (np.diff(graph.indptr) >= 4).all()


def test_more_neighbors_than_spots_links_all() -> None:
    np.testing.assert_array_equal(graphs.spatial_graph(SCATTER[:4], n_neighbors=6).toarray(), 1 - np.eye(4))
    np.testing.assert_array_equal(graphs.feature_graph(SCATTER[:4], n_neighbors=15).toarray(), 1 - np.eye(4))


def written(adata: AnnData) -> dict[str, set[str]]:
    return {name: set(getattr(adata, name)) for name in ("obs", "var", "obsm", "obsp", "layers", "uns")}


def test_spatial_writes_its_key(section: AnnData) -> None:
    before = written(section)
    assert gr.spatial(section, n_neighbors=5) is None
    before["obsp"].add("spatial_connectivities")
    before["uns"].add("stmfg")
    assert written(section) == before
    check_form(section.obsp["spatial_connectivities"])
    assert same(section.obsp["spatial_connectivities"], graphs.spatial_graph(section.obsm["spatial"], n_neighbors=5))


def test_spatial_on_slices(section: AnnData) -> None:
    section.obs["slice"] = np.arange(section.n_obs) % 3
    gr.spatial(section, radius=3.0, library_key="slice")
    rows, columns = section.obsp["spatial_connectivities"].nonzero()
    assert len(rows) > section.n_obs
    assert (rows % 3 == columns % 3).all()


def test_features_writes_its_key(section: AnnData) -> None:
    gr.spatial(section)
    section.obsm["X_stmfg_input"] = np.random.default_rng(0).normal(size=(section.n_obs, 4)).astype(np.float32)
    before = written(section)
    assert gr.features(section, n_neighbors=5, steps=0) is None
    before["obsp"].add("stmfg_feature_connectivities")
    assert written(section) == before
    own = section.obsp["stmfg_feature_connectivities"]
    check_form(own)
    assert same(own, graphs.feature_graph(section.obsm["X_stmfg_input"], n_neighbors=5))
    gr.features(section, n_neighbors=5, steps=4)
    near = section.obsp["stmfg_feature_connectivities"]
    share = [float(g.multiply(section.obsp["spatial_connectivities"]).sum() / g.sum()) for g in (own, near)]
    assert share[1] > 2 * share[0]  # smoothing brings spots that touch together


def test_copies_leave_the_input_alone(section: AnnData) -> None:
    before = written(section)
    copied = gr.spatial(section, copy=True)
    assert copied is not None
    assert written(section) == before
    assert "spatial_connectivities" in copied.obsp
    copied.obsm["X_stmfg_input"] = np.random.default_rng(0).normal(size=(section.n_obs, 4))
    again = gr.features(copied, copy=True)
    assert again is not None
    assert "stmfg_feature_connectivities" not in copied.obsp
    assert "stmfg_feature_connectivities" in again.obsp


def test_what_is_missing_is_named(section: AnnData, refused: Callable[..., str]) -> None:
    said = refused(gr.features, section, kind=MissingKeyError)
    assert "obsm['X_stmfg_input']" in said
    assert "stmfg.pp.features(adata)" in said
    section.obsm["X_stmfg_input"] = section.obsm["spatial"]
    assert "stmfg.gr.spatial(adata)" in refused(gr.features, section, kind=MissingKeyError)
    assert "obs['slice']" in refused(gr.spatial, section, library_key="slice", kind=MissingKeyError)
    del section.obsm["spatial"]
    assert "obsm['spatial']" in refused(gr.spatial, section, kind=MissingKeyError)


@pytest.mark.parametrize("options", [{"n_neighbors": 0}, {"radius": -1.0}, {"radius": np.nan}])
def test_impossible_neighborhoods_are_refused(
    section: AnnData, options: dict[str, Any], refused: Callable[..., str]
) -> None:
    assert next(iter(options)) in refused(gr.spatial, section, **options)
    assert "spatial_connectivities" not in section.obsp


@pytest.mark.parametrize("options", [{"n_neighbors": 0}, {"steps": -1}])
def test_impossible_feature_neighborhoods_are_refused(
    section: AnnData, options: dict[str, Any], refused: Callable[..., str]
) -> None:
    gr.spatial(section)
    section.obsm["X_stmfg_input"] = section.obsm["spatial"]
    assert next(iter(options)) in refused(gr.features, section, **options)


def test_neighbours_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    whole = graphs.spatial_graph(points, n_neighbors=6)
    monkeypatch.setattr(graphs, "BLOCK", 17)
    assert (graphs.spatial_graph(points, n_neighbors=6) != whole).nnz == 0


def test_patches_are_whole_and_spread_over_the_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "PATCH", 50)
    points = np.random.default_rng(0).uniform(size=(3000, 2)) * [2, 1]
    chosen = graphs.patches(points, 600)
    assert 500 <= len(chosen) <= 600
    assert (np.diff(chosen) > 0).all()
    quarters = np.unique(np.floor(points[chosen] * [2, 4] / 2).astype(int), axis=0)
    assert len(quarters) == 4  # of the tissue, none is left out
    # Whole patches: most of the nearest neighbours are there too.
    inside = np.isin(np.arange(3000), chosen)
    graph = graphs.spatial_graph(points, n_neighbors=6)
    assert (graph[inside][:, inside].sum() / graph[inside].sum()) > 0.6
    np.testing.assert_array_equal(graphs.patches(points, 3000), np.arange(3000))


def test_a_stack_is_linked_through_z_and_slices_are_not(section: AnnData, refused: Callable[..., str]) -> None:
    section.obs["slice"] = ["a"] * 150 + ["b"] * 150
    xy = section.obsm["spatial"][:150]
    flat = np.vstack([xy, xy])
    z = np.repeat([0.0, 50.0], 150)[:, None]  # half a spot spacing apart
    section.obsm["spatial"] = np.hstack([flat, z])
    gr.spatial(section, library_key="slice", stacked=True)
    graph = section.obsp["spatial_connectivities"]
    above = np.arange(150)
    assert graph[above, above + 150].sum() == 150  # the spot right above is the nearest of all
    gr.spatial(section, library_key="slice")
    assert section.obsp["spatial_connectivities"][:150, 150:].nnz == 0
    section.obsm["spatial"] = flat
    assert "third column" in refused(gr.spatial, section, library_key="slice", stacked=True)


def test_patches_are_of_one_slice_each() -> None:
    rng = np.random.default_rng(0)
    libraries = np.repeat(np.arange(6), 4000)
    chosen = graphs.patches(rng.random((24_000, 2)), 12_000, libraries=libraries)
    assert sorted(np.bincount(libraries[chosen], minlength=6)) == [0, 0, 0, 4000, 4000, 4000]


def test_a_thread_that_cannot_start_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, []

    def starts_once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_once)
    monkeypatch.setattr(threads, "count_cores", lambda: 2)
    with pytest.raises(RuntimeError, match="start new thread"):
        graphs.spatial_graph(np.random.default_rng(0).normal(size=(50_000, 2)), n_neighbors=6)
    assert not started[0].is_alive()  # at work no longer, on arrays that are freed

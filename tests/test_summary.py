"""Numbers that describe a result: neighbours, places for names, warnings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from _finished import SPACING, finished
from stmfg._core import summary as _summary


def test_warnings_in_plain_words() -> None:
    adata = finished(20, genes=8)
    adata.obs["stmfg_confidence"] = np.float32(0.2)
    graph = adata.obsp["spatial_connectivities"].tolil()
    graph[:100, 100:] = 0
    graph[100:, :100] = 0
    graph = graph.tocsr()
    depth = np.r_[0.0, np.full(399, 8.0)]
    rng = np.random.default_rng(0)
    labels = _summary.labels(adata)
    codes = labels.codes.copy()
    codes[rng.integers(adata.n_obs)] = 4
    scattered = pd.Categorical.from_codes(codes, categories=pd.Index(list("abcde")))
    said = " ".join(_summary.warnings(adata, scattered, depth, graph))
    for part in ("1 of 400 spots have no counts", "shallow", "100% of the spots", "2 separate pieces",
                 "Domain e is scattered", "Domain e is very small (1 spots)"):  # fmt: skip
        assert part in said
    # Two slices are two pieces by their nature.
    assert "pieces" not in " ".join(_summary.warnings(adata, scattered, depth, graph, slices=2))
    assert _summary.warnings(finished(20), labels, None, finished(20).obsp["spatial_connectivities"]) == []


def test_neighbourhoods_are_shares_of_edges() -> None:
    adata = finished(20)
    table, _ = _summary.neighbourhoods(adata.obsp["spatial_connectivities"], _summary.labels(adata))
    assert table.sum(axis=1) == pytest.approx(np.ones(4))
    assert table[0, 3] == 0
    assert (np.diag(table) > 0.5).all()


def test_neighbourhoods_over_chance_of_a_path() -> None:
    graph = sparse.diags_array([np.ones(5)] * 2, offsets=(-1, 1), shape=(6, 6)).tocsr()
    shares, over = _summary.neighbourhoods(graph, pd.Categorical(list("aabbbc")))
    assert shares == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [1 / 6, 4 / 6, 1 / 6], [0, 1, 0]]))
    # Of the two neighbours that leave b, chance sends 4/3 to a and 2/3, less than one, to c.
    assert over[1, 0] == pytest.approx(1 / (4 / 3))
    assert np.isnan(over[1, 2])
    assert over[0, 0] == pytest.approx(2 / 1)


def test_shuffled_labels_are_neighbours_by_chance() -> None:
    adata = finished(60, genes=0)
    labels = pd.Categorical(np.random.default_rng(0).choice(list("abc"), adata.n_obs, p=[0.6, 0.3, 0.1]))
    _, over = _summary.neighbourhoods(adata.obsp["spatial_connectivities"], labels)
    assert over == pytest.approx(np.ones((3, 3)), abs=0.12)


def test_a_name_is_written_deep_inside_its_domain() -> None:
    adata = finished(30, genes=0)
    labels = _summary.labels(adata)
    xy = adata.obsm["spatial"]
    places = _summary.deepest(xy, labels)
    assert list(labels.codes[places]) == [0, 1, 2, 3]
    others = np.array([np.delete(xy, labels.codes == labels.codes[i], axis=0) for i in places], dtype=object)
    nearest = [np.linalg.norm(other - xy[i], axis=1).min() for i, other in zip(places, others, strict=True)]
    assert min(nearest) > 1.5 * SPACING
    lonely = pd.Categorical(np.where(np.arange(900) == 435, "e", "d"))
    assert _summary.deepest(xy, lonely)[1] == 435

"""What we write is drawn and used by scanpy, squidpy and spatialdata-plot as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from _finished import PALETTE
from _optional import optional
from stmfg import export, tl

pytestmark = pytest.mark.filterwarnings("ignore")  # of those packages


@pytest.fixture(autouse=True)
def _figures() -> Iterator[None]:
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def drawn(axes: Any, n: int) -> list[list[str]]:
    """Return the colours of the n spots in the axes, as often as they are drawn."""
    colours = [drawing.get_facecolors() for drawing in axes.collections]
    return [[to_hex(colour) for colour in each] for each in colours if len(each) == n]


@pytest.mark.parametrize("key", ["stmfg_domain", "stmfg_leaf", "seven"])
def test_scanpy_and_squidpy_draw_any_level_in_our_colours(solved: AnnData, key: str) -> None:
    tl.cut(solved, 7, key_added="seven")
    assert list(solved.uns["stmfg_domain_colors"]) == PALETTE[:4]
    _, (left, right) = plt.subplots(1, 2)
    optional("scanpy").pl.embedding(solved, "spatial", color=key, sort_order=False, ax=left, show=False)
    optional("squidpy").pl.spatial_scatter(solved, color=key, shape=None, ax=right)
    level = solved.obs[key].cat
    for axes in (left, right):
        assert drawn(axes, solved.n_obs)[-1] == [solved.uns[f"{key}_colors"][code] for code in level.codes]
        assert {text.get_text() for text in axes.get_legend().get_texts()} == set(level.categories)


def test_scanpy_ranks_the_genes_of_domains(solved: AnnData) -> None:
    optional("scanpy").tl.rank_genes_groups(solved, "stmfg_domain", method="t-test")
    assert set(solved.uns["rank_genes_groups"]["names"].dtype.names) == {"1", "2", "3", "4"}


def test_squidpy_works_on_our_graph(solved: AnnData) -> None:
    found, _ = optional("squidpy").gr.nhood_enrichment(solved, "stmfg_domain", n_perms=50, seed=0, copy=True)
    tl.adjacency(solved)
    ratio = solved.uns["stmfg_adjacency"].pivot(index="domain", columns="neighbor", values="ratio").to_numpy()
    assert (
        (found > 3) <= ((ratio > 1) | np.isnan(ratio))
    ).all()  # what is clearly more than by chance for them is more for us
    assert (np.diag(found) > 3).all()


def test_spatialdata_plot_draws_domains_in_our_colours(solved: AnnData, tmp_path: Path) -> None:
    sd = optional("spatialdata")
    optional("spatialdata_plot")
    export.spatialdata(solved, tmp_path / "a.zarr")
    store = sd.read_zarr(tmp_path / "a.zarr")
    figure, axes = plt.subplots()
    store.pl.render_shapes("spots", color="stmfg_domain").pl.show(ax=axes)
    assert set(drawn(axes, solved.n_obs)[-1]) == set(PALETTE[:4])
    plt.close(figure)

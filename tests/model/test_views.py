"""A view besides tissue and expression: what it adds, and what becomes of its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from _commands import stmfg_here
from pictured import simulate_pictured
from stmfg import STMFG, pp, tl
from stmfg.errors import MissingKeyError
from stmfg.metrics import ari

VIEWS = ("spatial", "feature", "image=stmfg_image")


def test_the_image_finds_what_the_counts_do_not_show() -> None:
    adata, truth = simulate_pictured()
    pp.image(adata)
    without = tl.domains(adata, n_domains=4, copy=True)
    tl.domains(adata, n_domains=4, views=VIEWS)
    assert without is not None
    blind, seeing = (ari(truth, x.obs["stmfg_domain"].astype(str)) for x in (without, adata))
    assert blind < 0.75
    assert seeing > 0.85
    assert list(adata.uns["stmfg"]["view_weight_names"][1:3]) == ["layer 1: feature", "layer 1: image"]
    np.testing.assert_allclose(adata.obsm["stmfg_view_weights"].reshape(-1, 3, 3).sum(axis=2), 1, rtol=1e-5)


def protein(adata: AnnData) -> AnnData:
    rng = np.random.default_rng(0)
    adata.obsm["protein"] = rng.gamma(2, 1 + adata.obsm["spatial"][:, :1] / 1e3, size=(adata.n_obs, 6)).astype("f4")
    return adata


def test_a_model_with_a_view_is_kept_and_used_again(section: AnnData, tmp_path: Path) -> None:
    adata = protein(section)
    model = STMFG(epochs=2, views=("spatial", "protein=protein")).fit(adata)
    model.save(tmp_path)
    expected = model.transform(adata)
    np.testing.assert_array_equal(STMFG.load(tmp_path).transform(adata), expected)
    order = np.random.default_rng(0).permutation(adata.n_obs)
    np.testing.assert_allclose(model.transform(adata[order].copy()), expected[order], rtol=1e-3, atol=1e-4)


def test_units_of_the_columns_do_not_matter(section: AnnData) -> None:
    adata = protein(section)
    other = adata.copy()
    other.obsm["protein"] = adata.obsm["protein"] * np.array([1, 10, 1e3, 1, 1e-2, 1], dtype="f4") + 5
    a, b = (STMFG(epochs=0, views=("spatial", "protein=protein")).fit(x).transform(x) for x in (adata, other))
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)


def test_a_view_that_is_not_there(section: AnnData, refused: Callable[..., str]) -> None:
    said = refused(tl.domains, section, n_domains=3, views=("spatial", "protein=ADT"), kind=MissingKeyError)
    assert "ADT" in said


def test_an_image_that_is_not_there(section: AnnData, refused: Callable[..., str]) -> None:
    assert "uns['spatial']" in refused(pp.image, section)
    assert "width is 0" in refused(pp.image, section, width=0)


@pytest.mark.parametrize("view", ["image", "=key", "two words=key", "spatial=key", "image="])
def test_a_view_has_a_name_and_a_key(view: str, refused: Callable[..., str]) -> None:
    assert "NAME=KEY" in refused(STMFG, views=("spatial", view))


def test_a_run_describes_the_image_by_itself_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adata, _ = simulate_pictured(300)
    adata.write_h5ad(tmp_path / "slice.h5ad")
    monkeypatch.chdir(tmp_path)
    for output, given in (("a", ["slice.h5ad", "--view", "image"]), ("b", ["--from", "a"])):
        assert stmfg_here("run", "--quiet", "--n-domains", "4", "-o", output, *given) == 0
    record = json.loads((tmp_path / "b" / "run.json").read_text())
    assert record["params"]["views"] == list(VIEWS)
    assert "image" in {stage["name"] for stage in record["stages"]}
    assert (tmp_path / "a" / "domains.csv").read_text() == (tmp_path / "b" / "domains.csv").read_text()

"""Nested domains: levels, names that stay, and edits by hand that go wherever the result goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import stmfg
from stmfg import datasets, export, pl, tl

OPTIONS = {"epochs": 2, "n_layers": 2, "n_votes": 2, "n_starts": 1, "redraws": 2}


@pytest.fixture(scope="module")
def _solved() -> AnnData:
    adata = datasets.simulate(400, 80, n_domains=6, difficulty=0.5, random_state=3)
    letters = str.maketrans("0123", "ACGT")
    adata.obs_names = [f"{np.base_repr(i, 4).zfill(16).translate(letters)}-1" for i in range(400)]  # of 10x
    tl.domains(adata, n_domains=[4, 7, 10], **OPTIONS)
    return adata


@pytest.fixture
def solved(_solved: AnnData) -> AnnData:
    """Return a result with levels of 4, 7 and 10 domains."""
    return _solved.copy()


def test_every_level_has_its_number_of_domains_within_those_of_the_level_before(solved: AnnData) -> None:
    table = tl.levels(solved)
    assert table.index.tolist() == list(range(2, 16))
    assert table["support"].between(0, 1).all()
    assert table.index[table["is_anchor"]].tolist() == [4]
    before = tl.cut(solved, 2)
    for level in table.index:
        domain = tl.cut(solved, level)
        assert domain.nunique() == len(domain.cat.categories) == level
        assert (before.astype(str).groupby(domain, observed=True).nunique() == 1).all()
        before = domain
    assert before.astype(str).tolist() == solved.obs["stmfg_leaf"].astype(str).tolist()


def test_the_level_of_the_vote_is_the_vote_and_names_tell_where_a_domain_comes_from(solved: AnnData) -> None:
    alone = solved.copy()
    tl.domains(alone, n_domains=4)
    assert alone.obs["stmfg_domain"].tolist() == solved.obs["stmfg_domain"].tolist() == tl.cut(solved, 4).tolist()
    for level in range(2, 16):
        for name, number in zip(tl.cut(solved, level), solved.obs["stmfg_domain"], strict=True):
            assert number in name.split("+") if level < 4 else name.split(".")[0] == number
    for level in (7, 10):
        assert solved.obs[f"stmfg_domain_{level}"].tolist() == tl.cut(solved, level).tolist()


def test_a_part_keeps_the_colour_of_its_domain(solved: AnnData) -> None:
    tl.recolour(solved, {"1": "#123456"})
    domain = tl.cut(solved, 10, key_added="fine")
    shades = dict(zip(domain.cat.categories, solved.uns["fine_colors"], strict=True))
    larger = next(name for name in shades if set(name.split(".")) == {"1"})  # at every split
    assert shades[larger] == "#123456"
    assert len(set(shades.values())) == 10
    pl.domains(solved, color="fine")


def test_without_a_tree_the_fix_is_named(solved: AnnData, refused: Any) -> None:
    assert "no level of 30 domains; give one from 2 to 15" in refused(tl.cut, solved, 30)
    tl.domains(solved, n_domains=3, finest_level=0)
    assert "finest_level=15" in refused(tl.levels, solved)
    assert "stmfg_leaf" not in solved.obs
    assert "give such as [4, 7, 10]" in refused(tl.domains, solved, n_domains=[4, "auto"])


def test_levels_that_are_asked_for_are_there_and_more_domains_are_joined_down_to_two(section: AnnData) -> None:
    few = datasets.simulate(24, 16, n_domains=2)
    tl.domains(few, n_domains=[2, 20], **OPTIONS)
    assert few.obs["stmfg_domain_20"].nunique() == 20
    tl.domains(section, n_domains=40, **OPTIONS)
    assert tl.levels(section).index.tolist() == list(range(2, 41))
    assert section.obs["stmfg_leaf"].tolist() == section.obs["stmfg_domain"].tolist()


def test_an_object_fitted_at_several_numbers_has_all_levels(solved: AnnData) -> None:
    bare = AnnData(solved.X, obsm={"spatial": solved.obsm["spatial"]})
    model = stmfg.STMFG(n_domains=(7, 4), **OPTIONS).fit(bare)
    assert model.result is not None
    assert set(model.result.labels) == {"1", "2", "3", "4"}
    assert len(set(model.result.cut(7))) == 7
    assert set(model.predict(bare)) <= {"1", "2", "3", "4"}


@pytest.mark.parametrize("end", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2")
def test_edits_go_with_the_result(solved: AnnData, tmp_path: Path, end: str) -> None:
    sizes = solved.obs["stmfg_domain"].value_counts()
    tl.markers(solved)
    tl.rename(solved, {"3": "Layer 1"})
    assert "Layer 1" in set(solved.uns["stmfg_markers"]["domain"])
    tl.merge(solved, ["4", "2"])
    assert "stmfg_markers" not in solved.uns
    tl.recolour(solved, {"2+4": "#ABCDEF"})
    getattr(solved, f"write_{end}")(tmp_path / f"edited.{end}")
    back = getattr(ad, f"read_{end}")(tmp_path / f"edited.{end}")
    assert back.obs["stmfg_domain"].cat.categories.tolist() == ["1", "2+4", "Layer 1"]
    assert back.uns["stmfg_domain_colors"][1] == "#abcdef"
    assert (back.obs["stmfg_domain"] == "2+4").sum() == sizes["2"] + sizes["4"]
    pl.domains(back)
    export.loupe(back, tmp_path / "loupe.csv")
    assert (tmp_path / "loupe.csv").read_text().count("Layer 1") == sizes["3"]
    tl.split(back, "2+4")  # as it was
    assert back.obs["stmfg_domain"].value_counts()["2"] == sizes["2"]
    while "Layer 1" in set(back.obs["stmfg_domain"]):
        tl.split(back, "Layer 1")
    assert {"Layer 1.1", "Layer 1.2"} <= set(back.obs["stmfg_domain"])
    assert len(back.uns["stmfg_domain_colors"]) == back.obs["stmfg_domain"].nunique() == 5
    assert {"Layer 1"} == {name.split(".")[0] for name in tl.cut(back, 15)[solved.obs["stmfg_domain"] == "Layer 1"]}


def test_the_edits_of_a_report_are_made_all_or_none(solved: AnnData, tmp_path: Path, refused: Any) -> None:
    edits: dict[str, Any] = {"stmfg_edits": 1, "merge": [["2", "3"]], "selections": []}
    edits |= {"rename": {"2+3": "deep", "1": "tumour"}, "colors": {"tumour": "#ff0000"}}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    edited = tl.rename(solved, tmp_path / "edits.json", copy=True)
    assert edited is not None
    assert edited.obs["stmfg_domain"].cat.categories.tolist() == ["tumour", "deep", "4"]
    assert edited.uns["stmfg_domain_colors"][0] == "#ff0000"
    before = solved.obs["stmfg_domain"].tolist()
    assert "no domain 'gone'" in refused(tl.rename, solved, edits | {"rename": {"gone": "x"}})
    assert solved.obs["stmfg_domain"].tolist() == before


def test_another_slice_gets_the_names_of_the_edits(solved: AnnData, tmp_path: Path) -> None:
    bare = AnnData(solved.X, obs=solved.obs[[]], var=solved.var[[]], obsm={"spatial": solved.obsm["spatial"]})
    plain = tl.apply(bare, solved, copy=True)
    assert plain is not None
    tl.rename(solved, {"3": "Layer 1"})
    tl.merge(solved, ["4", "2"], name="deep")
    solved.write_h5ad(tmp_path / "edited.h5ad")
    names = {"1": "1", "2": "deep", "3": "Layer 1", "4": "deep"}
    for reference in (solved, tmp_path / "edited.h5ad", stmfg.STMFG.load(solved)):
        applied = tl.apply(bare, reference, copy=True)
        assert applied is not None
        assert applied.obs["stmfg_domain"].cat.categories.tolist() == ["1", "deep", "Layer 1"]
        same = applied.obs["stmfg_domain"].astype(str) == plain.obs["stmfg_domain"].map(names).astype(str)
        assert same.mean() > 0.95
    stmfg.STMFG.load(solved).save(tmp_path / "model")
    assert set(stmfg.STMFG.load(tmp_path / "model").predict(bare)) <= {"1", "deep", "Layer 1"}
    tl.split(solved, "deep")
    assert set(stmfg.STMFG.load(solved).predict(bare)) <= {"1", "2", "Layer 1", "4"}
    tl.cut(solved, 2, key_added="stmfg_domain")
    assert set(stmfg.STMFG.load(solved).predict(bare)) <= set(solved.obs["stmfg_domain"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda adata: tl.rename(adata, {"9": "x"}), "no domain '9'; name one of 1, 2, 3, 4"),
        (lambda adata: tl.rename(adata, {"1": "2"}), "two domains would be named '2'"),
        (lambda adata: tl.rename(adata, {"1": " "}), "give a text that is not empty"),
        (lambda adata: tl.rename(adata, {"stmfg_edits": 2}), "no edits of a report of this version"),
        (lambda adata: tl.merge(adata, ["1"]), "give two or more"),
        (lambda adata: tl.merge(adata, ["1", "2"], name="3"), "two domains would be named '3'"),
        (lambda adata: tl.recolour(adata, {"1": "red"}), "such as '#0072b2'"),
        (lambda adata: tl.split(adata, "9"), "no domain '9'"),
        (lambda adata: tl.split(adata, tl.cut(adata, 15, key_added="fine").iloc[0], key="fine"), "subdomains"),
    ],
)
def test_edits_that_cannot_be_made_are_refused(
    solved: AnnData, refused: Any, call: Callable[[AnnData], Any], message: str
) -> None:
    assert message in refused(call, solved)


def test_spots_without_counts_are_in_a_leaf_of_their_domain(section: AnnData) -> None:
    section.X.data[: section.X.indptr[5]] = 0
    tl.domains(section, n_domains=3, **OPTIONS)
    parts = section.obs["stmfg_leaf"].astype(str).str.split(".").str[0]
    assert parts.tolist() == section.obs["stmfg_domain"].tolist()

"""What of a report can be chosen: genes, edits, levels of the tree; and what is shown only where a result knows it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import stmfg
from _finished import finished
from _report import gene_counts, map_data, unpacked, written
from stmfg import report
from stmfg.cli import main


def test_every_gene_that_a_hundredth_of_the_spots_has_is_there(tmp_path: Path) -> None:
    adata = finished(genes=60)
    counts = adata.X.tolil()
    counts[:, 40:] = 0
    counts[:4, 40] = 1  # 1 % of 400
    counts[:3, 41] = 1
    counts[[7, 399], 0] = 255, 70_000
    adata.X = counts.tocsr()
    genes = gene_counts(written(tmp_path, adata))
    assert set(genes) == {f"GENE{i}" for i in range(41)}
    for name, values in genes.items():
        assert (values == adata[:, name].X.toarray().ravel()).all()


def test_which_genes_can_be_searched_is_a_choice(tmp_path: Path) -> None:
    adata, path = finished(genes=60), tmp_path / "report.html"
    report.write(adata, path, genes="markers")
    markers = set(gene_counts(path.read_text()))
    assert markers == {f"GENE{i}" for i in range(12)}  # three of each domain are higher in it, the others by chance
    other = min(set(adata.var_names) - markers)
    report.write(adata, path, genes=[other, "GENE0"])
    assert set(gene_counts(path.read_text())) == markers | {other, "GENE0"}
    with pytest.raises(stmfg.errors.InputError, match="no gene 'Mbp'"):
        report.write(adata, path, genes=["Mbp"])
    with pytest.raises(stmfg.errors.InputError, match="genes is 'some'"):
        report.write(adata, path, genes="some")


def test_a_report_is_written_again_with_edits(tmp_path: Path) -> None:
    adata = finished()
    adata.write_h5ad(tmp_path / "result.h5ad")
    edits = {
        "stmfg_edits": 1, "merge": [["1", "2"]], "rename": {"1+2": "Upper"}, "colors": {"Upper": "#123456"},
        "selections": [{"name": "core", "spots": ["spot3", "spot4"]}],
    }  # fmt: skip
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    arguments = ["report", str(tmp_path), "--edits", str(tmp_path / "edits.json"), "-o", str(tmp_path / "edited.html")]
    assert main([*arguments, "--title", "Patient 3", "--genes", "GENE30,GENE31"]) == 0
    text = (tmp_path / "edited.html").read_text()
    data = map_data(text)
    assert (data["domains"][0]["name"], data["domains"][0]["colour"]) == ("Upper", "#123456")
    assert len(data["domains"]) == 3
    assert data["title"] == "Patient 3"
    assert data["selections"] == edits["selections"]
    assert {"GENE30", "GENE31"} <= set(gene_counts(text)) != set(adata.var_names)
    assert list(stmfg.read(tmp_path / "result.h5ad").obs["stmfg_domain"].cat.categories) == ["1", "2", "3", "4"]
    edits["rename"] = {"17": "x"}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    assert main(arguments) == 2


def test_the_embedding_is_shown_as_umap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Umap:
        """In place of umap-learn, whose first call compiles for a minute: the third dimension and the fourth."""

        def __init__(self, **options: Any) -> None:
            assert options == {"random_state": 0, "n_jobs": 1}

        def fit_transform(self, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            return x[:, 2:4]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))
    adata, path = finished(), tmp_path / "report.html"
    report.write(adata, path, plane="umap")
    packed = map_data(path.read_text())["embedding"]
    assert np.corrcoef(unpacked(packed["x"], "<u2"), adata.obsm["X_stmfg"][:, 2])[0, 1] == pytest.approx(1)
    assert "UMAP of what the network learned" in path.read_text()
    with pytest.raises(stmfg.errors.InputError, match="plane is 'tsne'"):
        report.write(adata, path, plane="tsne")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(stmfg.errors.MissingDependencyError, match="stmfg\\[umap"):
        report.write(adata, path, plane="umap")


def test_levels_are_shown_where_they_fit_the_domains(tmp_path: Path) -> None:
    adata = finished()
    assert map_data(written(tmp_path, adata))["levels"] is None
    domain = adata.obs["stmfg_domain"].astype(str)
    adata.obs["stmfg_leaf"] = adata.obs["stmfg_domain"]
    leaves = np.array(["1", "2", "3", "4"])
    names = np.array([["1", "2+3", "2+3", "4"], leaves]).T
    tree = {"levels": np.array([3, 4]), "leaves": leaves, "names": names, "support": np.ones(2), "anchor": 4}
    adata.uns["stmfg"]["tree"] = tree
    levels = map_data(written(tmp_path, adata))["levels"]
    assert levels["numbers"][levels["anchor"]] == 4
    shown = np.array(levels["names"])[unpacked(levels["leaf"], "<u2"), 0]
    assert list(shown) == list(domain.replace({"2": "2+3", "3": "2+3"}))
    assert levels["colours"]["2+3"] in {"#e69f00", "#009e73"}
    adata.write_h5ad(tmp_path / "result.h5ad")
    edits = {"stmfg_edits": 1, "level": 3, "rename": {"2+3": "Middle"}, "selections": [{"name": 1}, 2]}
    (tmp_path / "edits.json").write_text(json.dumps(edits))
    assert main(["report", str(tmp_path), "--edits", str(tmp_path / "edits.json")]) == 0
    again = map_data((tmp_path / "report.html").read_text())
    assert [each["name"] for each in again["domains"]] == ["1", "Middle", "4"]
    assert again["selections"] == []
    adata.obs["stmfg_domain"] = pd.Categorical(domain.replace({"3": "2"}))  # changed since
    assert map_data(written(tmp_path, adata))["levels"] is None


def test_the_number_of_domains_comes_with_a_sentence_and_a_curve(tmp_path: Path) -> None:
    adata = finished()
    assert 'class="number"' not in written(tmp_path, adata)
    curve = {"n": [2, 3, 4, 5], "score": [-9.0, -1.0, 0.0, -2.0], "chosen": 4, "rivals": [3], "sentence": "3 or 4."}
    adata.uns["stmfg"]["n_domains"] = curve
    text = written(tmp_path, adata)
    part = text.partition('class="number"')[2].partition("</figure>")[0]
    assert "<p>3 or 4.</p>" in part
    assert len(re.search('points="([^"]*)"', part)[1].split()) == 4
    assert "Support, by number of domains" in text
    assert "<td>-9.00</td>" in text
    assert re.findall('<i class="(\\w+)"[^>]*title="(\\d)', part) == [("rival", "3"), ("chosen", "4")]


@pytest.mark.parametrize(
    ("change", "micrometres"),
    [({}, None), ({"unit": "micrometres"}, 1.0), ({"unit": "millimetres"}, 1000.0), ({"grid": True}, 100 / 137.0)],
)
def test_the_scale_is_known_or_not(tmp_path: Path, change: dict[str, Any], micrometres: float | None) -> None:
    adata = finished()
    if "unit" in change:
        adata.uns["spatial_platform"] = change
    elif change:
        adata.obs["array_row"], column = np.divmod(np.arange(400), 20)
        adata.obs["array_col"] = 2 * column + adata.obs["array_row"] % 2
    tissue = map_data(written(tmp_path, adata))["tissue"]
    if micrometres is None:
        assert tissue["micrometres"] is None
    else:
        assert tissue["micrometres"] / tissue["step"] == pytest.approx(micrometres, rel=0.01)

"""Further runs with other seeds tell how far a result depends on its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from anndata import AnnData

import stmfg.workflow
from stmfg import cli
from stmfg.metrics import ari

QUICK: dict[str, Any] = {"epochs": 2, "n_votes": 1, "n_starts": 1, "redraws": 2}


def test_it_is_the_agreement_with_runs_of_the_next_seeds(section: AnnData, tmp_path: Path) -> None:
    other = section.copy()
    record = stmfg.workflow.run(section, tmp_path / "a", n_domains=4, random_state=3, stability=2, **QUICK)
    found = record["stability"]
    assert found["seeds"] == [4, 5]
    assert found["n_domains"] == [4, 4]
    assert found["mean_ari"] == pytest.approx(sum(found["ari"]) / 2)
    stmfg.workflow.run(other, tmp_path / "b", n_domains=4, random_state=5, **QUICK)
    assert found["ari"][1] == pytest.approx(ari(section.obs["stmfg_domain"], other.obs["stmfg_domain"]))
    assert "stability" in (tmp_path / "a" / "report.html").read_text()
    names = [stage["name"] for stage in record["stages"]]
    assert names.count("train") == names.count("stability") == 1


def test_the_result_is_the_same_without(section: AnnData, tmp_path: Path) -> None:
    for name, n in (("with", 1), ("without", 0)):
        record = stmfg.workflow.run(section.copy(), tmp_path / name, n_domains=4, stability=n, **QUICK)
    assert record["stability"] == {}
    assert (tmp_path / "with" / "domains.csv").read_bytes() == (tmp_path / "without" / "domains.csv").read_bytes()


def test_it_is_printed_and_repeated(
    section: AnnData, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    section.write_h5ad(tmp_path / "input.h5ad")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "input.h5ad", "-o", "a", "--n-domains", "4", "--stability", "1"]) == 0
    assert "with 1 run of another seed" in capfd.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["run", "--from", "../a", "-o", "b", "--quiet"]) == 0
    first, second = (json.loads(path.read_text()) for path in (tmp_path / "a/run.json", Path("b/run.json")))
    assert first["options"] == second["options"]
    assert first["stability"] == second["stability"]

"""What ``stmfg info`` tells: what is there, what a run would use, and what is in its way."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from _commands import stmfg_command
from _data import write_space_ranger
from _platforms import write_xenium
from stmfg import cli
from stmfg.workflow import inspect_input

Look = Callable[..., Any]


@pytest.fixture
def seen(section: ad.AnnData, tmp_path: Path) -> Look:
    """Return a function that changes a good section, writes it and looks at the file."""

    def change_and_look(change: Callable[[ad.AnnData], object] = lambda adata: None) -> Any:
        change(section)
        section.write_h5ad(tmp_path / "input.h5ad")
        return inspect_input(tmp_path / "input.h5ad")

    return change_and_look


def logarithms(adata: ad.AnnData) -> None:
    adata.X = adata.X.log1p()


def test_a_good_file(seen: Look, tmp_path: Path) -> None:
    found = seen()
    facts = dict(found.facts)
    assert facts["size"] == "300 spots or cells, 80 genes"
    assert facts["counts"].startswith("raw counts in X, 1,")
    assert "neighbours 100 apart" in facts["positions"]
    assert (facts["embeddings"], facts["slices"]) == ("none in obsm", "one")
    assert (found.notes, found.problems) == ([], [])
    assert shlex.split(found.command) == ["stmfg", "run", str(tmp_path / "input.h5ad"), "-o", "domains"]


def test_an_embedding_takes_the_place_of_counts(seen: Look) -> None:
    def change(adata: ad.AnnData) -> None:
        logarithms(adata)
        adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(300, 2))
        adata.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(300, 10))

    found = seen(change)
    assert found.problems == []
    assert dict(found.facts)["embeddings"] == "X_scVI (10 columns)"
    assert found.command.endswith("-o domains --use-rep X_scVI")
    assert "non-integer values" in found.reasons[0]


def test_neither_counts_nor_an_embedding_is_a_problem(seen: Look) -> None:
    found = seen(logarithms)
    assert len(found.problems) == 1
    assert "expected raw counts" in found.problems[0]


def test_slices_side_by_side_are_a_note(seen: Look) -> None:
    def change(adata: ad.AnnData) -> None:
        adata.obs["sample"] = np.where(np.arange(300) < 150, "a", "b")

    found = seen(change)
    assert "library-key" not in found.command
    assert found.notes == ["if obs['sample'] names slices, add --library-key sample"]
    assert "sample (2 values)" in dict(found.facts)["slices"]


def test_other_columns_are_no_slices(seen: Look) -> None:
    def change(adata: ad.AnnData) -> None:
        adata.obs["cell_type"] = np.where(np.arange(300) % 2, "a", "b")
        adata.obs["sample"] = "only one"

    assert dict(seen(change).facts)["slices"] == "one"


def test_empty_and_shallow_spots_are_told(seen: Look) -> None:
    def change(adata: ad.AnnData) -> None:
        keep = sparse.diags_array((np.arange(300) >= 7) * 1.0)
        adata.X = sparse.csr_matrix(keep @ adata.X.minimum(sparse.csr_matrix(np.ones(adata.shape))), dtype=np.float32)
        adata.X = sparse.csr_matrix(adata.X[:, :].multiply(np.arange(80) < 20), dtype=np.float32)

    found = seen(change)
    assert "60 genes are never seen" in dict(found.facts)["counts"]
    assert found.notes[0].startswith("7 spots have no counts")
    assert "few" in found.notes[1]


@pytest.mark.parametrize("platform", ["visium", "xenium"])
def test_a_folder_of_an_instrument(section: ad.AnnData, tmp_path: Path, platform: str) -> None:
    if platform == "visium":
        write_space_ranger(tmp_path / "input", 2)
    else:
        write_xenium(tmp_path / "input", section)
    found = inspect_input(tmp_path / "input")
    facts = dict(found.facts)
    assert facts["kind"].lower().startswith(f"{platform}, because of ")
    assert ("micrometres" if platform == "xenium" else "pixels of the full") in facts["positions"]
    assert found.problems == []


def test_the_command_it_names_runs(capsys: pytest.CaptureFixture[str], section: ad.AnnData, tmp_path: Path) -> None:
    section.write_h5ad(tmp_path / "my tissue.h5ad")
    before = (tmp_path / "my tissue.h5ad").read_bytes()
    assert cli.main(["info", str(tmp_path / "my tissue.h5ad")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
    line = shlex.split(next(line for line in out.splitlines() if line.startswith("  stmfg run")))
    line[line.index("domains")] = str(tmp_path / "domains")
    assert cli.main([*line[1:], "--n-domains", "3", "--set", "epochs=1", "--quiet"]) == 0
    assert (tmp_path / "domains" / "domains.csv").exists()


def test_problems_are_listed_and_status_2(section: ad.AnnData, tmp_path: Path) -> None:
    del section.obsm["spatial"]
    section.write_h5ad(tmp_path / "input.h5ad")
    done = stmfg_command("info", "input.h5ad", cwd=tmp_path)
    assert done.returncode == 2
    assert "problems\n  - obsm['spatial'] is missing" in done.stdout
    assert "stmfg run" not in done.stdout
    assert done.stderr == "stmfg: input.h5ad cannot be run on as it is; the problems are listed above\n"

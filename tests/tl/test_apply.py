"""A model on a new slice: the same domains, other genes and depths, tissue it does not know, and the command."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

import stmfg
from _commands import stmfg_here
from _data import data_file
from _runs import FILES
from stmfg import STMFG, tl
from stmfg.metrics import ari
from stmfg.workflow import read_record

QUICK: dict[str, Any] = {"epochs": 3, "n_votes": 1, "n_starts": 2, "redraws": 2}


def halves() -> tuple[AnnData, AnnData]:
    """The two halves of a section, as two slices; both have all domains."""
    whole = stmfg.datasets.simulate(900, 100, n_domains=4, difficulty=0.3, random_state=1)
    left = whole.obsm["spatial"][:, 0] < np.median(whole.obsm["spatial"][:, 0])
    return whole[left].copy(), whole[~left].copy()


@pytest.fixture(scope="module")
def _slices() -> tuple[AnnData, AnnData]:
    reference, new = halves()
    tl.domains(reference, n_domains=4, **QUICK)
    return reference, new


@pytest.fixture
def slices(_slices: tuple[AnnData, AnnData]) -> tuple[AnnData, AnnData]:
    """Return a slice with domains and one without; each test has its own."""
    return _slices[0].copy(), _slices[1].copy()


def test_domains_are_those_of_the_reference_and_only_new_keys_are_written(slices: tuple[AnnData, AnnData]) -> None:
    reference, new = slices
    before = new.copy()
    assert tl.apply(new, reference) is None
    assert (new.X != before.X).nnz == 0
    assert new.var.equals(before.var)
    assert set(new.obs) - set(before.obs) == {"stmfg_domain", "stmfg_confidence", "stmfg_unlike"}
    assert set(new.obsm) - set(before.obsm) == {"X_stmfg", "stmfg_view_weights"}
    assert set(new.uns) - set(before.uns) == {"stmfg", "stmfg_domain_colors"}
    domain = new.obs["stmfg_domain"]
    assert domain.cat.categories.tolist() == ["1", "2", "3", "4"]
    own = ari(reference.obs["ground_truth"], reference.obs["stmfg_domain"])
    assert ari(new.obs["ground_truth"], domain) > own - 0.1
    # Not only the same partition: the same names for the same layers.
    layers = [
        adata.obs.groupby("stmfg_domain", observed=False)["ground_truth"].agg(lambda x: x.mode().iloc[0])
        for adata in (reference, new)
    ]
    assert layers[0].tolist() == layers[1].tolist()
    assert new.obs["stmfg_confidence"].between(0, 1).all()
    assert new.obs["stmfg_unlike"].between(0, 1).all()
    assert new.obsm["X_stmfg"].shape == (new.n_obs, reference.obsm["X_stmfg"].shape[1])
    assert new.uns["stmfg"]["genes_shared"] == 1
    assert new.uns["stmfg"]["far"][0] < 0.3


def test_the_slice_it_was_trained_on_gets_its_own_domains_back(slices: tuple[AnnData, AnnData]) -> None:
    reference, _ = slices
    again = AnnData(reference.X, obs=reference.obs[[]], var=reference.var, obsm={"spatial": reference.obsm["spatial"]})
    tl.apply(again, reference)
    same = again.obs["stmfg_domain"].astype(str) == reference.obs["stmfg_domain"].astype(str)
    assert same.mean() > 0.97
    assert 0.2 < again.obs["stmfg_unlike"].mean() < 0.6  # a little more typical than new spots of the same tissue


@pytest.mark.parametrize(("share", "least"), [(0.9, 0.6), (0.6, 0.25)])
def test_missing_genes(slices: tuple[AnnData, AnnData], share: float, least: float) -> None:
    reference, new = slices
    kept = np.random.default_rng(0).permutation(new.n_vars)[: int(share * new.n_vars)]
    found = tl.apply(new[:, kept].copy(), reference, copy=True)
    assert 0.5 < found.uns["stmfg"]["genes_shared"] < 1
    assert ari(new.obs["ground_truth"], found.obs["stmfg_domain"]) > least


def test_a_batch_that_shifts_genes_and_depth(slices: tuple[AnnData, AnnData]) -> None:
    reference, new = slices
    tl.apply(new, reference)
    rng = np.random.default_rng(0)
    shifted = new.copy()
    rate = sparse.diags_array(np.full(new.n_obs, 0.7)) @ new.X @ sparse.diags_array(rng.uniform(0.5, 1.5, new.n_vars))
    shifted.X = sparse.csr_matrix(rng.poisson(rate.toarray()).astype(np.float32))
    adapted = tl.apply(shifted, reference, copy=True)
    fixed = tl.apply(shifted, reference, adapt=False, copy=True)
    truth = new.obs["ground_truth"]
    assert ari(truth, adapted.obs["stmfg_domain"]) > ari(truth, fixed.obs["stmfg_domain"])
    assert adapted.obs["stmfg_unlike"].mean() > new.obs["stmfg_unlike"].mean()


def test_tissue_it_does_not_know_is_told_apart(slices: tuple[AnnData, AnnData], caplog: Any) -> None:
    reference, new = slices
    both = ad.concat({"a": new, "b": unrelated(new)}, label="slice", index_unique="-")
    with caplog.at_level(logging.WARNING, "stmfg"):
        tl.apply(both, reference, library_key="slice")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1, said
    assert "slice b is unlike" in said[0]
    assert both.uns["stmfg"]["slices"].tolist() == ["a", "b"]
    far = both.uns["stmfg"]["far"]
    assert far[0] < 0.3
    assert far[1] > 0.9


def unrelated(adata: AnnData) -> AnnData:
    """The same counts under other genes' names."""
    other = adata.copy()
    other.X = other.X[:, np.random.default_rng(5).permutation(other.n_vars)]
    return other


def test_an_embedding_takes_the_place_of_counts() -> None:
    reference, new = halves()
    axes = np.linalg.svd(np.log1p(reference.X.toarray()), full_matrices=False)[2][:10].T
    for adata in (reference, new):
        adata.obsm["X_rep"] = np.log1p(adata.X.toarray()) @ axes
        adata.X = None
    tl.domains(reference, n_domains=4, use_rep="X_rep", **QUICK)
    tl.apply(new, reference)
    assert ari(new.obs["ground_truth"], new.obs["stmfg_domain"]) > 0.5
    assert new.uns["stmfg"]["use_rep"] == "X_rep"


def test_spots_without_counts_take_the_domain_around_them(slices: tuple[AnnData, AnnData]) -> None:
    reference, new = slices
    counts = new.X.toarray()
    counts[[3, 200]] = 0
    new.X = sparse.csr_matrix(counts)
    tl.apply(new, reference)
    assert (new.obs["stmfg_confidence"].iloc[[3, 200]] == 0).all()
    assert new.obs.notna().all(axis=None)


def test_a_model_without_domains_is_refused(
    slices: tuple[AnnData, AnnData], quick: dict[str, Any], refused: Any
) -> None:
    reference, new = slices
    assert "tl.domains" in refused(tl.apply, new, STMFG(n_domains=None, **quick).fit(reference))
    before = set(new.obsm)
    assert "species" in refused(tl.apply, new[:, :10].copy(), reference)
    assert set(new.obsm) == before


def test_sections_of_the_cortex_and_a_lung() -> None:
    reference, sibling = (ad.read_h5ad(data_file(f"dlpfc_{name}.h5ad")) for name in ("151673", "151676"))
    lung = stmfg.read(data_file("visium_human_lung") / "outs")
    tl.domains(reference, n_domains=7)
    tl.apply(sibling, reference)
    truth = sibling.obs["ground_truth"]
    known = truth.notna().to_numpy()
    assert ari(truth[known], sibling.obs["stmfg_domain"][known]) > 0.5
    assert sibling.uns["stmfg"]["far"][0] < 0.05
    tl.apply(lung, reference)
    assert lung.uns["stmfg"]["far"][0] > 0.95


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line: its status, standard output and error."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        return (stmfg_here(*arguments), *capfd.readouterr())

    return run


@pytest.fixture(scope="module")
def folder(_slices: tuple[AnnData, AnnData], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run and files to apply it to."""
    folder = tmp_path_factory.mktemp("apply")
    reference, new = _slices
    (folder / "run").mkdir()
    reference.write_h5ad(folder / "run" / "result.h5ad")
    new.write_h5ad(folder / "new.h5ad")
    unrelated(new).write_h5ad(folder / "other.h5ad")
    new[:, :10].copy().write_h5ad(folder / "few.h5ad")
    return folder


def test_the_command_leaves_the_files_of_a_run(folder: Path, command: Any, refused: Any) -> None:
    status, output, error = command("apply", folder / "run", folder / "new.h5ad", "-o", folder / "out")
    assert status == 0, error
    assert "4 domains of" in output
    assert {path.name for path in (folder / "out").iterdir()} == FILES
    record = json.loads((folder / "out" / "run.json").read_text())
    assert record["options"]["model"] == str(folder / "run")
    assert record["input"] == str(folder / "new.h5ad")
    assert record["genes_shared"] == 1
    assert record["far"]["all"] < 0.3
    assert record["warnings"] == []
    result = ad.read_h5ad(folder / "out" / "result.h5ad")
    expected = tl.apply(ad.read_h5ad(folder / "new.h5ad"), folder / "run", copy=True)
    assert (result.obs["stmfg_domain"] == expected.obs["stmfg_domain"]).all()
    assert "apply" in refused(read_record, folder / "out")  # no run to repeat
    again = command("apply", folder / "out", folder / "new.h5ad", "-o", folder / "again", "--quiet")
    assert again == (0, "", "")
    assert (folder / "again" / "domains.csv").read_bytes() == (folder / "out" / "domains.csv").read_bytes()


def test_the_command_warns_of_tissue_it_does_not_know(folder: Path, command: Any, caplog: Any) -> None:
    assert command("apply", folder / "run", folder / "other.h5ad", "-o", folder / "unknown", "--quiet")[0] == 0
    assert "unlike" in caplog.text
    record = json.loads((folder / "unknown" / "run.json").read_text())
    assert record["far"]["all"] > 0.9
    assert "unlike" in record["warnings"][0]
    assert "unlike" in (folder / "unknown" / "report.html").read_text()


@pytest.mark.parametrize(
    ("model", "new", "output", "said"),
    [
        ("nowhere", "new.h5ad", "bad", "nowhere holds no"),
        ("new.h5ad", "new.h5ad", "bad", "new.h5ad holds no model"),
        ("run", "nowhere.h5ad", "bad", "nowhere.h5ad"),
        ("run", "few.h5ad", "bad", "same species"),
        ("run", "new.h5ad", "run", "another folder"),
    ],
)
def test_the_command_refuses_in_one_line_and_writes_nothing(
    folder: Path, model: str, new: str, output: str, said: str, command: Any
) -> None:
    before = sorted(folder.rglob("*"))
    status, _, error = command("apply", folder / model, folder / new, "-o", folder / output)
    assert status == 2
    assert len(error.strip().splitlines()) == 1
    assert said in error
    assert sorted(folder.rglob("*")) == before

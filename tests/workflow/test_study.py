"""A sheet with conditions is one study: composition of every sample, effects with intervals, and what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmfg
from _commands import stmfg_command
from _finished import finished
from stmfg.datasets import simulate

pytestmark = pytest.mark.usefixtures("single_thread")

SHEET = "sample,path,donor,condition\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six samples; of every second one, the largest layer is nearly cut away."""
    path = tmp_path_factory.mktemp("study")
    tissue, rng, rows = simulate(300, 100, n_domains=3, difficulty=0.2, random_state=5), np.random.default_rng(0), []
    largest = tissue.obs["ground_truth"] == tissue.obs["ground_truth"].value_counts().index[0]
    for i in range(6):
        lost = rng.random(tissue.n_obs) < np.where(largest & (i % 2 == 1), 0.8, 0.05)
        adata = tissue[~lost].copy()
        adata.X.data = rng.poisson(adata.X.data).astype(np.float32)
        adata.write_h5ad(path / f"{i}.h5ad")
        rows.append(f"s{i},{i}.h5ad,d{i},{('young', 'aged')[i % 2]}")
    (path / "sheet.csv").write_text(SHEET + "\n".join(rows) + "\n")
    (path / "quick.toml").write_text("n_domains = 3\nepochs = 20\nn_votes = 1\nn_starts = 1\n")
    return path


def test_a_study_in_the_shell(folder: Path) -> None:
    options = ["-o", "out", "--config", "quick.toml", "--reference", "young", "--quiet"]
    assert stmfg_command("run", "sheet.csv", *options, cwd=folder).returncode == 0
    composition = pd.read_csv(folder / "out" / "composition.csv")
    assert list(composition)[:3] == ["sample", "condition", "donor"]
    assert set(composition.groupby("condition")["sample"].nunique()) == {3}
    tests = pd.read_csv(folder / "out" / "abundance.csv")
    assert set(tests["condition"]) == {"aged"}
    assert set(tests["reference"]) == {"young"}
    cut = tests.loc[tests["effect"].idxmin()]
    assert cut["ci_high"] < 0
    assert cut["p_adjusted"] < 0.05
    image = plt.imread(folder / "out" / "abundance.png")
    assert min(image.shape[:2]) > 200
    page = (folder / "out" / "report.html").read_text()
    assert f"Domain {cut['domain']} takes less of the tissue in aged than in young: " in page


@pytest.mark.parametrize(
    ("sheet", "reference", "said"),
    [("sheet.csv", "old", "--reference is 'old'; the conditions are aged, young"),
     ("none.csv", "aged", "the conditions are none: give a sheet of samples with the column condition")],
)  # fmt: skip
def test_a_reference_that_is_none(folder: Path, sheet: str, reference: str, said: str) -> None:
    (folder / "none.csv").write_text("sample,path\na,0.h5ad\nb,1.h5ad\n")
    process = stmfg_command("run", sheet, "-o", "not", "--reference", reference, cwd=folder)
    assert (process.returncode, len(process.stderr.splitlines())) == (2, 1)
    assert said in process.stderr
    assert not (folder / "not").exists()


def cohort(n: int) -> AnnData:
    """A finished result of 2 n samples in two conditions, which differ in how much of domain 2 they have."""
    adata = finished(20, 3)
    sample = np.arange(adata.n_obs) % (2 * n)
    adata.obs["sample"] = [f"s{i}" for i in sample]
    adata.obs["condition"] = np.where(sample < n, "a", "b")
    keep = (adata.obs["stmfg_domain"] != "2") | (adata.obs["condition"] == "a") | (np.arange(adata.n_obs) % 5 == 0)
    return adata[keep.to_numpy()].copy()


def test_the_figure_of_effects() -> None:
    adata = cohort(4)
    left, right = stmfg.pl.abundance(adata, sample_key="sample")
    table = stmfg.tl.abundance(adata, sample_key="sample", condition_key="condition")
    drawn = right.collections[-1]
    np.testing.assert_allclose(drawn.get_offsets()[:, 0], np.exp(table["effect"]))
    filled = drawn.get_facecolors()[:, 0] < 0.5
    assert filled.tolist() == (table["p_adjusted"] < 0.05).tolist()
    assert filled.any()
    assert [text.get_text() for text in left.get_yticklabels()] == ["1", "2", "3"]
    plt.close("all")


def test_what_too_few_samples_mean(refused: Callable[..., str]) -> None:
    adata = cohort(4)
    adata = adata[(adata.obs["condition"] == "a") | (adata.obs["sample"] == "s4")].copy()
    line = refused(stmfg.pl.abundance, adata, sample_key="sample")
    assert "condition 'b' has 1 sample; at least 2 are needed to tell chance from effect" in line

"""Two labelings side by side, in Python and from the shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_rgb

import stmfg
from _finished import finished
from stmfg import cli, metrics
from stmfg._core.palette import MISSING
from stmfg.io import join
from stmfg.metrics import compare
from stmfg.workflow import compare_results

ONE = ["1"] * 6 + ["2"] * 4 + ["3"] * 2
OTHER = ["b"] * 5 + ["a"] * 5 + ["c"] * 2


def test_counts_scores_and_names() -> None:
    found = compare(ONE, OTHER)
    assert found.n == 12
    assert found.contingency.loc["1"].to_dict() == {"a": 1, "b": 5, "c": 0}
    assert found.contingency.to_numpy().sum() == 12
    assert found.matched == {"b": "1", "a": "2", "c": "3"}
    assert found.agreement == pytest.approx(11 / 12)
    assert found.ari == pytest.approx(metrics.ari(ONE, OTHER))
    assert found.nmi == pytest.approx(metrics.nmi(ONE, OTHER))
    renamed = pd.Series(OTHER).map(found.matched)
    assert (renamed == pd.Series(ONE)).sum() == 11


def test_the_same_partition_under_other_names() -> None:
    found = compare(ONE, pd.Categorical([f"domain {name}" for name in ONE]))
    assert (found.ari, found.nmi, found.agreement) == (1, pytest.approx(1), 1)


def test_names_are_paired_for_the_most_agreement_in_all() -> None:
    # The largest cell, 1 and a, would leave 2 and b with nothing.
    found = compare(["1"] * 10 + ["2"] * 5, ["a"] * 6 + ["b"] * 4 + ["a"] * 5)
    assert found.matched == {"a": "2", "b": "1"}
    assert found.agreement == pytest.approx(9 / 15)


def test_labels_left_over_have_no_name() -> None:
    assert compare(["1", "1", "1", "2"], ["a", "a", "b", "c"]).matched == {"a": "1", "c": "2"}
    assert compare(["1", "2"], ["a", "a"]).matched.keys() == {"a"}


def test_missing_labels_are_left_out_and_numbers_sorted_by_value() -> None:
    found = compare([None, "10", "9", "x", "1"], ["a", "a", np.nan, "a", "a"])
    assert found.n == 3
    assert list(found.contingency.index) == ["1", "10", "x"]


def test_what_cannot_be_compared(refused: Callable[..., str]) -> None:
    assert "3 labels and 2 others" in refused(compare, [1, 2, 3], [1, 2])
    assert "no observation has a label in both" in refused(compare, [None, "1"], ["1", None])


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of a run, and an annotation in another order with one spot more and one not annotated."""
    names = [f"spot{i}" for i in range(12)]
    (tmp_path / "run").mkdir()
    run = pd.DataFrame({"spot": names, "domain": ONE, "confidence": 0.5})
    run.to_csv(tmp_path / "run" / "domains.csv", index=False)
    annotation = pd.DataFrame({"Barcode": [*names, "other"], "layer": [*OTHER, "a"]})
    annotation.loc[11, "layer"] = None
    annotation.sample(frac=1, random_state=0).to_csv(tmp_path / "layers.csv", index=False)
    return tmp_path / "run", tmp_path / "layers.csv"


def test_from_the_shell(tables: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", *map(str, tables)]) == 0
    said = capsys.readouterr().out.splitlines()[1:]  # after which is A and which B
    assert said[0] == "11 spots in both (A has 12, B has 12)"
    assert said[1].startswith(f"ARI {metrics.ari(ONE[:11], OTHER[:11]):.3f}, NMI ")
    assert said[1].endswith("; 91% of the spots agree once names are matched")
    rows = [line.split() for line in said[3:6]]
    assert [row[:5] for row in rows] == [
        ["1", "b", "6", "5", "5"],
        ["2", "a", "4", "5", "4"],
        ["3", "c", "1", "1", "1"],
    ]
    assert said[6] == "9.1% of the spots differ; most, 1, are 1 in A and a in B; -o FOLDER says and draws where"


def test_what_became_of_each_domain() -> None:
    one = ["1"] * 40 + ["2"] * 30 + ["3"] * 20 + ["4"] * 10
    other = ["a"] * 22 + ["b"] * 18 + ["c"] * 30 + ["d"] * 30
    found = compare(one, other)
    assert found.domains["what"].tolist() == [
        "split into a and b", "the same", "merged with 4 into d", "merged with 3 into d",
    ]  # fmt: skip
    assert found.spots.loc[~found.spots["same"], "one"].value_counts().to_dict() == {"1": 18, "4": 10}
    assert found.sentences[0] == "1 of 4 domains are the same"
    thirds = compare(["1"] * 9 + ["2"] * 9, (["a"] * 3 + ["b"] * 3 + ["c"] * 3) * 2)
    assert thirds.domains.loc["1", "what"] == "differs: 33% in a, 33% in b"


@pytest.fixture(scope="module")
def two_results(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnnData, AnnData, Path, Path]:
    """Two results of one slice, spots of the second in another order, as data and as files."""
    folder = tmp_path_factory.mktemp("results")
    one = finished(12)
    other = one[::-1].copy()
    changed = np.flatnonzero(other.obs["stmfg_domain"] == "1")[:5]
    labels = other.obs["stmfg_domain"].astype(str)
    labels.iloc[changed] = "2"
    other.obs["stmfg_domain"] = pd.Categorical(labels)
    for name, adata in (("one", one), ("other", other)):
        (folder / name).mkdir()
        adata.write_h5ad(folder / name / "result.h5ad")
        table = adata.obs[["stmfg_domain"]].set_axis(["domain"], axis=1)
        table.to_csv(folder / name / "domains.csv", index_label="spot")
    return one, other, folder / "one", folder / "other"


def test_results_are_matched_by_the_names_of_spots(two_results: tuple[AnnData, AnnData, Path, Path]) -> None:
    one, other, folder, other_folder = two_results
    moved = set(one.obs_names[one.obs["stmfg_domain"] != other.obs["stmfg_domain"].reindex(one.obs_names).astype(str)])
    assert len(moved) == 5
    pairs = [(one, other), (folder, other_folder), (folder / "result.h5ad", other), (other_folder / "domains.csv", one)]
    for a, b in [*pairs, (one.obs["stmfg_domain"], other)]:
        comparison = stmfg.compare(a, b)
        assert comparison.n == one.n_obs
        assert set(comparison.spots.index[~comparison.spots["same"]]) == moved
    axes = stmfg.pl.differences(one, stmfg.compare(one, other))
    grey = np.array(to_rgb(MISSING))
    assert (np.abs(axes.collections[0].get_facecolor()[:, :3] - grey).max(axis=1) > 1e-6).sum() == 5
    one.obs["same"] = stmfg.compare(one, other).spots["same"]
    assert int((~one.obs["same"].astype(bool)).sum()) == 5


def test_where_two_runs_differ_is_written(two_results: tuple[AnnData, AnnData, Path, Path], tmp_path: Path) -> None:
    folders = map(str, two_results[2:])
    assert cli.main(["compare", *folders, "-o", str(tmp_path / "differences")]) == 0
    table = pd.read_csv(tmp_path / "differences" / "differences.csv", index_col="spot", dtype={"one": str})
    assert list(table) == ["one", "other", "renamed", "same"]
    assert (~table["same"]).sum() == 5
    assert (tmp_path / "differences" / "differences.png").stat().st_size > 1000


def test_a_slice_of_a_joint_result_is_compared_with_the_same_alone(
    two_results: tuple[AnnData, AnnData, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = two_results[:2]
    left_out = one[20:].copy()  # the same barcodes as on any array, but not all of them
    joint = join({"slice_a": other, "slice_b": left_out})
    joint.obs["stmfg_domain"] = joint.obs["stmfg_domain"].astype("category")
    joint.write_h5ad(tmp_path / "joint.h5ad")
    with caplog.at_level("INFO", "stmfg"):
        comparison = compare_results(tmp_path / "joint.h5ad", two_results[2], tmp_path / "out")
    assert "the slice slice_a is compared" in caplog.text
    assert comparison.n == one.n_obs
    assert (~comparison.spots["same"]).sum() == 5
    assert (tmp_path / "out" / "differences.png").exists()


def test_results_of_two_slices_share_no_spot(
    two_results: tuple[AnnData, AnnData, Path, Path], refused: Callable[..., str]
) -> None:
    other = two_results[1].copy()
    other.obs_names = [f"another {name}" for name in other.obs_names]
    assert "share no spot (first: " in refused(stmfg.compare, two_results[0], other)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("", "cannot be read"),
        ("spot\nspot1\n", "has no two columns and a row"),
        ("spot,domain\n", "has no two columns and a row"),
        ("spot,domain\nspot1,1\nspot1,2\n", "has the spot 'spot1' more than once"),
        ("spot,domain\ns,1\n", "share no spot (first: spot0 and s)"),
    ],
)
def test_bad_tables(
    content: str | None, said: str, tables: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "bad.csv").write_text(content)
    assert cli.main(["compare", str(tables[0]), str(tmp_path / "bad.csv")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1

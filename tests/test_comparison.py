"""Two labelings side by side, in Python and from the shell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stmfg import cli, metrics
from stmfg.metrics import compare

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
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "11 spots in both (A has 12, B has 13)"
    assert said[1].startswith(f"ARI {metrics.ari(ONE[:11], OTHER[:11]):.3f}, NMI ")
    assert said[1].endswith("; 91% of the spots agree once names are matched")
    rows = [line.split() for line in said[3:]]
    assert rows == [["1", "b", "6", "5", "5"], ["2", "a", "4", "5", "4"], ["3", "c", "1", "1", "1"]]


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

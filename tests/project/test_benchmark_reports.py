"""Pictures and tables of the benchmark: colours as in the annotation, changes against the preset, versions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import machine
import maps
import sensitivity
import tables
from stmfg.config import Config

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_domain_has_the_colour_of_its_annotated_partner() -> None:
    names = [f"s{i}" for i in range(9)]
    truth = pd.Series(list("aaabbbcc"), index=names[:-1])  # the last spot is not annotated
    labels = pd.Series(list("222111333"), index=names)
    own = maps.colours(truth, truth)
    found = maps.colours(truth, labels)
    assert found == {"1": own["b"], "2": own["a"], "3": own["c"]}
    more = maps.colours(truth, labels.where(labels.index != "s0", "4"))
    assert len(set(more.values())) == 4
    fewer = maps.colours(truth, labels.replace("3", "1"))
    assert fewer == {"1": own["b"], "2": own["a"]}


def test_the_lowest_seed_that_was_kept_is_drawn(tmp_path: Path) -> None:
    for name, label in (("floor-2", "x"), ("floor-10", "y"), ("graphst-1", "z")):
        pd.DataFrame({"domain": [label]}, index=["s"]).to_csv(tmp_path / f"{name}.csv")
    found = maps.kept(tmp_path)
    assert {name: (seed, labels["s"]) for name, (seed, labels) in found.items()} == {
        "floor": (2, "x"),
        "graphst": (1, "z"),
    }


def test_a_map_shows_every_method_in_a_small_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(400)]
    positions = pd.DataFrame(rng.random((400, 2)) * [2, 1], index=names, columns=["x", "y"])
    truth = pd.Series(np.where(positions["x"] > 1, "a", "b"), index=names)
    labels = dict.fromkeys(("default", "floor", "banksy", "spagcn", "squidpy"), (0, truth))
    figure = maps.draw("set", truth, positions, labels)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["annotation", *(f"{name} 1.00" for name in labels)]
    maps.save(figure, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size < 150_000
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width == 660  # six panels are two rows of three


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_every_setting_of_a_grid_differs_from_the_preset_in_one_value(preset: str) -> None:
    base = Config.preset(preset).to_dict()
    for name, options in sensitivity.variants(preset).items():
        changed = Config.preset(preset).replace(**{k: v for k, v in options.items() if k != "preset"}).to_dict()
        assert sum(changed[key] != base[key] for key in base) == (name != preset), name


def test_sensitivity_has_the_change_of_the_mean_over_sets(tmp_path: Path) -> None:
    names = sensitivity.variants("default")
    rows = [(name, which, seed, 0.5) for name in names for which in "ab" for seed in (0, 1)]
    runs = pd.DataFrame(rows, columns=["variant", "set", "seed", "ari"])
    runs.loc[(runs["variant"] == "default, held_out_weight=10") & (runs["set"] == "a"), "ari"] = [0.6, 0.8]
    assert "| held_out_weight=10 | 0.700 ± 0.141 | 0.500 ± 0.000 | +0.100 |" in sensitivity.report(runs)
    sensitivity.draw(runs, tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000


def test_the_record_names_machine_and_the_versions_of_every_method() -> None:
    said = machine.report()
    assert f"Python | {sys.version.split()[0]}" in said
    for name in ("banksy", "cellcharter", "graphst"):
        assert f"| {name} |" in said
    assert "torch" in said
    assert str(Path.home()) not in said
    assert str(BENCHMARKS) not in said


def test_the_tables_of_the_pages_are_those_of_the_runs() -> None:
    runs = tables.read(tables.TABLE)
    advice = "python benchmarks/tables.py makes them anew"
    for path in tables.DOCUMENTS:
        page = path.read_text()
        assert page.count("<!-- table ") == page.count("<!-- end -->") >= 1
        assert tables.document(page, runs) == page, advice
    assert tables.report(runs) == tables.TABLE.with_suffix(".md").read_text(), advice
    grid = tables.TABLE.with_name("sensitivity.tsv")
    assert sensitivity.report(pd.read_csv(grid, sep="\t")) == grid.with_suffix(".md").read_text()

"""The report's scripts: modules to a linter, one script in the page; their functions, run in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stmfg
from _browser import opened
from _finished import finished

FOLDER = Path(stmfg.__file__).parent / "report" / "templates" / "js"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.js"))}


def test_they_fit_together_in_one_script() -> None:
    exported = {
        name: set(re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, flags=re.MULTILINE))
        for name, text in SCRIPTS.items()
    }
    for name, text in SCRIPTS.items():
        for names, source in re.findall(r"^import \{([^}]*)\} from \"./([\w.]+)\";", text, flags=re.MULTILINE):
            wanted = {each.strip() for each in names.split(",") if each.strip()}
            assert wanted <= exported[source], f"{name} imports {wanted - exported[source]} from {source}"
        assert len(text.splitlines()) < 400, name
    top = re.compile(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", flags=re.MULTILINE)
    every = [name for text in SCRIPTS.values() for name in top.findall(text)]
    assert sorted(every) == sorted(set(every))


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    return opened(browser, finished(6), tmp_path)


def run(page: Any, code: str, *values: Any) -> Any:
    """Run functions of the page; `code` sees the values as a, b, c."""
    return page.execute_script(f"const [a, b, c] = arguments; return {code};", *values)


def test_genes_are_decoded(page: Any) -> None:
    assert run(page, "[...decodeGene(Uint8Array.of(1, 255, 0, 2), Uint8Array.of(0, 255, 3, 4), 262)]") == [
        0, 1, *[0] * 255, 259, 0, 0, 5, 0,
    ]  # fmt: skip


def test_groups_of_domains(page: Any) -> None:
    labels, colours = ["1", "2", "3.1", "3.2"], {"1": "#0072b2", "2": "#e69f00", "3": "#009e73"}
    made = run(page, "makeGroups(a, b)", labels, colours)
    assert [group["key"] for group in made["groups"]] == labels
    assert made["groups"][2]["colour"] == "#009e73"
    assert made["groups"][3]["colour"] != "#009e73"
    edits = {"merge": [["3.2", "1"]], "rename": {"1+3.2": "Rim"}, "colors": {"2": "#000000"}}
    made = run(page, "(({of, groups}) => ({of: [...of], groups}))(makeGroups(a, b, c))", labels, colours, edits)
    assert [(group["name"], group["colour"]) for group in made["groups"]] == [
        ("Rim", "#0072b2"), ("2", "#000000"), ("3.1", "#009e73"),
    ]  # fmt: skip
    assert made["of"] == [0, 1, 2, 0]
    # Merging a joint again keeps one list of what was there at first.
    again = run(page, "merge(a, makeGroups(b, {}, a).groups.slice(0, 2))", edits, labels)
    assert again == {"merge": [["1", "3.2", "2"]], "rename": {}, "colors": {}}


def test_files_of_edits(page: Any) -> None:
    edits = {"merge": [["1", "2"]], "rename": {"1+2": "Rim"}, "colors": {"1+2": "#abcdef"}}
    file = run(page, "toFile(a, makeGroups(b, {}, a).groups, [], 5)", edits, ["1", "2", "3"])
    assert file["colors"] == {"Rim": "#abcdef"}
    assert file["level"] == 5
    back = run(page, "fromFile(a, () => b)", json.dumps(file), ["1", "2", "3"])
    assert back == {"edits": edits, "selections": [], "level": 5}
    hostile = {"stmfg_edits": 1, "colors": {"1": "red;}"}, "selections": [{"name": 3}, {"name": "x", "spots": [1]}]}
    assert run(page, "fromFile(a, () => b)", json.dumps(hostile), ["1"])["edits"]["colors"] == {}
    for text in ("{", "[]", '{"stmfg_edits": 2}'):
        assert "no file of edits" in run(page, "(() => { try { fromFile(a) } catch (e) { return e.message } })()", text)


def test_spots_inside_a_shape(page: Any) -> None:
    places = np.random.default_rng(0).uniform(0, 10, (300, 2))
    star = [
        (5 + (4 - 2.4 * (i % 2)) * np.cos(i * 0.628), 5 + (4 - 2.4 * (i % 2)) * np.sin(i * 0.628)) for i in range(10)
    ]
    from matplotlib.path import Path as Shape

    inside = run(page, "[...spotsInside(a, b, c)]", star, places[:, 0].tolist(), places[:, 1].tolist())
    assert inside == np.flatnonzero(Shape(star).contains_points(places)).tolist()


def test_tables_as_csv(page: Any) -> None:
    rows = [["a,b", 'say "x"', "=1+1", "-3.5e-10", "@me"], [1.5, None, "two\nlines", "-", "x=1"]]
    expected = '"a,b","say ""x""",\'=1+1,-3.5e-10,\'@me\n1.5,,"two\nlines",-,x=1\n'
    assert run(page, "toCsv(a)", rows) == expected


def test_scale_bars_are_round(page: Any) -> None:
    for size, label in ((1, "100 µm"), (0.35, "20 µm"), (6, "500 µm"), (30, "2 mm")):
        bar = run(page, "scaleBar(a)", size)
        assert bar["label"] == label
        length = float(label.split()[0]) * (1000 if "mm" in label else 1)
        assert bar["pixels"] * size == pytest.approx(length)
        assert 40 < bar["pixels"] <= 140


def test_outlines_enclose_their_domain(page: Any) -> None:
    side = 12
    y, x = np.divmod(np.arange(side * side), side)
    codes = (np.hypot(x - 5.5, y - 5.5) < 3).astype(int)
    cloud = {"x": (x + 0.5).tolist(), "y": (y + 0.5).tolist(), "width": side, "height": side, "spacing": 1}
    made = run(
        page,
        """(() => { const raster = makeRaster(a, new Grid(a, b.length), b, 2);
        return [outlines(raster, 2), deepPlaces(raster, 2, [[0, 0, 12, 12]])]; })()""",
        cloud,
        codes.tolist(),
    )
    from matplotlib.path import Path as Shape

    (inner,) = made[0][1]
    assert (Shape(inner).contains_points(np.c_[x + 0.5, y + 0.5]) == codes).all()
    assert len(made[0][0]) == 2  # its outer edge, and the hole
    x, y, group = made[1][1]
    assert group == 1
    assert np.hypot(x - 6, y - 6) < 1.5


def test_limits_and_blends_of_genes(page: Any) -> None:
    values = [0, 0, 1, 2, 3, 4, 5]
    assert run(page, "limits(Float32Array.from(a), 0, 100)", values) == [0, 5]
    assert run(page, "limits(Float32Array.from(a), 50, 100)", values) == [3, 5]
    assert run(page, "limits(new Float32Array(3), 0, 99)") == [0, 1]
    colours = run(page, 'blendTable(["#ffffff", "#ff0000", "#0000ff", "#000000"])')
    assert [colours[i] for i in (0, 240, 15, 255)] == ["#ffffff", "#ff0000", "#0000ff", "#000000"]
    assert run(page, "readNames(a, (name) => ({A: 0, B: 1})[name] ?? -1)", "A, B\nA;C  D") == {
        "genes": [0, 1], "absent": ["C", "D"],
    }  # fmt: skip


def test_colours_that_browsers_mix_are_written_out(page: Any) -> None:
    assert run(page, 'plainColour("color(srgb 0.5 0 1 / 0.25)")') == {"colour": "rgb(128,0,255)", "opacity": 0.25}
    assert run(page, 'plainColour("rgba(0, 0, 0, 0)")') is None


def test_names_on_every_slice_that_has_the_domain(page: Any) -> None:
    side = 10
    y, x = np.divmod(np.arange(2 * side * side), 2 * side)
    codes = np.where(x < side, 0, np.where(y < 5, 0, 1))  # domain 1 is on the second slice alone
    cloud = {"x": (x + 0.5).tolist(), "y": (y + 0.5).tolist(), "width": 2 * side, "height": side, "spacing": 1}
    boxes = [[0, 0, side, side], [side, 0, 2 * side, side]]
    places = run(
        page,
        "deepPlaces(makeRaster(a, new Grid(a, b.length), b, 2), 2, c)",
        cloud, codes.tolist(), boxes,
    )  # fmt: skip
    assert [(group, px > side) for px, _, group in places] == [(0, False), (0, True), (1, True)]
    texts = [[10, 10, "first"], [12, 14, "in its way"], [10, 30, "below"], [40, 10, "beside", "left"]]
    assert run(page, "withoutOverlaps(a)", texts) == [texts[0], texts[2], texts[3]]

"""Work on a report in a real browser: search genes, select spots, edit domains, save and load, export what is shown."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image

from _browser import arrived, complaints, downloads, hover, loaded, middle_of_window, opened, pixels, rest, share
from _finished import finished, run_record
from _report import map_data, texts, unpacked
from stmfg import report

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

ORANGE, SVG = (0xE6, 0x9F, 0x00), "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def adata() -> AnnData:
    """Four bands, with a tree of three levels: 3, 4 and 5 domains."""
    adata = finished(genes=80, image=True)
    domain = adata.obs["stmfg_domain"].astype(str).to_numpy()
    right = adata.obsm["spatial"][:, 0] > np.median(adata.obsm["spatial"][:, 0])
    leaf = np.where(domain == "3", np.where(right, "3.1", "3.2"), domain)
    adata.obs["stmfg_leaf"] = pd.Categorical(leaf)
    leaves = ["1", "2", "3.1", "3.2", "4"]
    names = np.array([["1", "2", "3+4", "3+4", "3+4"], ["1", "2", "3", "3", "4"], leaves]).T
    adata.uns["stmfg"]["tree"] = {
        "levels": np.array([3, 4, 5]), "leaves": np.array(leaves), "names": names,
        "support": np.array([0.9, 1.0, 0.6]), "anchor": 4,
    }  # fmt: skip
    adata.obs["array_row"], column = np.divmod(np.arange(400), 20)
    adata.obs["array_col"] = 2 * column + adata.obs["array_row"] % 2
    return adata


@pytest.fixture
def page(browser: Any, adata: AnnData, tmp_path: Path) -> Any:
    """The report, opened; what is saved goes to the folder `saved`."""
    downloads(browser, tmp_path / "saved")
    return opened(browser, adata, tmp_path)


def find(page: Any, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def press(page: Any, selector: str, number: int = 0) -> None:
    """Press a button, or tick a box, from the keyboard."""
    page.find_elements(By.CSS_SELECTOR, selector)[number].send_keys(Keys.SPACE)


def enter(page: Any, selector: str, text: str) -> None:
    find(page, selector).send_keys(Keys.CONTROL, "a")
    find(page, selector).send_keys(text, Keys.TAB)


def parse_xml(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def say(page: Any, selector: str) -> str:
    return str(find(page, selector).get_attribute("textContent"))


def search(page: Any, text: str, *keys: str, field: str = "#gene") -> None:
    place = find(page, field)
    place.send_keys(Keys.CONTROL, "a")
    place.send_keys(text, *keys)
    rest(page)


def legend(page: Any) -> dict[str, int]:
    entries = page.find_elements(By.CSS_SELECTOR, ".legend .name")
    counts = page.find_elements(By.CSS_SELECTOR, ".legend small")
    return {name.text: int(count.text.replace(",", "")) for name, count in zip(entries, counts, strict=True)}


def expression(adata: AnnData, gene: str) -> np.ndarray[Any, Any]:
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    return np.asarray(np.log1p(adata[:, gene].X.toarray().ravel() * np.median(depth) / depth))


def test_any_gene_is_found_by_its_name(page: Any, adata: AnnData) -> None:
    assert find(page, "#gene").get_attribute("placeholder") == "Search 80 genes"
    search(page, "ene7")
    matches = [each.text for each in page.find_elements(By.CSS_SELECTOR, "#gene-list [role=option]")]
    assert matches == ["GENE7", *(f"GENE7{i}" for i in range(10))]
    search(page, "gene77", Keys.ENTER)
    assert Select(find(page, "#colour")).first_selected_option.text == "GENE77"
    assert find(page, "#gene").get_attribute("value") == "GENE77"
    values = expression(adata, "GENE77")
    spot = int(values.argmax())
    assert f"\nGENE77\n{values[spot]:.1f}" in hover(page, spot)
    top = np.quantile(values[values > 0], 0.995)
    assert float(say(page, "#scale b").lstrip("≥ ")) == pytest.approx(top, rel=0.06)
    search(page, "no such gene", Keys.ENTER)
    assert "No gene on this page" in say(page, "#gene-list")
    assert Select(find(page, "#colour")).first_selected_option.text == "GENE77"
    assert complaints(page) == []


def test_limits_scale_pairs_and_sets_of_genes(page: Any, adata: AnnData) -> None:
    search(page, "GENE0", Keys.ENTER)
    plain = pixels(page)
    enter(page, "#high", "50")
    rest(page)
    values = expression(adata, "GENE0")
    assert float(say(page, "#scale b").lstrip("≥ ")) == pytest.approx(np.median(values[values > 0]), rel=0.06)
    assert (pixels(page) != plain).any()
    press(page, "#log")
    rest(page)
    assert "log" not in say(page, "#scale small")
    search(page, "GENE1", Keys.ENTER, field="#other-gene")
    assert all(text in say(page, "#scale") for text in ("GENE0", "GENE1", "both"))
    page.execute_script("document.querySelector('details').open = true")
    find(page, "#gene-set").send_keys("gene0, GENE4\nGENE8 Nonsense")
    press(page, "#gene-set-show")
    rest(page)
    assert say(page, "#gene-set-note") == "3 of 4 genes. Not on this page: Nonsense."
    assert Select(find(page, "#colour")).first_selected_option.text == "Gene set"
    assert complaints(page) == []


def test_more_genes_lie_in_files_beside_the_page(
    browser: Any, adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stmfg.report._genes._INSIDE", 0)
    monkeypatch.setattr("stmfg.report._genes._GROUP", {True: 1, False: 2_000})
    opened(browser, adata, tmp_path)
    files = sorted(path.name for path in (tmp_path / "report_genes").iterdir())
    assert len(files) > 8
    assert files[0] == "001.js"
    data = map_data((tmp_path / "report.html").read_text())
    genes = texts(data["genes"]["names"])
    search(browser, genes[-1], Keys.ENTER)
    values = expression(adata, genes[-1])
    assert f"\n{genes[-1]}\n{values.max():.1f}" in hover(browser, int(values.argmax()))
    assert say(browser, "#complaint") == ""
    assert complaints(browser) == []
    (tmp_path / "report_genes" / "001.js").rename(tmp_path / "elsewhere.js")
    search(browser, genes[20], Keys.ENTER)
    assert "report_genes/001.js is not beside this page" in say(browser, "#complaint")
    other = adata[:, :-1].copy()
    (tmp_path / "other").mkdir()
    report.write(other, tmp_path / "other" / "report.html", run=run_record(other))
    (tmp_path / "other" / "report_genes" / "001.js").rename(tmp_path / "report_genes" / "001.js")
    search(browser, genes[20], Keys.ENTER)
    assert "belongs to another report" in say(browser, "#complaint")
    browser.get_log("browser")
    monkeypatch.undo()
    report.write(adata, tmp_path / "report.html", run=run_record(adata))
    assert not (tmp_path / "report_genes").exists()


def on_map(page: Any, adata: AnnData) -> np.ndarray[Any, Any]:
    """Return where every spot is on the map, (n, 2) pixels from the middle of its canvas."""
    canvas = find(page, "#tissue-map canvas")
    size = np.array([canvas.size["width"], canvas.size["height"]])
    tissue = json.loads(say(page, "#map-data"))["tissue"]
    whole = np.array([tissue["width"], tissue["height"]])
    places = np.column_stack([unpacked(tissue[axis], "<u2") for axis in "xy"])
    return np.asarray((places - whole / 2) * (size / whole).min())


def drag(page: Any, *corners: tuple[int, int]) -> None:
    canvas = middle_of_window(page)
    chain = ActionChains(page, duration=30).move_to_element_with_offset(canvas, *corners[0]).click_and_hold()
    for corner in corners[1:]:
        chain.move_to_element_with_offset(canvas, *corner)
    chain.release().perform()
    rest(page)


def test_spots_are_selected_counted_kept_and_saved(page: Any, adata: AnnData, tmp_path: Path) -> None:
    places = on_map(page, adata)
    press(page, "[data-tool=rectangle]")
    drag(page, (-101, -151), (99, 121))
    inside = ((places > (-101, -151)) & (places < (99, 121))).all(axis=1)
    counts = adata.obs["stmfg_domain"][inside].value_counts()
    text = find(page, "#selections li span").text
    assert text.startswith(f"{inside.sum()} spots: ")
    assert all(f"{name} {count}" in text for name, count in counts.items() if count)
    enter(page, "#selections input", "=core")
    actions = page.find_elements(By.CSS_SELECTOR, "#selections button")
    assert [action.text for action in actions] == ["Keep", "CSV", "Clear"]
    press(page, "#selections button", 0)
    press(page, "#selections button", 1)
    rows = list(csv.DictReader(arrived(tmp_path / "saved", "sample-core.csv").read_text().splitlines()))
    assert [row["spot"] for row in rows] == list(adata.obs_names[inside])
    assert {row["selection"] for row in rows} == {"'=core"}
    assert [row["domain"] for row in rows] == list(adata.obs["stmfg_domain"][inside])
    assert [float(row["x"]) for row in rows] == pytest.approx(adata.obsm["spatial"][inside, 0], abs=0.2)
    press(page, "[data-tool=lasso]")
    drag(page, (-150, -150), (150, -150), (0, 150))
    triangle = (places[:, 1] > -150) & (2 * np.abs(places[:, 0]) < 150 - places[:, 1])
    second = page.find_elements(By.CSS_SELECTOR, "#selections li span:not(.actions)")[1].text
    assert int(second.split(" ")[0]) == pytest.approx(triangle.sum(), abs=3)
    assert complaints(page) == []


def test_spots_are_selected_from_the_keyboard(page: Any) -> None:
    canvas = find(page, "#tissue-map canvas")
    canvas.send_keys("r", Keys.ENTER, Keys.ARROW_RIGHT * 8, Keys.ARROW_DOWN * 8, Keys.ENTER)
    assert " spots: " in find(page, "#selections li span").text
    assert "spots selected" in say(page, "#told")
    canvas.send_keys("l", Keys.ENTER, Keys.ARROW_RIGHT * 9, Keys.ENTER, Keys.ARROW_UP * 9, Keys.ENTER, Keys.ENTER)
    text = find(page, "#selections li span").text
    assert 5 < int(text.split(" ")[0]) < 60
    canvas.send_keys(Keys.ESCAPE)
    assert find(page, "#tissue-map").get_attribute("data-tool") == "move"


def test_edits_are_saved_and_loaded_again(page: Any, adata: AnnData, tmp_path: Path) -> None:
    before = legend(page)
    press(page, "#edit")
    press(page, ".legend input[type=checkbox]", 0)
    press(page, ".legend input[type=checkbox]", 1)
    press(page, "#merge")
    assert find(page, ".legend input[type=text]").get_attribute("value") == "1+2"
    enter(page, ".legend input[type=text]", "3")
    assert say(page, "#complaint") == "Another domain is called 3."
    enter(page, ".legend input[type=text]", "Upper layers")
    page.execute_script(
        """const field = document.querySelectorAll(".legend input[type=color]")[1];
        field.value = "#123456"; field.dispatchEvent(new Event("change"));"""
    )
    assert share(pixels(page), (0x12, 0x34, 0x56)) > 0.01
    assert share(pixels(page), ORANGE) == 0
    press(page, "#save-edits")
    path = arrived(tmp_path / "saved", "sample-edits.json")
    assert json.loads(path.read_text()) == {
        "stmfg_edits": 1, "merge": [["1", "2"]], "rename": {"1+2": "Upper layers"}, "colors": {"3": "#123456"},
        "selections": [],
    }  # fmt: skip
    press(page, "#edit")
    edited, image = legend(page), pixels(page)
    assert edited == {"Upper layers": before["1"] + before["2"], "3": before["3"], "4": before["4"]}
    assert "1 (Upper layers)" in find(page, "#sizes").text
    loaded(page, tmp_path / "report.html")
    assert legend(page) == before
    find(page, "#load-edits").send_keys(str(path))
    rest(page)
    assert legend(page) == edited
    assert (pixels(page) == image).all()
    (tmp_path / "other.json").write_text('{"stmfg_edits": 1, "rename": {"17": "x"}}')
    find(page, "#load-edits").send_keys(str(tmp_path / "other.json"))
    assert "no domain 17" in WebDriverWait(page, 5).until(lambda p: say(p, "#complaint"))
    assert legend(page) == edited
    press(page, "#edit")
    press(page, "#undo")
    press(page, "#edit")
    assert complaints(page) == []


def test_levels_of_the_tree_are_a_slider(page: Any, adata: AnnData) -> None:
    slider = find(page, "#level")
    assert say(page, "#level-note") == "4 domains, as found"
    slider.send_keys(Keys.ARROW_RIGHT)
    rest(page)
    sizes = adata.obs["stmfg_leaf"].value_counts()
    assert legend(page) == {name: int(sizes[name]) for name in ("1", "2", "3.1", "3.2", "4")}
    assert say(page, "#level-note") == "5 domains, 0.60 reproducible"
    slider.send_keys(Keys.ARROW_LEFT * 2)
    assert list(legend(page)) == ["1", "2", "3+4"]
    assert find(page, "#made-before").is_displayed()
    assert "3+4" in hover(page, 399)


def test_a_double_click_shows_one_domain_alone(page: Any) -> None:
    canvas = find(page, "#tissue-map canvas")
    whole = pixels(page)
    ActionChains(page).move_to_element_with_offset(canvas, 40, -80).double_click().perform()
    assert sum(share(pixels(page), colour) > 0 for colour in (ORANGE, (0, 0x72, 0xB2), (0, 0x9E, 0x73))) == 1
    canvas.send_keys("i")
    assert abs(pixels(page).astype(int) - whole).max() == 0


def test_the_map_is_saved_as_it_is(page: Any, adata: AnnData, tmp_path: Path) -> None:
    press(page, "#outlines")
    rest(page)
    for number in range(2):
        press(page, ".view > .save button", number)
    drawing = parse_xml(arrived(tmp_path / "saved", "sample-map.svg").read_text())
    circles = [each for each in drawing.iter(f"{SVG}circle") if each.get("cx") != "6"]
    fills = pd.Series([circle.get("fill") for circle in circles]).value_counts()
    assert len(circles) == adata.n_obs
    assert fills["#e69f00"] == (adata.obs["stmfg_domain"] == "2").sum()
    assert len(list(drawing.iter(f"{SVG}clipPath"))) == 4
    words = [each.text for each in drawing.iter(f"{SVG}text")]
    assert words[0] == "sample"
    assert words.count("4") == 2  # on the map and in the legend
    # The scale bar is as long as it says: spots of Visium lie 100 micrometres apart.
    label = next(text for text in words if text.endswith(("µm", "mm")))
    length = float(label.split()[0]) * (1000 if label.endswith("mm") else 1)
    bar = next(each for each in drawing.iter(f"{SVG}path") if each.get("stroke-width") == "4")
    x = np.array([float(circle.get("cx")) for circle in circles[:2]])
    assert float(str(bar.get("d")).split("h")[1]) / length == pytest.approx((x[1] - x[0]) / 100, rel=0.01)
    picture = Image.open(arrived(tmp_path / "saved", "sample-map.png"))
    size = [float(drawing.get(side)) for side in ("width", "height")]
    assert picture.size == pytest.approx([2 * v for v in size], abs=1)
    assert np.asarray(picture.convert("RGB")).std() > 20
    assert complaints(page) == []


def test_every_figure_and_table_is_saved(page: Any, adata: AnnData, tmp_path: Path) -> None:
    places = page.find_elements(By.CSS_SELECTOR, "main .wide, main figure, main .details > div")
    rows = page.find_elements(By.CSS_SELECTOR, "main .save")
    assert len(rows) == len(places) >= 12
    drawn = page.execute_script(
        """return [...document.querySelectorAll("main .wide, main figure, main .details > div")]
        .filter((node) => node.offsetWidth).map((node) => drawElement(node).text)"""
    )
    assert all(len(list(parse_xml(text).iter())) > 4 for text in drawn)
    for kind in ("CSV", "PNG", "SVG"):
        page.execute_script(f"document.querySelector('#sizes .save [aria-label$={kind}]').click()")
    table = pd.read_csv(arrived(tmp_path / "saved", "sample-Domain-sizes.csv"))
    counts = adata.obs["stmfg_domain"].value_counts(sort=False)
    assert list(table["Domain"]) == [1, 2, 3, 4]
    assert list(table["Spots"]) == list(counts)
    assert list(table["Share"]) == pytest.approx(counts / 400)
    text = arrived(tmp_path / "saved", "sample-Domain-sizes.svg").read_text()
    assert all(word in text for word in ("Share", "GENE0", "Median"))
    assert np.asarray(Image.open(arrived(tmp_path / "saved", "sample-Domain-sizes.png")).convert("L")).min() < 100
    page.execute_script("document.querySelectorAll('#markers .save [aria-label$=CSV]')[1].click()")
    markers = pd.read_csv(arrived(tmp_path / "saved", "sample-Marker-genes-in-numbers.csv"))
    assert list(markers.columns) == ["Domain", "Gene", "log2 fold", "Inside", "Elsewhere", "Next", "Adjusted p"]
    assert len(markers) == 12  # the others are higher by chance
    assert complaints(page) == []

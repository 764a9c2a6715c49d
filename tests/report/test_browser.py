"""The report in a real browser: nothing fails, nothing foreign runs, the map can be explored by pointer and by keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _browser import complaints, hover, opened, pixels, rest, share
from _finished import NASTY, finished

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

ORANGE = (0xE6, 0x9F, 0x00)  # of domain 2


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    """A report with hostile names, opened."""
    adata = finished(image=True)
    adata.var_names = [NASTY + name for name in adata.var_names]
    adata.obs_names = [NASTY + name for name in adata.obs_names]
    adata.obs["stmfg_domain"] = adata.obs["stmfg_domain"].cat.rename_categories({"1": NASTY})
    return opened(browser, adata, tmp_path, input=f"/data/{NASTY}.h5ad")


@pytest.fixture
def plain(browser: Any, tmp_path: Path) -> Any:
    """A report without image, opened."""
    return opened(browser, finished(), tmp_path)


def show_embedding(page: Any) -> None:
    page.find_element(By.ID, "beside").send_keys(Keys.SPACE)
    rest(page)


def test_it_opens_without_complaint_and_shows_its_figures(page: Any) -> None:
    assert page.find_element(By.TAG_NAME, "h1").text == "sample"
    assert len(page.find_elements(By.TAG_NAME, "h2")) >= 9
    assert "<script>" in page.find_element(By.CLASS_NAME, "markers").text
    assert page.execute_script(
        "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
    ) == 0  # fmt: skip
    show_embedding(page)
    figures = page.find_elements(By.CSS_SELECTOR, ".frame, #certainty .spots img")
    shown = [figure for figure in figures if figure.is_displayed()]
    assert len(shown) == 4
    assert all(figure.size["width"] > 200 and figure.size["height"] > 100 for figure in shown)
    assert page.execute_script("return document.querySelector('.under').naturalWidth") > 0
    assert complaints(page) == []


def test_hostile_names_are_only_text(page: Any) -> None:
    assert f"{NASTY}spot30\nDomain\n{NASTY}" in hover(page, 30)
    Select(page.find_element(By.ID, "colour")).select_by_visible_text(f"{NASTY}GENE0")
    assert f"\n{NASTY}GENE0\n" in hover(page, 31)
    assert page.execute_script("return window.stmfgHacked") is None
    assert complaints(page) == []


def test_a_spot_tells_what_it_is(plain: Any) -> None:
    show_embedding(plain)
    note = plain.find_element(By.CSS_SELECTOR, "#tissue-map .tip")
    assert not note.is_displayed()
    adata, number = finished(), 217
    name, *lines = hover(plain, number).split("\n")
    assert name == "spot217"
    told = dict(zip(lines[::2], lines[1::2], strict=True))
    assert told["Domain"] == adata.obs["stmfg_domain"].iloc[number]
    assert float(told["Confidence"]) == pytest.approx(adata.obs["stmfg_confidence"].iloc[number], abs=0.01)
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    genes = set(told) - {"Domain", "Confidence"}
    assert len(genes) == 3
    for gene in genes:
        value = np.log1p(adata[number, gene].X.toarray()[0, 0] * np.median(depth) / depth[number])
        assert float(told[gene]) == pytest.approx(value, abs=0.06)
    gene = Select(plain.find_element(By.ID, "colour")).options[-1].text
    Select(plain.find_element(By.ID, "colour")).select_by_visible_text(gene)
    rest(plain)
    assert f"\n{gene}\n" in note.text
    # The same spot is ringed in the embedding.
    assert plain.find_element(By.CSS_SELECTOR, "#embedding-map .ring").get_attribute("hidden") is None
    ActionChains(plain).move_to_element(plain.find_element(By.TAG_NAME, "h1")).perform()
    rest(plain)
    assert not note.is_displayed()


def test_domains_are_hidden_from_the_keyboard(plain: Any) -> None:
    show_embedding(plain)
    before = share(pixels(plain), ORANGE), share(pixels(plain, "#embedding-map"), ORANGE)
    assert min(before) > 0.01
    button = plain.find_element(By.CSS_SELECTOR, "button[data-toggle='1']")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "false"
    assert share(pixels(plain), ORANGE) == 0
    assert share(pixels(plain, "#embedding-map"), ORANGE) == 0
    assert share(pixels(plain), (0, 0x72, 0xB2)) > 0.01
    plain.find_element(By.CSS_SELECTOR, "button[data-all='true']").send_keys(Keys.SPACE)
    assert share(pixels(plain), ORANGE) == before[0]
    # Under the pointer another stands out.
    ActionChains(plain).move_to_element(plain.find_element(By.CSS_SELECTOR, "button[data-toggle='0']")).perform()
    assert share(pixels(plain), ORANGE) == 0
    ActionChains(plain).move_to_element(plain.find_element(By.TAG_NAME, "h1")).perform()
    assert share(pixels(plain), ORANGE) == before[0]


def test_the_map_zooms_and_moves_by_keys(plain: Any) -> None:
    whole = share(pixels(plain), ORANGE)
    before = pixels(plain)
    canvas = plain.find_element(By.CSS_SELECTOR, "#tissue-map canvas")
    canvas.send_keys("+" * 3)
    closer = pixels(plain)
    assert (closer[..., 3] > 0).mean() > 1.2 * (before[..., 3] > 0).mean()  # nothing but tissue is in sight
    told = plain.find_element(By.ID, "told").get_attribute("textContent")
    assert told.startswith("Domain ")
    canvas.send_keys(Keys.ARROW_DOWN * 4)
    assert plain.find_element(By.ID, "told").get_attribute("textContent") != told
    assert (pixels(plain) != closer).any()
    canvas.send_keys("0")
    assert (pixels(plain) == before).all()
    plain.find_element(By.CSS_SELECTOR, "[data-zoom='1.5']").click()
    plain.find_element(By.CSS_SELECTOR, "[data-zoom='fit']").click()
    assert share(pixels(plain), ORANGE) == whole


def test_the_map_zooms_and_moves_by_pointer(plain: Any) -> None:
    before = pixels(plain)
    canvas = plain.find_element(By.CSS_SELECTOR, "#tissue-map canvas")
    page = plain.execute_script("return window.scrollY")
    ActionChains(plain).move_to_element(canvas).click_and_hold().move_by_offset(60, 40).release().perform()
    moved = pixels(plain)
    inner = np.s_[60:-60, 80:-80]
    same = (moved[40:, 60:][inner] == before[:-40, :-60][inner]).all(axis=2).mean()
    assert same > 0.97
    # Dragging gave the map the focus; now the wheel zooms, and the page stays where it is.
    wheel = """arguments[0].dispatchEvent(new WheelEvent("wheel", {
      deltaY: -400, clientX: arguments[1], clientY: arguments[2], bubbles: true, cancelable: true}))"""
    middle = [canvas.rect["x"] + canvas.rect["width"] / 2, canvas.rect["y"] + canvas.rect["height"] / 2]
    assert plain.execute_script(f"return {wheel}", canvas, *middle) is False
    assert (pixels(plain)[..., 3] > 0).mean() > (before[..., 3] > 0).mean()
    assert plain.execute_script("return window.scrollY") == page
    plain.execute_script("arguments[0].blur()", canvas)
    assert plain.execute_script(f"return {wheel}", canvas, *middle) is True  # left to the page


def test_genes_and_confidence_colour_the_map(plain: Any) -> None:
    scale = plain.find_element(By.ID, "scale")
    assert not scale.is_displayed()
    Select(plain.find_element(By.ID, "colour")).select_by_value("confidence")
    assert share(pixels(plain), ORANGE) == 0
    assert scale.is_displayed()
    gene = plain.find_element(By.CSS_SELECTOR, ".markers [data-gene] button")
    name = gene.text
    plain.execute_script("arguments[0].click()", gene)
    rest(plain)
    assert Select(plain.find_element(By.ID, "colour")).first_selected_option.text == name
    assert gene.get_attribute("aria-pressed") == "true"
    image = pixels(plain)
    # A marker of the first domain: the darkest quarter of the spots lies in the upper part, where that domain is.
    rows = np.flatnonzero(((image[..., 3] == 255) & (image[..., 0] < 80)).any(axis=1))
    assert np.median(rows) < image.shape[0] / 2
    assert complaints(plain) == []


def test_spots_can_be_faded_over_the_tissue(page: Any) -> None:
    assert share(pixels(page), ORANGE) > 0.01
    page.find_element(By.ID, "names").send_keys(Keys.SPACE)
    page.find_element(By.ID, "opacity").send_keys(Keys.HOME)
    assert (pixels(page)[..., 3] == 0).all()
    page.find_element(By.ID, "outlines").send_keys(Keys.SPACE)
    assert share(pixels(page), ORANGE) > 0.001  # borders of the domains stay over the tissue


@pytest.mark.parametrize(("theme", "dark"), [("light", False), ("dark", True)])
def test_it_follows_the_theme_of_the_reader(plain: Any, theme: str, dark: bool) -> None:
    Select(plain.find_element(By.ID, "colour")).select_by_index(2)
    plain.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    colour = plain.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    brightness = sum(int(float(c)) for c in colour.split("(")[1].rstrip(")").split(",")[:3])
    assert (brightness < 200) is dark
    image = pixels(plain)
    lowest = (0x2C, 0x33, 0x3B) if dark else (0xE4, 0xE7, 0xEB)
    assert share(image, lowest) > 0.01


@pytest.mark.parametrize(
    ("fixture", "medium", "theme", "widths"),
    [("page", "", "light", (768, 360)), ("plain", "", "dark", (1920, 1024, 390)), ("plain", "print", "light", (688,))],
)
def test_it_fits_any_window_and_paper(
    request: pytest.FixtureRequest, fixture: str, medium: str, theme: str, widths: tuple[int, ...]
) -> None:
    page = request.getfixturevalue(fixture)
    page.find_element(By.ID, "edit").send_keys(Keys.SPACE)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})
    for width in widths:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        rest(page)
        needed, shown = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert needed <= shown == width
        clipped = page.execute_script(
            """return [...document.querySelectorAll(".markers table, #sizes table")].filter((table) =>
            table.getBoundingClientRect().right > table.closest(".wide").getBoundingClientRect().right + 1).length"""
        )
        assert clipped == 0 or width < 600 or fixture == "page"  # whose names are as long as no gene's
    assert complaints(page) == []


def test_print_and_readers_without_script_get_stills(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    shown = [e.is_displayed() for e in page.find_elements(By.CSS_SELECTOR, ".spots img, .frame, nav, .live")]
    assert sum(shown) == 4  # the tissue lies under the first
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.refresh()
    assert all(e.is_displayed() for e in page.find_elements(By.CSS_SELECTOR, ".spots img"))
    assert not any(e.is_displayed() for e in page.find_elements(By.CSS_SELECTOR, ".frame, .live"))


def test_many_slow_spots_are_moved_as_a_picture(plain: Any) -> None:
    """Where a drawing takes long, a frame only moves the last one; at rest it is drawn anew."""
    drawn, transformed, last = plain.execute_async_script(
        """const done = arguments[0];
        const canvas = document.querySelector("#tissue-map canvas");
        const put = CanvasRenderingContext2D.prototype.putImageData;
        let drawn = 0;
        CanvasRenderingContext2D.prototype.putImageData = function (...args) {
          drawn++;
          const start = performance.now();
          while (performance.now() - start < 40);
          return put.apply(this, args);
        };
        let frames = 0;
        let transformed = 0;
        const step = () => {
          transformed += canvas.style.transform !== "";
          canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
          if (frames++ < 12) requestAnimationFrame(step);
          else setTimeout(() => {
            CanvasRenderingContext2D.prototype.putImageData = put;
            done([drawn, transformed, canvas.style.transform]);
          }, 600);
        };
        step();"""
    )
    assert drawn <= 6
    assert transformed >= 6
    assert last == ""

"""The page over many samples in a real browser: nothing foreign runs; the keyboard sorts and filters."""

from __future__ import annotations

from typing import Any

import pytest

import _browser
from _finished import NASTY, finished, run_record
from stmfg.io.sheet import Sample
from stmfg.report import write_overview

pytest.importorskip("selenium", reason="selenium is not installed")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

NAMES = ["s10", "s2", "s1", "s3"]


@pytest.fixture(scope="module")
def page(_started: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A page over three finished samples and one that failed, opened; names and messages are hostile."""
    output = tmp_path_factory.mktemp("batch")
    records = {}
    samples = [
        Sample(name, output / "in.h5ad", f"donor {NASTY}", c)
        for name, c in zip(NAMES, ("x", NASTY, "x", "x"), strict=True)
    ]
    for side, name in zip((12, 10, 11), NAMES[:3], strict=True):
        adata = finished(side)
        (output / name).mkdir()
        adata.write_h5ad(output / name / "result.h5ad")
        (output / name / "report.html").write_text(f"<title>report of {name}</title>")
        records[name] = run_record(adata, n_domains=side, warnings=[NASTY] if name == "s1" else [])
    write_overview(samples, records, {"s3": f"cannot be read ({NASTY})"}, output)
    _started.get((output / "index.html").as_uri())
    return _started


def shown(page: Any) -> list[str]:
    rows = page.find_elements(By.CSS_SELECTOR, ".samples tbody tr")
    names = [row.find_element(By.CSS_SELECTOR, "th").text.split()[0] for row in rows if row.is_displayed()]
    cards = page.find_elements(By.CSS_SELECTOR, ".sheet li")
    assert [card.find_element(By.TAG_NAME, "strong").text for card in cards if card.is_displayed()] == names
    return names


def heading(page: Any, name: str) -> Any:
    return page.find_element(By.XPATH, f"//thead//button[normalize-space()='{name}']")


def test_it_opens_without_complaint(page: Any) -> None:
    assert _browser.complaints(page) == []
    assert page.execute_script("return window.stmfgHacked") is None
    assert NASTY in page.find_element(By.ID, "failed").text
    assert shown(page) == NAMES
    maps = page.find_elements(By.CSS_SELECTOR, ".sheet img")
    assert len(maps) == 3
    assert all(page.execute_script("return arguments[0].naturalWidth", image) > 100 for image in maps)


def test_sorted_from_the_keyboard(page: Any) -> None:
    spots = heading(page, "Spots")
    spots.send_keys(Keys.ENTER)
    assert shown(page) == ["s2", "s1", "s10", "s3"]  # a sample that failed has no spots
    assert spots.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    spots.send_keys(Keys.SPACE)
    assert shown(page) == ["s10", "s1", "s2", "s3"]
    heading(page, "Sample").send_keys(Keys.ENTER)
    assert shown(page) == ["s1", "s2", "s3", "s10"]
    assert spots.find_element(By.XPATH, "..").get_attribute("aria-sort") is None


def test_filtered_by_condition(page: Any) -> None:
    choice = Select(page.find_element(By.XPATH, "//label[starts-with(text(), 'Condition')]/select"))
    assert [option.text for option in choice.options] == ["all", NASTY, "x"]
    choice.select_by_visible_text(NASTY)
    assert shown(page) == ["s2"]
    assert page.find_element(By.ID, "shown").text == "1 of 4 samples"
    choice.select_by_visible_text("all")
    assert sorted(shown(page)) == sorted(NAMES)


def test_found_by_words_and_put_in_order(page: Any) -> None:
    words = page.find_element(By.ID, "words")
    words.send_keys("1 100")  # one warning, and a hundred spots: of the table, as it is read
    words.clear()
    words.send_keys("READ cannot")  # in any order
    assert shown(page) == ["s3"]
    words.send_keys(Keys.CONTROL, "a")
    words.send_keys(Keys.BACKSPACE)
    order = Select(page.find_element(By.ID, "order"))
    order.select_by_visible_text("Spots")
    page.find_element(By.ID, "reverse").click()
    assert shown(page) == ["s10", "s1", "s2", "s3"]
    order.select_by_visible_text("of the sheet")
    assert shown(page) == NAMES


def test_a_map_leads_to_the_report(page: Any) -> None:
    here = page.current_url
    picture = page.find_element(By.CSS_SELECTOR, "a[href='s2/report.html'] img")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", picture)
    picture.click()
    assert page.title == "report of s2"
    page.get(here)


def test_it_fits_a_narrow_window(page: Any) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    widths = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths[0] <= widths[1]

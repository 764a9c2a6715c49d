"""The report in a real browser: nothing fails, nothing foreign runs, domains can be hidden from the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from _finished import NASTY, finished, run_record
from stmfg import report

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--window-size=1280,900",
]  # fmt: skip

pytestmark = pytest.mark.skipif(
    not (CHROMIUM.exists() and DRIVER.exists()),
    reason=f"{CHROMIUM} or {DRIVER} is absent; `make browser` installs them",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(params=["dots", "pictures"])
def page(request: pytest.FixtureRequest, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A report with hostile names, opened; with figures of dots, and with pictures as for many spots."""
    if request.param == "pictures":
        monkeypatch.setattr(report, "_VECTOR_LIMIT", 10)
    adata = finished(image=True)
    adata.var_names = [NASTY + name for name in adata.var_names]
    adata.obs["stmfg_domain"] = adata.obs["stmfg_domain"].cat.rename_categories({"1": NASTY})
    path = tmp_path / "report.html"
    report.write(adata, path, run=run_record(adata, input=f"/data/{NASTY}.h5ad"))
    browser.get(path.as_uri())
    return browser


def test_it_opens_without_complaint(page: Any) -> None:
    assert [e for e in page.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    assert page.execute_script("return window.stmfgHacked") is None
    assert page.find_element(By.TAG_NAME, "h1").text == "sample"
    assert len(page.find_elements(By.TAG_NAME, "h2")) >= 9
    assert "<script>" in page.find_element(By.CLASS_NAME, "markers").text
    assert (
        page.execute_script(
            "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
        )
        == 0
    )


def test_figures_are_shown(page: Any) -> None:
    images = page.find_elements(By.TAG_NAME, "img")
    assert all(page.execute_script("return arguments[0].naturalWidth", image) > 0 for image in images)
    drawings = page.find_elements(By.CSS_SELECTOR, "svg.spots")
    assert len(images) + len(drawings) == 3
    for figure in images + drawings:
        assert figure.size["width"] > 200
        assert figure.size["height"] > 100


@pytest.mark.parametrize("page", ["dots"], indirect=True)
def test_domains_are_hidden_from_the_keyboard(page: Any) -> None:
    button = page.find_element(By.CSS_SELECTOR, "button[data-toggle='1']")
    parts = page.find_elements(By.CSS_SELECTOR, "[data-domain='1']")
    assert len(parts) == 3  # its spots, its name, its points in the embedding
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "false"
    assert not any(part.is_displayed() for part in parts)
    others = page.find_elements(By.CSS_SELECTOR, "path[data-domain='2']")
    assert all(part.is_displayed() for part in others)
    page.find_element(By.CSS_SELECTOR, "button[data-all='true']").send_keys(Keys.SPACE)
    assert all(part.is_displayed() for part in parts)


@pytest.mark.parametrize("page", ["dots"], indirect=True)
def test_spots_can_be_faded_over_the_tissue(page: Any) -> None:
    page.find_element(By.ID, "opacity").send_keys(Keys.HOME)
    groups = page.find_element(By.CSS_SELECTOR, "#domain-map .groups")
    assert groups.value_of_css_property("opacity") == "0"


@pytest.mark.parametrize(("theme", "dark"), [("light", False), ("dark", True)])
@pytest.mark.parametrize("page", ["dots"], indirect=True)
def test_it_follows_the_theme_of_the_reader(page: Any, theme: str, dark: bool) -> None:
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]})
    colour = page.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
    brightness = sum(int(float(c)) for c in colour.split("(")[1].rstrip(")").split(",")[:3])
    assert (brightness < 200) is dark


@pytest.mark.parametrize("page", ["dots"], indirect=True)
def test_it_fits_a_narrow_window(page: Any) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    widths = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widths[0] <= widths[1]

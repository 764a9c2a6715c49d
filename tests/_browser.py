"""What the tests in a real browser share: a browser without a window, a report opened in it, what is on its maps."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from matplotlib.image import imread

from _finished import run_record
from _report import unpacked
from stmfg import report

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--window-size=1280,900",
]  # fmt: skip


def start(profile: Path) -> Any:
    """Start a browser, or skip the test where there is none."""
    pytest.importorskip("selenium", reason="selenium is not installed")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip(f"{CHROMIUM} or {DRIVER} is absent; `make browser` installs them")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in [*FLAGS, f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, Service(str(DRIVER)))


def opened(browser: Any, adata: AnnData, folder: Path, **record: Any) -> Any:
    """Write a report and open it."""
    path = folder / "report.html"
    report.write(adata, path, run=run_record(adata, **record))
    return loaded(browser, path)


def loaded(browser: Any, path: Path) -> Any:
    """Open a report; its map is ready."""
    browser.get(path.as_uri())
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60).until(lambda b: b.execute_script("return document.documentElement.dataset.ready"))
    return browser


def complaints(browser: Any) -> list[Any]:
    log = browser.get_log("browser")
    # The tests themselves read the canvas, which a page should not do often.
    return [e for e in log if e["level"] in ("SEVERE", "WARNING") and "getImageData" not in e["message"]]


def rest(browser: Any) -> None:
    """Wait until the map has been drawn finely, and shown."""
    time.sleep(0.35)
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def middle_of_window(browser: Any) -> Any:
    """Scroll to the map and return its canvas, all of which is then in sight."""
    canvas = browser.find_element("css selector", "#tissue-map canvas")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    rest(browser)
    return canvas


def hover(browser: Any, spot: int) -> str:
    """Rest the pointer on a spot of the map, as it was opened; return what the note says."""
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = middle_of_window(browser)
    size = np.array([canvas.size["width"], canvas.size["height"]])
    text = browser.execute_script("return document.querySelector('#map-data').textContent")
    tissue = json.loads(text)["tissue"]
    whole = np.array([tissue["width"], tissue["height"]])
    place = np.array([unpacked(tissue[axis], "<u2")[spot] for axis in "xy"])
    from_middle = (place - whole / 2) * (size / whole).min()
    ActionChains(browser).move_to_element_with_offset(canvas, *from_middle.round().astype(int).tolist()).perform()
    rest(browser)
    return str(browser.find_element("css selector", "#tissue-map .tip").text)


def downloads(browser: Any, folder: Path) -> Path:
    """Let the browser put what is saved into a folder."""
    folder.mkdir(exist_ok=True)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    return folder


def arrived(folder: Path, name: str) -> Path:
    """Wait for a file to be saved; return its path."""
    path, end = folder / name, time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{name} did not arrive, only {[each.name for each in folder.iterdir()]}"
        time.sleep(0.05)
    return path


def pixels(browser: Any, of: str = "#tissue-map") -> Any:
    """Return what is on the canvas of a map, (height, width, 4) bytes."""
    rest(browser)
    address = browser.execute_script("return document.querySelector(`${arguments[0]} canvas`).toDataURL()", of)
    return (imread(io.BytesIO(base64.b64decode(address.partition(",")[2]))) * 255).round().astype(np.uint8)


def share(image: Any, colour: tuple[int, int, int]) -> float:
    """Return the share of an image that has a colour."""
    return float(((np.abs(image[..., :3].astype(int) - colour).max(axis=2) < 6) & (image[..., 3] == 255)).mean())

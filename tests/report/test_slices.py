"""The report of several slices: pictures of all, one enlarged, what each is made of, how conditions differ."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import _browser
import stmfg
from _finished import NASTY, finished, run_record
from stmfg import report
from stmfg.io import join


def study(*, image: bool = False) -> AnnData:
    """Four slices of two conditions; of the last two the first domain is smaller."""
    parts = {}
    for i, name in enumerate(("a", "b", NASTY, "d")):
        part = finished(12, 3, genes=30, image=image, seed=i)
        if i > 1:
            keep = (part.obs["stmfg_domain"] != "1").to_numpy() | (np.arange(part.n_obs) % 4 == i - 2)
            part = part[keep].copy()
        part.obs["condition"] = f"{NASTY} treated" if i > 1 else "control"
        parts[name] = part
    joined = join(parts)
    joined.obs["stmfg_domain"] = joined.obs["stmfg_domain"].astype("category")
    joined.uns["stmfg"] = finished(4).uns["stmfg"]
    return joined


def options(adata: AnnData) -> dict[str, Any]:
    return run_record(adata, options={"library_key": "stmfg_slice", "reference": "control"}, warnings=[])


def test_shares_and_comparison(tmp_path: Path) -> None:
    adata = study()
    report.write(adata, tmp_path / "report.html", run=options(adata))
    text = (tmp_path / "report.html").read_text()
    assert NASTY not in text
    table = re.search(r'<table class="shares">(.*?)</table>', text, flags=re.DOTALL)
    assert table
    shares = np.array(re.findall(r'data-csv="(0\.\d+)"', table[1]), dtype=float).reshape(4, 3)
    counts = pd.crosstab(adata.obs["stmfg_slice"], adata.obs["stmfg_domain"])
    np.testing.assert_allclose(shares, counts.div(counts.sum(axis=1), axis=0).loc[sorted(counts.index)])
    assert text.count('<li data-slice="') == 4
    assert "Conditions compared" in text
    assert "Domain 1 takes less of the tissue in &lt;script&gt;" in text
    assert text.count("data:image/svg+xml") == 1
    report.write(adata, tmp_path / "again.html", run=options(adata))
    assert (tmp_path / "again.html").read_text() == text


def test_tissue_images_lie_under_their_slices(tmp_path: Path) -> None:
    adata = study(image=True)
    report.write(adata, tmp_path / "report.html", run=options(adata))
    with_images = (tmp_path / "report.html").read_text().count('class="tissue"')
    assert with_images == 1 + 4  # the map, and every slice
    for name, part in adata.uns["spatial"].items():
        part["images"]["lowres"] = np.zeros_like(part["images"]["lowres"]) if name == "b" else part["images"]["lowres"]
    ax = stmfg.pl.domains(adata, library_key="stmfg_slice")
    picture, (left, right, bottom, top) = np.asarray(ax.images[0].get_array()), ax.images[0].get_extent()
    places = np.asarray(ax.collections[0].get_offsets())
    column = ((places[:, 0] - left) / (right - left) * picture.shape[1]).astype(int)
    row = ((places[:, 1] - top) / (bottom - top) * picture.shape[0]).astype(int)
    black = (picture[row, column] == 0).all(axis=1)
    assert (black == (adata.obs["stmfg_slice"] == "b")).all()
    plt.close("all")


def test_one_slice_is_enlarged_and_the_page_follows(_started: Any, tmp_path: Path) -> None:  # noqa: PT019
    pytest.importorskip("selenium", reason="selenium is not installed")
    adata = study()
    report.write(adata, tmp_path / "report.html", run=options(adata))
    page = _browser.loaded(_started, tmp_path / "report.html")

    def counts() -> list[int]:
        numbers = page.find_elements("css selector", ".legend small")
        return [int(number.text.replace(",", "")) for number in numbers]

    whole = counts()
    assert whole == adata.obs["stmfg_domain"].value_counts().sort_index().tolist()
    all_blue = _browser.share(_browser.pixels(page), (0, 0x72, 0xB2))
    enlarge = page.find_element("css selector", "[data-slice='3'] button")
    page.execute_script("arguments[0].focus()", enlarge)
    enlarge.send_keys("\ue007")  # Enter
    _browser.rest(page)
    last = adata[adata.obs["stmfg_slice"] == "d"]
    page.find_element("css selector", "#tissue-map canvas").send_keys("+")
    assert "Slice d" in page.find_element("css selector", "#told").get_attribute("textContent")
    assert counts() == last.obs["stmfg_domain"].value_counts().sort_index().tolist()
    assert page.find_element("css selector", "h1").text.endswith(": d")
    assert enlarge.get_attribute("aria-pressed") == "true"
    assert _browser.share(_browser.pixels(page), (0, 0x72, 0xB2)) != all_blue
    page.execute_script(
        "const s = document.querySelector('#slice'); s.value = '-1'; s.dispatchEvent(new Event('change'))"
    )
    assert counts() == whole
    assert not page.find_element("css selector", ".of-slice").is_displayed()
    assert page.execute_script("return window.stmfgHacked") is None
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    assert page.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert _browser.complaints(page) == []

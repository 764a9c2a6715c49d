"""The report: complete, escaped, self-contained, and there only when it is whole."""

from __future__ import annotations

import base64
import io
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import stmfg
from _finished import NASTY, finished, run_record
from _report import packed, unpacked, written
from stmfg import report
from stmfg._core import blocks as _blocks
from stmfg._core import spots as _spots
from stmfg._core.palette import CONFIDENCE, ramp
from stmfg.report import _drawing as _svg

SECTIONS = [
    "Domains", "Confidence and embedding", "Marker genes", "Neighbours: which domains touch",
    "View weights: what each layer listened to", "Training", "Parameters, versions, run time", "How to cite",
]  # fmt: skip
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements of a page, and a check that every one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.fixture(params=["dots", "pictures"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with figures drawn spot by spot and with pictures, as for many spots."""
    if request.param == "pictures":
        monkeypatch.setattr(_svg, "_VECTOR_LIMIT", 10)
    return str(request.param)


def test_it_shows_everything(tmp_path: Path, either: str) -> None:
    text = written(tmp_path, finished(image=True))
    for heading in SECTIONS:
        assert f"{heading}</h2>" in text
    for shown in ("<h1>sample</h1>", "4 spatial domains", "400 spots", "3 spots have no counts.", "2512.16188", "GENE0",
                  "model.width", "2.13.0", "61.3", "Reconstruction"):  # fmt: skip
        assert shown in text
    assert text.count('data-toggle="') == 4
    assert text.count('id="opacity"') == 1


def test_it_is_well_formed_and_every_figure_is_described(tmp_path: Path, either: str) -> None:
    page = Page(written(tmp_path, finished(image=True)))
    assert not page.wrong
    assert not page.open
    figures = [a for tag, a in page.elements if tag in {"svg", "canvas"}]
    assert len(figures) == 3 + 2 + 4
    assert all(a.get("aria-label") for a in figures)
    headings = [level for tag, _ in page.elements if re.fullmatch("h[1-6]", tag) for level in [int(tag[1])]]
    assert headings[0] == 1
    assert max(b - a for a, b in pairwise(headings)) <= 1
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in page.elements if tag == "a"]
    assert set(targets) <= set(ids)


def test_nothing_is_fetched(tmp_path: Path, either: str) -> None:
    text = written(tmp_path, finished(image=True))
    assert not re.search(r"(?i)(https?|wss?|ftp)://|@import|\burl\(", text)
    for _, attributes in Page(text).elements:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:image/"))


def test_names_of_strangers_are_escaped(tmp_path: Path, either: str) -> None:
    adata = finished()
    adata.obs["stmfg_domain"] = adata.obs["stmfg_domain"].cat.rename_categories({"1": NASTY, "2": '"><b onclick=x>'})
    adata.var_names = [NASTY + name for name in adata.var_names]
    adata.uns["stmfg_domain_colors"] = ["red}</style>" + NASTY] * 4
    adata.uns["stmfg"]["history"] = {NASTY: np.ones(3)}
    adata.uns["stmfg"]["view_weight_names"] = np.array([f"{NASTY}: {NASTY}{i}" for i in range(4)])
    text = written(
        tmp_path,
        adata,
        input=f"/data/{NASTY}.h5ad",
        version=NASTY,
        options={NASTY: NASTY, "use_rep": NASTY},
        params={NASTY: {NASTY: NASTY}},
        versions={NASTY: NASTY},
        stages=[{"name": NASTY, "seconds": 1.0, "peak_mb": None}],
        warnings=[NASTY],
    )
    assert text.count("<script>") == 1
    assert "&lt;script&gt;" in text
    page = Page(text)
    assert not page.wrong
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert [a.get("type") for tag, a in page.elements if tag == "script"] == ["application/json", None]
    assert NASTY in packed(text)["genes"][0]["name"]


def test_only_its_own_script_may_run(tmp_path: Path) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written(tmp_path, finished(8)))
    assert policy
    assert "default-src 'none'" in policy[1]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'$", policy[1])


@pytest.mark.parametrize("genes", [0, 40])
def test_without_counts_a_sentence_says_so(tmp_path: Path, genes: int, either: str) -> None:
    adata = finished(genes=genes)
    if genes:  # normalised values are no counts
        adata.X = adata.X.astype(np.float64) * 0.37
    text = written(tmp_path, adata, options={"use_rep": "X_pca"})
    assert "There are no raw counts" in text
    assert "the given embedding <code>X_pca</code>" in text
    assert 'class="dotplot"' not in text
    assert packed(text)["genes"] == []


def test_counts_in_the_layer_are_preferred(tmp_path: Path) -> None:
    adata = finished()
    adata.layers["counts"] = adata.X.copy()
    adata.X = None
    assert 'class="dotplot"' in written(tmp_path, adata)


def test_little_is_required(tmp_path: Path, either: str) -> None:
    adata = finished(genes=0)
    del adata.obs["stmfg_confidence"], adata.obsm["X_stmfg"], adata.obsm["stmfg_view_weights"]
    del adata.obsp["spatial_connectivities"], adata.uns["stmfg"]
    path = tmp_path / "report.html"
    report.write(adata, path, run={})
    text = path.read_text(encoding="utf-8")
    assert not Page(text).wrong
    assert "<h1>tissue</h1>" in text
    assert "View weights</h2>" not in text


@pytest.mark.parametrize(("k", "side"), [(1, 6), (30, 20)])
def test_one_domain_and_thirty(tmp_path: Path, k: int, side: int, either: str) -> None:
    adata = finished(side, k)
    text = written(tmp_path, adata)
    count = adata.obs["stmfg_domain"].nunique()
    assert f"{count} spatial domain{'' if count == 1 else 's'}<" in text


@pytest.mark.parametrize(
    ("source", "name"),
    [("/x/lung_7/outs", "lung_7"), ("/x/lung_7/outs/", "lung_7"), ("a.b/slice.h5ad", "slice"), ("", "tissue")],
)
def test_the_sample_is_named_after_its_file(source: str, name: str) -> None:
    assert report._sample(finished(4), {"input": source}) == name


def test_it_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adata, path = finished(6), tmp_path / "report.html"
    path.write_text("before")

    def fail(self: Path, target: Any) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(adata, path, run=run_record(adata))
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_result_is_left_alone(tmp_path: Path) -> None:
    adata = finished(image=True)
    before = adata.copy()
    written(tmp_path, adata)
    assert list(adata.uns) == list(before.uns)
    assert (adata.X != before.X).nnz == 0
    assert list(adata.obs) == list(before.obs)


def test_it_is_quick(tmp_path: Path) -> None:
    adata = finished(60, 7, 2000)
    start = time.process_time()
    written(tmp_path, adata)
    assert time.process_time() - start < 6
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_counts_on_disk_give_the_same_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask", reason="dask, which leaves counts on disk, is not installed")
    monkeypatch.setattr(_blocks, "BLOCK", 150)
    path = tmp_path / "result.h5ad"
    finished(image=True).write_h5ad(path)
    expected = written(tmp_path, stmfg.read(path))
    assert 'class="dotplot"' in expected
    assert written(tmp_path, stmfg.read(path, lazy=True)) == expected


def test_slices_lie_side_by_side_and_can_be_chosen(tmp_path: Path) -> None:
    adata = finished()
    adata.obs["section"] = np.where(np.arange(400) % 2, "<tt>", "first")
    text = written(tmp_path, adata, options={"library_key": "section"})
    found = packed(text)["tissue"]
    assert [each["name"] for each in found["slices"]] == ["<tt>", "first"]
    (_, _, right, _), (left, _, _, _) = (each["box"] for each in found["slices"])
    assert right < left
    x = unpacked(found["x"], "<u2")
    assert ((x <= right + 1) == (adata.obs["section"] == "<tt>")).all()
    choice = text.partition('<select id="slice"')[2].partition("</select>")[0]
    assert re.findall(r'<option value="(-?\d+)">', choice) == ["-1", "0", "1"]
    assert "<tt>" not in text


def test_a_picture_shows_each_spot_in_its_colour() -> None:
    xy = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    where = _spots.Spots(xy, 2.0)
    address = _svg._picture(where, np.array([0, 1, -1]), ["#ff0000", "#0000ff"])
    image = imread(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    left, top, right, _ = where.bounds()
    at = ((xy - (left, top)) / (right - left) * image.shape[1]).astype(int)
    seen = [image[y, x].round().tolist() for x, y in at]
    assert seen == [[1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_a_ramp_passes_through_its_colours() -> None:
    assert ramp(("#000000", "#ff0000", "#ff00ff"), 5) == ["#000000", "#800000", "#ff0000", "#ff0080", "#ff00ff"]
    assert ramp(CONFIDENCE, 3) == list(CONFIDENCE)


def test_markers_of_a_sample_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "drawn at random are used" not in written(tmp_path, finished())
    monkeypatch.setattr(report, "_MARKER_SPOTS", 50)
    assert "more than 50 spots, as many drawn at random are used" in written(tmp_path, finished())


def test_more_views_than_two_are_shown(tmp_path: Path) -> None:
    adata = finished()
    assert "any other view" not in written(tmp_path, adata)
    adata.obsm["stmfg_view_weights"] = np.tile(np.float32([0.5, 0.3, 0.2]), (adata.n_obs, 1))
    adata.uns["stmfg"]["view_weight_names"] = ["layer 1: spatial", "layer 1: feature", "layer 1: image"]
    text = written(tmp_path, adata)
    assert "any other view" in text
    assert "20% went to <em>image</em>." in re.sub(r"\s+", " ", text)


def test_the_choice_of_the_number_of_domains_is_shown(tmp_path: Path) -> None:
    adata = finished()
    assert "by number of domains" not in written(tmp_path, adata)
    adata.uns["stmfg"]["n_domains_candidates"] = np.array([3, 4])
    adata.uns["stmfg"]["n_domains_evidence"] = np.array([-12.25, 0.0])
    text = written(tmp_path, adata)
    assert "Evidence less the best (nats), by number of domains" in text
    assert "-12.2" in text

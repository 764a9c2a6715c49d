"""The report: complete, escaped, self-contained, there only when it is whole; its map is what the result says."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

import stmfg
from _finished import NASTY, SPACING, finished
from _report import map_data, texts, unpacked, written
from stmfg import report, tl

SECTIONS = [
    "Domains", "Confidence and embedding", "Marker genes", "Neighbours: which domains touch", "View weights",
    "Training", "Parameters, versions, run time", "How to cite",
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


def test_it_shows_everything_and_leaves_the_result_alone(tmp_path: Path) -> None:
    adata = finished(image=True)
    before = adata.copy()
    text = written(tmp_path, adata)
    assert (list(adata.uns), list(adata.obs)) == (list(before.uns), list(before.obs))
    assert (adata.X != before.X).nnz == 0
    for heading in SECTIONS:
        assert f"{heading}</h2>" in text
    for shown in ("<h1>sample</h1>", "4 spatial domains", "400 spots", "3 spots have no counts.", "2512.16188", "GENE0",
                  "model.width", "2.13.0", "61.3", "Reconstruction"):  # fmt: skip
        assert shown in text
    assert text.count('<span class="name"') >= 4
    assert text.count('id="opacity"') == 1
    assert "No gene is specific" not in text
    first_screen = written(tmp_path, finished(genes=3)).partition("<nav")[0]
    assert "No gene is specific</a> to one of the domains" in first_screen


def test_it_is_well_formed_and_every_figure_is_described(tmp_path: Path) -> None:
    page = Page(written(tmp_path, finished(image=True)))
    assert not page.wrong
    assert not page.open
    drawn = [a for tag, a in page.elements if tag in {"svg", "canvas"}]
    assert len(drawn) == 2 + 2 + 4
    assert all(a.get("aria-label") or a.get("aria-hidden") for a in drawn)
    pictures = [a for tag, a in page.elements if tag == "img" and a.get("class") not in {"tissue", "under"}]
    assert len(pictures) == 3
    assert all(a.get("alt") for a in pictures)
    headings = [level for tag, _ in page.elements if re.fullmatch("h[1-6]", tag) for level in [int(tag[1])]]
    assert headings[0] == 1
    assert max(b - a for a, b in pairwise(headings)) <= 1
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in page.elements if tag == "a"]
    assert set(targets) <= set(ids)


def test_nothing_is_fetched_and_only_its_own_script_may_run(tmp_path: Path) -> None:
    text = written(tmp_path, finished(image=True))
    page, script, _ = text.rpartition("<script>")
    assert script
    assert not re.search(r"(?i)(https?|wss?|ftp)://|@import|\burl\(", page)
    for _, attributes in Page(text).elements:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            assert str(attributes.get(name) or "#").startswith(("#", "data:image/"))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert "default-src 'none'" in policy[1]
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'$", policy[1])


def test_names_of_strangers_are_escaped(tmp_path: Path) -> None:
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
    scripts = [a.get("type") for tag, a in page.elements if tag == "script"]
    assert scripts == ["text/plain", "text/plain", "application/json", None]
    assert NASTY in texts(map_data(text)["genes"]["names"])[0]


@pytest.mark.parametrize("genes", [0, 40])
def test_without_counts_a_sentence_says_so(tmp_path: Path, genes: int) -> None:
    adata = finished(genes=genes)
    if genes:  # normalised values are no counts
        adata.X = adata.X.astype(np.float64) * 0.37
    text = written(tmp_path, adata, options={"use_rep": "X_pca"})
    assert "has no raw counts" in text
    assert "the given embedding <code>X_pca</code>" in text
    assert 'class="dotplot"' not in text
    assert map_data(text)["genes"] is None


def test_domains_and_positions_are_enough(tmp_path: Path) -> None:
    adata = finished(genes=0)
    del adata.obs["stmfg_confidence"], adata.obsm["X_stmfg"], adata.obsm["stmfg_view_weights"]
    del adata.obsp["spatial_connectivities"], adata.uns["stmfg"]
    path = tmp_path / "report.html"
    report.write(adata, path)
    text = path.read_text(encoding="utf-8")
    assert not Page(text).wrong
    assert "<h1>tissue</h1>" in text
    assert "View weights</h2>" not in text


def test_without_a_record_the_result_says_what_it_knows(tmp_path: Path) -> None:
    adata = finished()
    report.write(adata, tmp_path / "a.html", title="My <tissue>")
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    for shown in ("<h1>My &lt;tissue&gt;</h1>", "found by stMFG 0.1.0", "Reconstruction", "model.width"):
        assert shown in text


@pytest.mark.parametrize(("k", "side"), [(1, 6), (30, 20)])
def test_one_domain_and_thirty(tmp_path: Path, k: int, side: int) -> None:
    adata = finished(side, k)
    text = written(tmp_path, adata)
    count = adata.obs["stmfg_domain"].nunique()
    assert f"{count} spatial domain{'' if count == 1 else 's'}<" in text


@pytest.mark.parametrize(
    ("source", "name"),
    [("/x/lung_7/outs", "lung_7"), ("/x/lung_7/outs/", "lung_7"), ("a.b/slice.h5ad", "slice"), ("", "tissue")],
)
def test_it_is_named_after_its_input(tmp_path: Path, source: str, name: str) -> None:
    assert f"<h1>{name}</h1>" in written(tmp_path, finished(4), input=source)


def test_it_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "report.html" / "kept").mkdir(parents=True)
    with pytest.raises(OSError, match=r"report\.html"):
        report.write(finished(6), tmp_path / "report.html")
    assert [p.name for p in tmp_path.rglob("*")] == ["report.html", "kept"]


def test_counts_on_disk_give_the_same_report(tmp_path: Path) -> None:
    pytest.importorskip("dask", reason="dask, which leaves counts on disk, is not installed")
    path = tmp_path / "result.h5ad"
    finished(image=True).write_h5ad(path)
    expected = written(tmp_path, stmfg.read(path))
    assert 'class="dotplot"' in expected
    assert written(tmp_path, stmfg.read(path, lazy=True)) == expected


def test_slices_lie_side_by_side_and_can_be_chosen(tmp_path: Path) -> None:
    adata = finished()
    adata.obs["section"] = np.where(np.arange(400) % 2, "<tt>", "first")
    text = written(tmp_path, adata, options={"library_key": "section"})
    adata.uns["stmfg"]["library_key"] = "section"
    tissue = map_data(written(tmp_path, adata))["tissue"]  # known from the result, too
    assert [each["name"] for each in tissue["slices"]] == ["<tt>", "first"]
    (_, _, right, _), (left, _, _, _) = (each["box"] for each in tissue["slices"])
    assert right < left
    x = unpacked(tissue["x"], "<u2")
    assert ((x <= right + 1) == (adata.obs["section"] == "<tt>")).all()
    choice = text.partition('<select id="slice"')[2].partition("</select>")[0]
    assert re.findall(r'<option value="(-?\d+)">', choice) == ["-1", "0", "1"]
    assert "<tt>" not in text


def test_weights_of_views_are_told_where_they_mean_something(tmp_path: Path) -> None:
    adata = finished()
    assert "any other view" not in written(tmp_path, adata)
    adata.obsm["stmfg_view_weights"] = np.tile(np.float32([0.5, 0.3, 0.2]), (adata.n_obs, 1))
    adata.uns["stmfg"]["view_weight_names"] = ["layer 1: spatial", "layer 1: feature", "layer 1: image"]
    text = written(tmp_path, adata)
    assert "any other view" in text
    text = re.sub(r"\s+", " ", text)
    assert "20% of <em>image</em>." in text
    assert "In layer 1 <em>spatial</em> counts most (50%)." in text
    assert "Error in predicting held-out molecules" not in text
    adata.uns["stmfg"]["history"]["held_out"] = np.array([0.2, 0.1])
    assert "<strong>Error in predicting held-out molecules</strong>: 0.2 → 0.1" in written(tmp_path, adata)
    adata.obsm["stmfg_view_weights"] = np.full((adata.n_obs, 3), 1 / 3)
    assert "View weights</h2>" not in written(tmp_path, adata)


def test_the_map_holds_what_the_result_says(tmp_path: Path) -> None:
    adata = finished()
    adata.obs.iloc[7, 0] = None
    data = map_data(written(tmp_path, adata[:, :0].copy()))
    assert data["n"] == adata.n_obs
    assert texts(data["names"]) == list(adata.obs_names)
    codes = adata.obs["stmfg_domain"].cat.codes
    assert list(unpacked(data["codes"], "<u2")) == list(np.where(codes < 0, 4, codes))
    assert unpacked(data["confidence"], "u1") / 255 == pytest.approx(adata.obs["stmfg_confidence"], abs=0.002)
    tissue = data["tissue"]
    for name, column in (("x", 0), ("y", 1)):
        steps = unpacked(tissue[name], "<u2").astype(float)
        assert np.corrcoef(steps, adata.obsm["spatial"][:, column])[0, 1] == pytest.approx(1.0)
        extent = np.ptp(adata.obsm["spatial"][:, column])
        assert np.ptp(steps) / tissue["diameter"] == pytest.approx(extent / (0.9 * SPACING), abs=0.02)


def stills(text: str) -> list[np.ndarray[Any, Any]]:
    """Return the pictures of the page, (height, width, 4) bytes: tissue if there, domains, confidence, embedding."""
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', text)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")) for data in found]


def test_pictures_agree_with_the_map(tmp_path: Path) -> None:
    adata = finished(image=True)
    tissue = adata.uns["spatial"]["sample"]["images"]["lowres"]
    tissue[:] = 1.0
    corner = (adata.obsm["spatial"][[0, -1]] / 10).round().astype(int)
    for x, y in corner:  # dark where the first and the last spot lie
        tissue[y - 4 : y + 5, x - 4 : x + 5] = 0.0
    text = written(tmp_path, adata)
    data = map_data(text)["tissue"]
    under, domains, confidence, embedding = stills(text)
    assert under.shape == domains.shape
    assert max(domains.shape) == 1200
    assert max(confidence.shape) == max(embedding.shape) == 800
    scale = domains.shape[1] / data["width"]
    at = [np.floor(unpacked(data[axis], "<u2") * scale).astype(int) for axis in "xy"]
    codes = adata.obs["stmfg_domain"].cat.codes.to_numpy()
    colours = np.array([[0x00, 0x72, 0xB2], [0xE6, 0x9F, 0x00], [0x00, 0x9E, 0x73], [0xCC, 0x79, 0xA7]])
    named = [np.hypot(at[0] - x * scale, at[1] - y * scale).argmin() for x, y, _ in data["names"]]
    plain = np.setdiff1d(np.arange(400), named)  # the others have no letters on them
    assert (domains[at[1], at[0]][plain] == np.c_[colours, [255] * 4][codes[plain]]).all()
    assert list(codes[named]) == [0, 1, 2, 3]
    assert domains[2, 2, 3] == 0  # nothing hides the page beside the spots
    assert (under[at[1][[0, -1]], at[0][[0, -1]], :3] < 30).all()
    pixel = 10 * data["diameter"] / 75 * scale  # of the tissue image, in those of the picture
    assert (under[..., 0] < 128).sum() == pytest.approx(2 * (9 * pixel) ** 2, rel=0.1)


def test_a_name_is_written_deep_inside_its_domain(tmp_path: Path) -> None:
    adata = finished(30, genes=0)
    adata.obs["stmfg_domain"] = adata.obs["stmfg_domain"].cat.add_categories(["a very long name of a domain"])
    adata.obs.iloc[435, 0] = "a very long name of a domain"
    tissue = map_data(written(tmp_path, adata))["tissue"]
    xy = np.column_stack([unpacked(tissue[axis], "<u2") for axis in "xy"]).astype(float)
    places = np.array([name[:2] for name in tissue["names"]])
    spots = [int(np.linalg.norm(xy - place, axis=1).argmin()) for place in places]
    codes = adata.obs["stmfg_domain"].cat.codes.to_numpy()
    assert list(codes[spots]) == [0, 1, 2, 3, 4]
    assert spots[4] == 435
    assert [name[2] for name in tissue["names"]] == [0, 1, 2, 3, 4]
    step = tissue["diameter"] / 0.9
    for i in range(4):
        others = xy[codes != i]
        assert np.linalg.norm(others - places[i], axis=1).min() > 1.5 * step


def warnings(tmp_path: Path, adata: AnnData, **changes: Any) -> list[str]:
    text = written(tmp_path, adata, **{"warnings": []} | changes)
    listed = text.partition('<div class="warnings">')[2].partition("</div>")[0]
    return re.findall("<li>(.*?)</li>", listed)


def test_warnings_in_plain_words(tmp_path: Path) -> None:
    assert warnings(tmp_path, finished(genes=200)) == []
    of_run = ["most spots lie where others do", "obs['x'] is missing."]
    as_sentences = ["Most spots lie where others do.", "obs[&#39;x&#39;] is missing."]
    assert warnings(tmp_path, finished(genes=200), warnings=of_run) == as_sentences
    adata = finished(genes=8)
    adata.obs["stmfg_confidence"] = np.float32(0.2)
    adata.X = sparse.csr_matrix(np.r_[np.zeros((1, 8)), np.ones((399, 8))].astype(np.float32))
    graph = adata.obsp["spatial_connectivities"].tolil()
    graph[:100, 100:] = 0
    graph[100:, :100] = 0
    adata.obsp["spatial_connectivities"] = graph.tocsr()
    adata.obs["stmfg_domain"] = adata.obs["stmfg_domain"].cat.add_categories("5")
    adata.obs.iloc[211, 0] = "5"
    adata.obs["slice"] = np.where(np.arange(400) < 100, "a", "b")
    sentences = warnings(tmp_path, adata)
    expected = ["1 of 400 spots have no counts", "The data are shallow", "100.0% of the spots"]
    expected += ["The tissue is in 2 separate pieces", "Domain 5 is scattered", "Domain 5 is very small (1 spots)"]
    assert [a.startswith(b) for a, b in zip(sentences, expected, strict=True)] == [True] * 6
    # Two slices are two pieces by their nature.
    assert not any("pieces" in s for s in warnings(tmp_path, adata, options={"library_key": "slice"}))


def test_a_domain_that_is_rarely_found_again_is_named_first(tmp_path: Path) -> None:
    adata = finished(genes=200)
    adata.uns["stmfg"]["halves"] = {"stmfg_domain": {"domains": list("1234"), "found_again": [0.9, 0.36, 0.8, 0.55]}}
    assert warnings(tmp_path, adata) == [
        "Domains 2 and 4 are unstable: found again in half of the molecules with an overlap of 36% and 55%."
    ]
    adata.uns["stmfg"]["use_rep"] = "X_pca"
    assert "found again in noisier copies of X_pca with" in warnings(tmp_path, adata)[-1]


def test_neighbours_over_chance_are_those_of_adjacency(tmp_path: Path) -> None:
    adata = finished(20)
    tl.adjacency(adata)
    ratio = adata.uns["stmfg_adjacency"].pivot(index="domain", columns="neighbor", values="ratio").to_numpy()
    table = written(tmp_path, adata).partition('<table class="heat">')[2].partition("</table>")[0]
    rows = [re.findall(r'<td class="(?:own|never|less|more)".*?</td>', row) for row in table.split("</tr>")[1:5]]
    for i, cells in enumerate(rows):
        shares = [float(s) for s in re.findall(r">([\d.]+)%", " ".join(cells))]
        assert sum(shares) == pytest.approx(100, abs=0.3)
        for j, cell in enumerate(cells):
            if j != i:
                expected = "0</td>" if ratio[i, j] == 0 else f"{ratio[i, j]:.1f}&times;"
                assert expected in cell

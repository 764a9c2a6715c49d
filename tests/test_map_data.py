"""What the report's map shows is what the result says, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from _finished import finished
from _report import packed, unpacked, written
from stmfg.report import _map_data


def test_the_map_holds_what_the_result_says(tmp_path: Path) -> None:
    adata = finished(image=True)
    found = packed(written(tmp_path, adata))
    assert found["n"] == adata.n_obs
    assert found["names"] == list(adata.obs_names)
    assert list(unpacked(found["codes"], "<u2")) == list(adata.obs["stmfg_domain"].cat.codes)
    assert unpacked(found["confidence"], "u1") / 255 == pytest.approx(adata.obs["stmfg_confidence"], abs=0.002)
    tissue = found["tissue"]
    for name, column in (("x", 0), ("y", 1)):
        steps = unpacked(tissue[name], "<u2").astype(float)
        assert np.corrcoef(steps, adata.obsm["spatial"][:, column])[0, 1] == pytest.approx(1.0)
        assert np.ptp(steps) / tissue["diameter"] == pytest.approx(
            np.ptp(adata.obsm["spatial"][:, column]) / 75, abs=0.02
        )
    # The image lies under the spots: cut along its pixels, of which each is as wide as ten units.
    pixel = 10 * tissue["diameter"] / 75
    left, top, width, height = found["image"]
    for start, extent, whole in ((left, width, tissue["width"]), (top, height, tissue["height"])):
        assert -pixel - 10 <= start <= 10
        assert whole - 10 <= start + extent <= whole + pixel + 10


def test_genes_of_the_map_are_normalised_counts(tmp_path: Path) -> None:
    adata = finished()
    found = packed(written(tmp_path, adata))
    assert 4 <= len(found["genes"]) <= 20
    depth = np.asarray(adata.X.sum(axis=1)).ravel()
    for gene in found["genes"]:
        counts = adata[:, gene["name"]].X.toarray().ravel()
        expected = np.log1p(counts * np.median(depth) / depth)
        told = unpacked(gene["values"], "u1") / 255 * gene["top"]
        assert told == pytest.approx(np.minimum(expected, gene["top"]), abs=gene["top"] / 255)
        assert (expected > gene["top"]).mean() <= 0.005


def test_of_very_many_spots_a_sample_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adata = finished()
    whole = packed(written(tmp_path, adata))
    monkeypatch.setattr(_map_data, "SPOTS", 100)
    monkeypatch.setattr(_map_data, "_GENE_BYTES", 300)
    text = written(tmp_path, adata)
    assert "a random sample of 100 of the 400 spots" in text
    found = packed(text)
    assert len(unpacked(found["codes"], "<u2")) == len(unpacked(found["embedding"]["x"], "<u2")) == 100
    assert len(found["genes"]) == 3
    assert found["tissue"]["diameter"] == pytest.approx(2 * whole["tissue"]["diameter"])  # as much tissue is covered
    chosen = _map_data.sample(400)
    assert list(unpacked(found["tissue"]["x"], "<u2")) == list(unpacked(whole["tissue"]["x"], "<u2")[chosen])
    assert 'id="tissue-map"' in text
    assert "a random sample" not in written(tmp_path, finished(8))


def test_the_best_marker_of_every_domain_comes_first() -> None:
    assert _map_data.chosen_genes([[5, 6, 7], [6, 8], []], 10) == [5, 6, 8, 7]
    assert _map_data.chosen_genes([[5, 6, 7], [6, 8], []], 1_500_000) == [5, 6]


def test_spots_without_a_domain_are_told_apart(tmp_path: Path) -> None:
    adata = finished(genes=0)
    adata.obs.iloc[7, 0] = None
    codes = unpacked(packed(written(tmp_path, adata))["codes"], "<u2")
    assert codes[7] == 4
    assert codes.max() == 4

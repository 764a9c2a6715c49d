"""Model files: a result is a model, and what fits neither is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

from stmfg import STMFG, tl


@pytest.fixture
def result(section: AnnData, quick: dict[str, Any]) -> AnnData:
    """Return a section with domains."""
    tl.domains(section, n_domains=4, n_votes=1, n_starts=1, **quick)
    return section


@pytest.mark.filterwarnings("ignore:zarr v3 autosharding:UserWarning")  # anndata's own news
def test_a_result_is_a_model(result: AnnData, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    result.write_h5ad(tmp_path / "run" / "result.h5ad")
    model = STMFG.load(result)
    model.save(tmp_path / "model")
    expected = model.transform(result)
    for source in (tmp_path / "run", tmp_path / "run" / "result.h5ad", str(tmp_path / "model")):
        loaded = STMFG.load(source)
        np.testing.assert_array_equal(loaded.transform(result), expected)
        assert loaded.domain_map is not None
        for name, values in model.domain_map.to_dict().items():
            np.testing.assert_array_equal(getattr(loaded.domain_map, name), values)
    with ad.settings.override(zarr_write_format=3):
        result.write_zarr(tmp_path / "result.zarr")
    np.testing.assert_array_equal(STMFG.load(ad.read_zarr(tmp_path / "result.zarr")).transform(result), expected)


def test_the_model_of_a_result_is_the_one_that_was_trained(result: AnnData, quick: dict[str, Any]) -> None:
    trained = STMFG(**quick).fit(result)
    np.testing.assert_array_equal(STMFG.load(result).transform(result), trained.transform(result))


def test_what_holds_no_model_is_refused(result: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    del result.uns["stmfg"]["model"]  # as results were before they held one
    result.write_h5ad(tmp_path / "old.h5ad")
    assert "run it on the data again" in refused(STMFG.load, tmp_path / "old.h5ad")
    del result.uns["stmfg"]
    result.write_h5ad(tmp_path / "raw.h5ad")
    for source in (tmp_path / "raw.h5ad", result, tmp_path / "none", tmp_path):
        assert "no" in refused(STMFG.load, source)
    (tmp_path / "text").write_text("hello")
    assert "text" in refused(STMFG.load, tmp_path / "text")


@pytest.mark.parametrize(("number", "advice"), [(1, "fit it again"), (2, "fit it again"), (4, "upgrade")])
def test_another_format_is_refused(result: AnnData, refused: Callable[..., str], number: int, advice: str) -> None:
    record = json.loads(result.uns["stmfg"]["model"]["record"])
    result.uns["stmfg"]["model"]["record"] = json.dumps(record | {"format": number})
    assert advice in refused(STMFG.load, result)


def test_files_are_small(result: AnnData, tmp_path: Path) -> None:
    STMFG.load(result).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 300_000

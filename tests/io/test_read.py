"""Reading files: layouts of Space Ranger, h5ad, zarr, and what goes wrong with them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from scipy import sparse

import stmfg
from _data import FACTORS, data_file, matrix, slide, write_legacy_h5, write_space_ranger, write_zarr
from stmfg.io import read


def test_space_ranger_folder(outs: Path) -> None:
    adata = read(outs)
    table = slide().set_index("barcode").loc[adata.obs_names]
    assert adata.shape == (50, 5)  # ten spots out of tissue, one antibody
    assert (table["in_tissue"] == 1).all()
    assert list(adata.obs.columns) == ["in_tissue", "array_row", "array_col"]
    assert all(dtype == np.int64 for dtype in adata.obs.dtypes)
    assert list(adata.var_names) == ["GAPDH", "NA", "TBCE", "TBCE-1", "HSPA14"]
    assert list(adata.var["gene_ids"]) == [f"ENSG{i:011d}" for i in (0, 1, 2, 3, 5)]
    assert set(adata.var["feature_types"]) == {"Gene Expression"}

    assert sparse.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    np.testing.assert_array_equal(adata.X.toarray(), matrix(60).toarray()[10:][:, [0, 1, 2, 3, 5]])

    xy = adata.obsm["spatial"]
    assert xy.dtype == np.float64
    np.testing.assert_array_equal(xy[:, 0], 900 + 70 * adata.obs["array_col"])
    np.testing.assert_array_equal(xy[:, 1], 500 + 120 * adata.obs["array_row"])


@pytest.mark.parametrize("matrix", ["h5", "mtx", "both"])
@pytest.mark.parametrize("version", [1, 2, 3, "hd"])
def test_all_layouts_give_the_same(outs: Path, version: int | str, matrix: str, tmp_path: Path) -> None:
    expected = read(outs)
    adata = read(write_space_ranger(tmp_path / "other", version, matrix, zipped=version != 2))
    pd.testing.assert_frame_equal(adata.obs, expected.obs)
    pd.testing.assert_frame_equal(adata.var, expected.var)
    assert (adata.X != expected.X).nnz == 0
    assert adata.X.dtype == expected.X.dtype
    np.testing.assert_array_equal(adata.obsm["spatial"], expected.obsm["spatial"])
    assert list(adata.uns["spatial"]) == ["other" if matrix == "mtx" else "V10-A1"]  # mtx does not name the library


def test_legacy_h5(outs: Path) -> None:
    expected = read(outs)
    (outs / "filtered_feature_bc_matrix.h5").unlink()
    write_legacy_h5(outs / "filtered_feature_bc_matrix.h5", slide()["barcode"].tolist())
    adata = read(outs)
    assert adata.n_vars == 6  # no feature types, so nothing is known to be an antibody
    np.testing.assert_array_equal(adata[:, expected.var_names].X.toarray(), expected.X.toarray())
    assert list(adata.uns["spatial"]) == ["sample"]


def test_images_and_scale_factors(outs: Path) -> None:
    assert read(outs).uns["spatial"]["V10-A1"] == {
        "images": {},
        "scalefactors": FACTORS,
        "metadata": {"chemistry_description": "Spatial 3' v1", "software_version": "spaceranger-1.2.2"},
    }
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(outs / "spatial" / "tissue_hires_image.png")
    images = read(outs).uns["spatial"]["V10-A1"]["images"]
    assert list(images) == ["hires"]
    assert images["hires"].dtype == np.uint8
    np.testing.assert_array_equal(images["hires"], pixels[:, :, :3])
    assert read(outs, images=False).uns["spatial"]["V10-A1"]["images"] == {}


def test_unusable_image_is_left_out(
    outs: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (20, 20)).save(outs / "spatial" / "tissue_hires_image.png")
    (outs / "spatial" / "tissue_lowres_image.png").write_text("not an image")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # between half and all of 400: Pillow warns
    with caplog.at_level(logging.WARNING, "stmfg"):
        assert read(outs).uns["spatial"]["V10-A1"]["images"] == {}
    assert "tissue_hires_image.png is left out" in caplog.text
    assert "tissue_lowres_image.png is left out" in caplog.text


def test_missing_scale_factors_are_no_error(outs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (outs / "spatial" / "scalefactors_json.json").unlink()
    assert read(outs).uns["spatial"]["V10-A1"]["scalefactors"] == {}
    assert "scalefactors_json.json is missing" in caplog.text


def test_spots_without_position_are_left_out(outs: Path, caplog: pytest.LogCaptureFixture) -> None:
    slide().iloc[:-3].to_csv(outs / "spatial" / "tissue_positions_list.csv", header=False, index=False)
    assert read(outs).n_obs == 47
    assert "3 spots of the matrix have no position" in caplog.text


def test_agrees_with_scanpy(outs: Path) -> None:
    import scanpy

    for size, name in ((24, "hires"), (6, "lowres")):
        Image.new("RGB", (size, size), (10, 200, 30)).save(outs / "spatial" / f"tissue_{name}_image.png")
    with pytest.warns((FutureWarning, UserWarning)):
        theirs = scanpy.read_visium(outs)
    theirs.var_names_make_unique()
    ours = read(outs)
    theirs = theirs[theirs.obs["in_tissue"] == 1].copy()
    assert (ours.X != theirs.X).nnz == 0
    assert list(ours.var_names) == list(theirs.var_names)
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    np.testing.assert_array_equal(ours.obsm["spatial"], theirs.obsm["spatial"])
    mine, other = ours.uns["spatial"]["V10-A1"], theirs.uns["spatial"]["V10-A1"]
    assert list(mine) == list(other)
    assert mine["scalefactors"] == other["scalefactors"]
    assert mine["metadata"] == other["metadata"]
    for name in ("hires", "lowres"):  # scanpy has PNG as float in 0..1, squidpy and we as stored
        np.testing.assert_allclose(mine["images"][name] / 255, other["images"][name], atol=1e-6)


def test_real_folder() -> None:
    adata = read(data_file("visium_human_lung/outs"))
    assert adata.shape == (3643, 36601)
    assert adata.X.nnz == 2147401
    assert adata.var_names.is_unique
    assert (adata.obs["in_tissue"] == 1).all()
    assert np.corrcoef(adata.obs["array_col"], adata.obsm["spatial"][:, 0])[0, 1] > 0.999
    assert np.corrcoef(adata.obs["array_row"], adata.obsm["spatial"][:, 1])[0, 1] > 0.999
    library = adata.uns["spatial"]["V10T31-015-A1"]
    assert list(library["images"]) == ["lowres"]
    # The spots lie on the image, which is how plotting finds them.
    on_image = adata.obsm["spatial"] * library["scalefactors"]["tissue_lowres_scalef"]
    height, width, _ = library["images"]["lowres"].shape
    assert (on_image >= 0).all()
    assert (on_image.max(axis=0) < (width, height)).all()


def test_h5ad_and_zarr_round_trip(outs: Path, tmp_path: Path) -> None:
    Image.new("RGB", (6, 6)).save(outs / "spatial" / "tissue_lowres_image.png")
    adata = read(outs)
    adata.write_h5ad(tmp_path / "a.h5ad")
    write_zarr(adata, tmp_path / "v2.zarr", 2)
    write_zarr(adata, tmp_path / "v3.zarr", 3)
    for name in ("a.h5ad", "v2.zarr", "v3.zarr"):
        again = read(tmp_path / name)
        pd.testing.assert_frame_equal(again.obs, adata.obs)
        assert (again.X != adata.X).nnz == 0
        np.testing.assert_array_equal(again.obsm["spatial"], adata.obsm["spatial"])
        assert again.uns["spatial"]["V10-A1"]["scalefactors"] == FACTORS


def test_duplicate_names_in_h5ad_are_no_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not unique"):
        adata = AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["a", "a"]), obs=pd.DataFrame(index=["s", "s"]))
    adata.write_h5ad(tmp_path / "a.h5ad")
    assert list(read(tmp_path / "a.h5ad").var_names) == ["a", "a"]  # the user's names are kept


def test_spatialdata_store(outs: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    import zarr

    adata = read(outs)
    store = tmp_path / "sd.zarr"
    zarr.open_group(store, mode="w").attrs["spatialdata_attrs"] = {"version": "0.2"}
    assert "not AnnData or SpatialData" in refused(read, store)
    zarr.open_group(store / "tables", mode="w")
    assert "without a table" in refused(read, store)
    write_zarr(adata, store / "tables" / "table")
    assert read(store).obs.equals(adata.obs)
    write_zarr(adata[:20].copy(), store / "tables" / "cells")
    assert read(store).n_obs == adata.n_obs  # of the table called "table"
    (store / "tables" / "table").rename(store / "tables" / "others")
    message = refused(read, store)
    assert "several tables (cells, others)" in message
    assert read(message.rsplit(" ", 1)[1]).n_obs == 20  # the fix it names works


def test_reading_loads_neither_torch_nor_matplotlib(outs: Path) -> None:
    Image.new("RGB", (6, 6)).save(outs / "spatial" / "tissue_lowres_image.png")
    code = f"import sys, stmfg.io; stmfg.io.read({str(outs)!r}); print({{'torch', 'matplotlib'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert done.stderr == ""


@pytest.fixture(params=["h5ad", "zarr"])
def stored(request: pytest.FixtureRequest, section: AnnData, tmp_path: Path) -> Path:
    path = tmp_path / f"section.{request.param}"
    {"h5ad": section.write_h5ad, "zarr": partial(write_zarr, section)}[request.param](path)
    return path


@pytest.mark.parametrize("kept", [0.0, 0.25])
def test_counts_left_on_disk_give_the_same(
    stored: Path, quick: dict[str, Any], kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stmfg._core.checks._KEPT", kept)
    whole = stmfg.tl.domains(stmfg.read(stored), n_domains=4, copy=True, **quick)
    monkeypatch.setattr("stmfg._core.blocks.READ", 70)
    monkeypatch.setattr("stmfg.io.annotated.READ", 70)
    lazy = stmfg.read(stored, lazy=True)
    assert type(lazy.X).__module__.startswith("dask")
    stmfg.tl.domains(lazy, n_domains=4, **quick)
    pd.testing.assert_frame_equal(lazy.obs, whole.obs)
    np.testing.assert_array_equal(lazy.obsm["X_stmfg"], whole.obsm["X_stmfg"])
    lazy.write_h5ad(stored.parent / "again.h5ad")
    again = stmfg.read(stored.parent / "again.h5ad")
    assert (again.X != whole.X).nnz == 0


def test_a_run_copies_large_counts_as_they_are_stored(
    stored: Path, quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = quick | {"n_domains": 4, "redraws": 0, "finest_level": 0}
    whole = stored.parent / "whole"
    stmfg.workflow.run(stored, whole, **options)
    monkeypatch.setattr("stmfg.io.annotated._LARGE_COUNTS", 0)
    packed = stored.parent / "packed"
    stmfg.workflow.run(stored, packed, **options)
    assert (packed / "domains.csv").read_bytes() == (whole / "domains.csv").read_bytes()
    one, other = stmfg.read(packed / "result.h5ad"), stmfg.read(whole / "result.h5ad")
    assert (one.X != other.X).nnz == 0
    assert one.X.dtype == other.X.dtype


def test_large_counts_are_left_on_disk_by_themselves(
    section: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section.write_h5ad(tmp_path / "section.h5ad")
    assert sparse.issparse(stmfg.read(tmp_path / "section.h5ad").X)
    monkeypatch.setattr("stmfg.io.annotated._SHARE_OF_MEMORY", 0.0)
    assert not sparse.issparse(stmfg.read(tmp_path / "section.h5ad").X)
    assert sparse.issparse(stmfg.read(tmp_path / "section.h5ad", lazy=False).X)


def test_dense_counts_cannot_be_left_on_disk(section: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    section.X = section.X.toarray()
    section.write_h5ad(tmp_path / "section.h5ad")
    assert "CSR" in refused(stmfg.read, tmp_path / "section.h5ad", lazy=True)


def test_bad_counts_on_disk_are_refused(section: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    section.X.data[[3, 50]] = 0.5
    section.write_h5ad(tmp_path / "section.h5ad")
    adata = stmfg.read(tmp_path / "section.h5ad", lazy=True)
    assert "2 non-integer values (first 0.5)" in refused(stmfg.tl.domains, adata, n_domains=3)

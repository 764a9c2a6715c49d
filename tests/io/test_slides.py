"""Folders with several slices, or several forms of one, and large ones."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmfg
from _data import write_zarr
from _platforms import write_cosmx
from _tenx import check, write_aggregated, write_hd_cells, write_visium_hd

CELLS = ("cell_segmentations", "nucleus_segmentations")


def test_several_slides_in_one_export_are_slices(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    expected = []
    for slide, part in enumerate((tissue[:60].copy(), tissue[60:].copy()), 1):
        places = write_cosmx(tmp_path / str(slide), part, gz=False, beside=True)
        for path in (tmp_path / str(slide)).glob("*.csv"):
            path.write_text(path.read_text().replace("c_1_", f"c_{slide}_"))
        expected.append(places.set_axis([f"c_{slide}_{name}" for name in places.index], axis=0))
    (tmp_path / "all").mkdir()
    for kind in ("exprMat_file", "metadata_file"):
        tables = [pd.read_csv(tmp_path / str(slide) / f"Run5642_S3_{kind}.csv") for slide in (1, 2)]
        pd.concat(tables).to_csv(tmp_path / "all" / f"Run5642_S3_{kind}.csv", index=False)
    adata = stmfg.read(tmp_path / "all")
    check(adata, tissue, pd.concat(expected))
    assert list(adata.obs["stmfg_slice"]) == [name.split("_")[1] for name in adata.obs_names]
    metadata = tmp_path / "all" / "Run5642_S3_metadata_file.csv"
    table = pd.read_csv(metadata)
    tissues = np.where(table["cell_id"].str.startswith("c_1"), "liver", "lung")
    table.assign(Run_Tissue_name=tissues).to_csv(metadata, index=False)
    named = adata.obs["stmfg_slice"].map({"1": "liver", "2": "lung"})
    assert named.tolist() == stmfg.read(tmp_path / "all").obs["stmfg_slice"].tolist()
    table.drop(columns="cell_id").to_csv(metadata, index=False)
    assert "export each slide into a folder of its own" in refused(stmfg.read, tmp_path / "all")


def test_capture_areas_that_were_put_together_are_slices(tissue: AnnData, tmp_path: Path) -> None:
    write_aggregated(tmp_path / "outs", tissue)
    adata = stmfg.read(tmp_path / "outs")
    assert list(adata.obs["stmfg_slice"]) == ["LV123"] * 55 + ["LB456"] * 55
    images = {name: list(library["images"]) for name, library in adata.uns["spatial"].items()}
    assert images == {"LV123": ["hires", "lowres"], "LB456": ["hires", "lowres"]}
    (tmp_path / "outs" / "aggregation.csv").unlink()  # as in archives
    assert list(stmfg.read(tmp_path / "outs").obs["stmfg_slice"].cat.categories) == ["1", "2"]


def test_cells_of_visium_hd_beside_bins(tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outs = tmp_path / "outs"
    write_visium_hd(outs, tissue)
    cells = write_hd_cells(outs, tissue)
    with caplog.at_level(logging.INFO, "stmfg"):
        assert stmfg.read(outs).obs_names[0].startswith("s_016um")
    assert f"give the folder of another to read that: {outs / 'binned_outputs' / 'square_002um'}" in caplog.text
    assert str(outs / "segmented_outputs") in caplog.text
    adata = stmfg.read(outs / "segmented_outputs")
    check(adata, tissue, cells)
    library = next(iter(adata.uns["spatial"].values()))
    assert set(library["images"]) == {"hires", "lowres"}
    assert "spot_diameter_fullres" not in library["scalefactors"]
    (outs / "binned_outputs").rename(tmp_path / "elsewhere")
    check(stmfg.read(outs), tissue, cells)


@pytest.mark.parametrize(
    ("outline", "centre"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 2], [0, 2], [0, 0]]]}, (2, 1)),
        ({"type": "Polygon", "coordinates": [[[0, 0], [0, 2], [4, 2], [4, 0]]]}, (2, 1)),  # the other way round, open
        ({"type": "Polygon", "coordinates": [[[0, 0], [3, 0], [0, 3], [0, 0]], [[9, 9], [8, 9], [9, 8]]]}, (1, 1)),
        (
            {
                "type": "MultiPolygon",
                "coordinates": [[[[50, 50], [51, 50], [50, 51]]], [[[0, 0], [4, 0], [4, 2], [0, 2]]]],
            },
            (2, 1),
        ),
        ({"type": "Polygon", "coordinates": [[[1, 1], [3, 3], [1, 1]]]}, (5 / 3, 5 / 3)),
    ],
)
def test_the_centre_of_a_cell(
    outline: dict[str, object], centre: tuple[float, float], tissue: AnnData, tmp_path: Path
) -> None:
    write_hd_cells(tmp_path, tissue)
    path = tmp_path / "segmented_outputs" / "cell_segmentations.geojson"
    content = json.loads(path.read_text())
    number = content["features"][0]["properties"]["cell_id"]
    content["features"][0]["geometry"] = outline
    content["features"][1]["properties"]["cell_id"] = f"cellid_{content['features'][1]['properties']['cell_id']:09d}-1"
    path.write_text(json.dumps(content, indent=1))
    adata = stmfg.read(tmp_path)
    np.testing.assert_allclose(adata[f"cellid_{number:09d}-1"].obsm["spatial"], [centre])
    assert adata.n_obs == tissue.n_obs


def test_the_best_of_several_tables_is_read(tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sd.zarr" / "tables").mkdir(parents=True)
    for name, part in (("square_002um", tissue[:30]), ("square_008um", tissue[:70]), ("square_016um", tissue)):
        write_zarr(part.copy(), tmp_path / "sd.zarr" / "tables" / name)
    assert stmfg.read(tmp_path / "sd.zarr").n_obs == tissue.n_obs
    assert "square_016um is read, give the path of another" in caplog.text
    assert stmfg.read(tmp_path / "sd.zarr" / "tables" / "square_008um").n_obs == 70


@pytest.mark.parametrize("zip_name", ["", "a.zarr.zip", "a.zip"])
@pytest.mark.parametrize(
    ("folder", "used", "other"),
    [("table", "table", "table_2"), ("tables", "S1_square_008um", "S1_square_002um"), ("tables", *CELLS)],
)
def test_tables_of_other_layouts(
    folder: str, used: str, other: str, zip_name: str, tissue: AnnData, tmp_path: Path
) -> None:
    (tmp_path / "sd.zarr" / folder).mkdir(parents=True)
    write_zarr(tissue, tmp_path / "sd.zarr" / folder / used, 2)
    write_zarr(tissue[:30].copy(), tmp_path / "sd.zarr" / folder / other, 2)
    path = tmp_path / (zip_name or "sd.zarr")
    if zip_name:
        shutil.make_archive(str(path.with_suffix("")), "zip", tmp_path, "sd.zarr")
    assert list(stmfg.read(path).obs_names) == list(tissue.obs_names)


PEAK = """if True:
    import sys
    import anndata, h5py, scipy.sparse, zarr
    import pyarrow.parquet, stmfg.io
    stmfg.read

    def memory(what):
        return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(what))

    before = memory("VmRSS:")
    adata = stmfg.read(sys.argv[1])
    peak = memory("VmHWM:")
    counts = sum(array.nbytes for array in (adata.X.data, adata.X.indices, adata.X.indptr))
    table = counts + adata.obsm["spatial"].nbytes + adata.obs.memory_usage(deep=True).sum()
    print(adata.n_obs, (peak - before) / table)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_large_folder_takes_little_more_memory_than_its_table(tmp_path: Path) -> None:
    n, m, each = 120_000, 2_000, 150
    bins = tmp_path / "binned_outputs" / "square_008um"
    (bins / "spatial").mkdir(parents=True)
    row, column = np.divmod(np.arange(n), 400)
    table = pd.DataFrame({"barcode": [f"s_008um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]})
    table["in_tissue"] = (np.arange(n) < 0.98 * n).astype(int)
    table["array_row"], table["array_col"] = row, column
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = 29.0 * row, 29.0 * column
    table.to_parquet(bins / "spatial" / "tissue_positions.parquet", index=False)
    (bins / "spatial" / "scalefactors_json.json").write_text('{"bin_size_um": 8}')
    with h5py.File(bins / "filtered_feature_bc_matrix.h5", "w") as file:
        genes = np.sort(np.random.default_rng(0).integers(0, m, (1000, each)), axis=1)
        genes = np.arange(each) * (m // each) + genes % (m // each)
        file["matrix/indices"] = np.tile(genes.ravel(), n // 1000).astype(np.int64)
        file["matrix/data"] = np.ones(n * each, np.int32)
        file["matrix/indptr"] = np.arange(n + 1) * each
        file["matrix/shape"] = np.array([m, n], np.int32)
        file["matrix/barcodes"] = table["barcode"].to_numpy("S")
        for name in ("id", "name"):
            file[f"matrix/features/{name}"] = np.array([f"G{i}" for i in range(m)], "S")
        file["matrix/features/feature_type"] = np.array(["Gene Expression"] * m, "S")
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    n_obs, ratio = done.stdout.split()
    assert int(n_obs) == int(0.98 * n)
    assert float(ratio) < 1.5

"""Domains for other programs: the exact form of the tables, and SpatialData stores that spatialdata itself reads."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.figure import Figure
from scipy import sparse

import stmfg
from _finished import PALETTE, finished
from _optional import optional
from stmfg import export, pl
from stmfg.cli import main
from stmfg.errors import MissingDependencyError

BARCODES = [f"AAACAAGTATCT{''.join('ACGT'[i // 4**k % 4] for k in (3, 2, 1, 0))}-1" for i in range(36)]
CELLS = [f"aaaaaa{'abcdefghijklmnop'[i // 16]}{'abcdefghijklmnop'[i % 16]}-1" for i in range(36)]

quietly = pytest.mark.filterwarnings("ignore")  # of spatialdata, where the test itself calls it


@pytest.fixture
def result() -> AnnData:
    adata = finished(side=6, k=3)
    adata.obs_names = BARCODES
    adata.uns["stmfg_domain_colors"] = np.array(PALETTE[:3], dtype=object)
    return adata


def test_loupe(result: AnnData, tmp_path: Path) -> None:
    export.loupe(result, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "Barcode,stmfg_domain"
    assert lines[1:] == [f"{n},{d}" for n, d in zip(result.obs_names, result.obs["stmfg_domain"], strict=True)]


def test_xenium_explorer(result: AnnData, tmp_path: Path) -> None:
    result.obs_names = CELLS
    result.obs["layer"] = [None, "white, matter", *["grey"] * (result.n_obs - 2)]
    export.xenium_explorer(result, tmp_path / "a.csv", key="layer")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    # A cell without a group is left out, a name with a comma in quotes.
    assert lines[:3] == ["cell_id,group", 'aaaaaaab-1,"white, matter"', "aaaaaaac-1,grey"]
    assert len(lines) == result.n_obs


def test_a_program_for_another_platform_is_warned_of(result: AnnData, tmp_path: Path, caplog: Any) -> None:
    result.uns["spatial_platform"] = {"platform": "visium"}
    export.loupe(result, tmp_path / "a.csv")
    assert caplog.text == ""
    result.uns["spatial_platform"] = {"platform": "xenium"}
    export.loupe(result, tmp_path / "a.csv")
    assert "Loupe Browser does not open data of the platform xenium" in caplog.text


@pytest.fixture
def joint(result: AnnData) -> AnnData:
    """Two slices as several inputs are put together: names of spots end in that of the slice."""
    result.obs["stmfg_slice"] = pd.Categorical(["one"] * 20 + ["two"] * 16)
    result.obs_names = [f"{n}_{s}" for n, s in zip(BARCODES[:20] + CELLS[:16], result.obs["stmfg_slice"], strict=True)]
    result.uns["spatial_platform"] = {"one": {"platform": "visium"}, "two": {"platform": "xenium"}}
    scale = {"one": {"spot_diameter_fullres": 90.0}, "two": {"spot_diameter_fullres": 15.0}}
    result.uns["spatial"] = {name: {"images": {}, "scalefactors": factors} for name, factors in scale.items()}
    return result


def test_one_slice_of_several(joint: AnnData, tmp_path: Path, refused: Any, caplog: Any) -> None:
    export.loupe(joint, tmp_path / "a.csv", slice_name="one")
    assert caplog.text == ""
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert len(lines) == 21
    assert lines[1] == f"{BARCODES[0]},{joint.obs['stmfg_domain'].iloc[0]}"
    export.xenium_explorer(joint, tmp_path / "b.csv", slice_name="two")
    assert (tmp_path / "b.csv").read_text().splitlines()[1].startswith(f"{CELLS[0]},")
    assert "name one slice of the result (one, two)" in refused(export.loupe, joint, tmp_path / "c.csv")
    assert "(one, two)" in refused(export.spatialdata, joint, tmp_path / "c.zarr", source=tmp_path)
    del joint.obs["stmfg_slice"]
    assert "(it has none)" in refused(export.loupe, joint, tmp_path / "c.csv", slice_name="one")


@quietly
def test_slices_run_jointly_are_kept_apart(joint: AnnData, tmp_path: Path) -> None:
    sd = optional("spatialdata")
    export.spatialdata(joint, tmp_path / "a.zarr")
    assert set(sd.read_zarr(tmp_path / "a.zarr").coordinate_systems) == {"one", "two"}
    export.spatialdata(joint, tmp_path / "b.zarr", slice_name="two")
    store = sd.read_zarr(tmp_path / "b.zarr")
    assert list(store.coordinate_systems) == ["global"]
    assert store["spots"].index[0] == CELLS[0]
    assert store["spots"]["radius"].iloc[0] == 7.5  # the scale of that slice


HD = [f"s_016um_{i:05d}_{2 * i:05d}-1" for i in range(36)]
SEGMENTED = [f"cellid_{i:09d}-1" for i in range(36)]
NUMBERS = [str(i + 1) for i in range(36)]


FORMS = ["{}", "brain_{}", "GSM1-A_{}", "{}_brain", "{}-0", "{}-brain", "x1:{}", "{}_1_2"]
FORMS += ["{bare}", "{bare}.1", "{bare}-0"]  # of tools that take the end off, R, and those that count from zero


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("write", "names"),
    [(export.loupe, BARCODES), (export.loupe, HD), (export.loupe, SEGMENTED), (export.xenium_explorer, CELLS)],
)
def test_names_are_those_of_the_instrument_again(
    write: Callable[..., None], names: list[str], form: str, result: AnnData, tmp_path: Path
) -> None:
    result.obs_names = [form.format(name, bare=name.removesuffix("-1")) for name in names]
    write(result, tmp_path / "a.csv")
    table = pd.read_csv(tmp_path / "a.csv", dtype=str)
    assert list(table.iloc[:, 0]) == names
    assert list(table.iloc[:, 1]) == list(result.obs["stmfg_domain"])


@pytest.mark.parametrize("column", ["barcode", "Barcode", "cell_id"])
def test_names_in_a_column_and_numbers_of_early_versions(column: str, result: AnnData, tmp_path: Path) -> None:
    result.obs_names = NUMBERS
    export.xenium_explorer(result, tmp_path / "a.csv")
    assert list(pd.read_csv(tmp_path / "a.csv", dtype=str)["cell_id"]) == NUMBERS
    result.obs[column] = CELLS if column == "cell_id" else BARCODES
    (export.xenium_explorer if column == "cell_id" else export.loupe)(result, tmp_path / "a.csv")
    assert list(pd.read_csv(tmp_path / "a.csv").iloc[:, 0]) == list(result.obs[column])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"spot{i}" for i in range(36)], "names such as 'spot0', which Loupe Browser cannot match"),
        ([*BARCODES[:35], "x"], "which Loupe Browser cannot match"),
        ([f"{n}-{i % 2}" for i, n in enumerate(BARCODES)], "are of several slices, and Loupe Browser shows one"),
        ([f"{'ab'[i % 2]}_{n}" for i, n in enumerate(BARCODES)], "are of several slices"),
        (NUMBERS, "cannot match"),
    ],
)
def test_names_that_a_viewer_could_not_match_are_refused(
    names: list[str], said: str, result: AnnData, tmp_path: Path, refused: Any
) -> None:
    result.obs_names = names
    assert said in refused(export.loupe, result, tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_slice_is_chosen_by_its_column_and_capture_areas_put_together_are_one_table(
    result: AnnData, tmp_path: Path, refused: Any
) -> None:
    result.obs["section"] = ["left"] * 20 + ["right"] * 16
    result.uns["stmfg"]["library_key"] = "section"
    result.obs_names = [f"{n}_{s}" for n, s in zip(BARCODES[:20] + BARCODES[:16], result.obs["section"], strict=True)]
    assert "name one slice of the result (left, right)" in refused(export.loupe, result, tmp_path / "a.csv")
    export.loupe(result, tmp_path / "a.csv", slice_name="right")
    table = pd.read_csv(tmp_path / "a.csv", dtype=str)
    assert list(table["Barcode"]) == BARCODES[:16]
    assert list(table["stmfg_domain"]) == list(result.obs["stmfg_domain"][20:])
    result.obs["stmfg_slice"] = ["A"] * 20 + ["B"] * 16
    result.obs_names = [*BARCODES[:20], *(name.replace("-1", "-2") for name in BARCODES[:16])]
    export.loupe(result, tmp_path / "a.csv")
    assert list(pd.read_csv(tmp_path / "a.csv")["Barcode"]) == list(result.obs_names)


def test_tables_that_cannot_be_written(result: AnnData, tmp_path: Path, refused: Any) -> None:
    assert "an existing folder" in refused(export.loupe, result, tmp_path / "nowhere" / "a.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "cannot be written" in refused(export.loupe, result, tmp_path / "folder.csv")
    del result.obs["stmfg_domain"]
    assert "stmfg.tl.domains" in refused(export.loupe, result, tmp_path / "b.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


@quietly
def test_spots_become_circles_and_bins_squares(tmp_path: Path) -> None:
    sd, result = optional("spatialdata"), finished(side=6, k=3, image=True)
    export.spatialdata(result, tmp_path / "a.zarr")
    store = sd.read_zarr(tmp_path / "a.zarr")
    table, circles = store["table"], store["spots"]
    assert table.uns["spatialdata_attrs"]["region"] in ("spots", ["spots"])
    assert list(circles.index) == list(table.obs[table.uns["spatialdata_attrs"]["instance_key"]])
    pd.testing.assert_series_equal(table.obs["stmfg_domain"], result.obs["stmfg_domain"])
    assert list(store.coordinate_systems) == ["global"]
    centres = sd.get_centroids(circles).compute()[["x", "y"]]
    np.testing.assert_allclose(centres, result.obsm["spatial"])
    library = next(iter(result.uns["spatial"].values()))
    assert circles["radius"].iloc[0] == pytest.approx(library["scalefactors"]["spot_diameter_fullres"] / 2)
    # The image has its place under the spots, as in our own figures.
    left, right, bottom, top = pl.domains(result, ax=Figure().add_subplot()).images[0].get_extent()
    extent = sd.get_extent(store["image"])
    assert extent["x"] == pytest.approx((left, right))
    assert extent["y"] == pytest.approx((top, bottom))
    back = stmfg.read(tmp_path / "a.zarr")
    np.testing.assert_array_equal(back.obsm["X_stmfg"], result.obsm["X_stmfg"])
    result.uns["spatial"] = {"hd": {"scalefactors": {"spot_diameter_fullres": 10.0, "bin_size_um": 16}}}
    export.spatialdata(result, tmp_path / "hd.zarr")
    np.testing.assert_allclose(sd.read_zarr(tmp_path / "hd.zarr")["spots"].area, 100)


@quietly
def test_names_that_spatialdata_does_not_take(tmp_path: Path, refused: Any) -> None:
    sd, result = optional("spatialdata"), finished(side=4, k=2)
    result.obs["cell type"], result.obs["slice"] = "x", ["donor 1/a", "donor 2"] * 8
    export.spatialdata(result, tmp_path / "a.zarr", library_key="slice")
    store = sd.read_zarr(tmp_path / "a.zarr")
    assert set(store.shapes) == {"donor_1_a", "donor_2"}
    assert set(store.coordinate_systems) == {"donor 1/a", "donor 2"}
    assert list(store["donor_2"].index) == list(result.obs_names[1::2])
    assert list(store["table"].obs["stmfg_region"]) == ["donor_1_a", "donor_2"] * 8
    assert "cell_type" in store["table"].obs
    assert "cell type" in result.obs
    result.obs["slice"] = ["donor 1", "donor_1"] * 8
    said = refused(export.spatialdata, result, tmp_path / "b.zarr", library_key="slice")
    assert "'donor_1' would name two slices" in said
    section = write_source(tmp_path / "source.zarr")
    section.obs["my domains"] = pd.Categorical(["1"] * section.n_obs)
    options = {"source": tmp_path / "source.zarr", "key": "my domains"}
    said = refused(export.spatialdata, section, tmp_path / "b.zarr", **options)
    assert "obs/my domains: Name must contain only" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "source.zarr"]


def write_source(path: Path, shape: str = "circles", *, positions: bool = True) -> AnnData:
    """Write a store as spatialdata-io does of a Xenium run: rows are numbered, the elements have the names of cells."""
    sd = optional("spatialdata")
    from spatialdata.models import Image2DModel, Labels2DModel, ShapesModel, TableModel

    section = stmfg.datasets.simulate(120, 40, n_domains=3, layout="cells", random_state=2)
    if shape == "labels":  # cells of one pixel, close together: spatialdata goes through the image row by row
        section.obsm["spatial"] = 2.0 * np.column_stack(np.divmod(np.arange(section.n_obs), 10))
    xy = section.obsm["spatial"] = section.obsm["spatial"] - section.obsm["spatial"].min(axis=0) + 3
    ids = pd.Index([f"cell-{i}" for i in range(section.n_obs)])
    table = AnnData(section.X, obs=pd.DataFrame({"cell_id": ids}, index=[str(i) for i in range(section.n_obs)]))
    table.var_names, table.obs["region"] = section.var_names, pd.Categorical(["cells"] * section.n_obs)
    if positions:
        table.obsm["spatial"] = xy
    # The elements are in another order than the rows of the table.
    order = np.random.default_rng(0).permutation(section.n_obs)
    elements: dict[str, Any] = {"images": {"dapi": Image2DModel.parse(np.zeros((1, 8, 8), np.uint8), dims="cyx")}}
    if shape == "labels":
        table.obs["cell_id"] = np.arange(1, section.n_obs + 1)
        pixels = np.zeros(np.ceil(xy.max(axis=0)[::-1]).astype(int) + 1, dtype=np.int32)
        section.obsm["spatial"] = np.floor(xy) + 0.5
        pixels[tuple(np.floor(xy).astype(int).T[::-1])] = table.obs["cell_id"]
        elements["labels"] = {"cells": Labels2DModel.parse(pixels, dims="yx")}
    else:
        elements["shapes"] = {"cells": ShapesModel.parse(xy[order], geometry=0, radius=2.0, index=ids[order])}
    if shape == "polygons":
        circles = elements["shapes"]["cells"]
        circles["geometry"] = circles.buffer(2.0)
        elements["shapes"]["cells"] = ShapesModel.parse(circles.drop(columns="radius"))
    table = TableModel.parse(table, region="cells", region_key="region", instance_key="cell_id")
    sd.SpatialData(**elements, tables={"table": table}).write(path)
    section.obs_names = ids
    return section


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@quietly
def test_from_a_store_to_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sd = optional("spatialdata")
    write_source(tmp_path / "source.zarr")
    before = digest(tmp_path / "source.zarr")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "source.zarr", "-o", "out", "--n-domains", "3", "--quiet"]) == 0
    command = ["export", "out", "--to", "spatialdata", "-o", "new.zarr", "--source", "source.zarr"]
    assert main(command) == 0
    assert digest(tmp_path / "source.zarr") == before
    new, result = sd.read_zarr(tmp_path / "new.zarr"), stmfg.read(tmp_path / "out" / "result.h5ad")
    assert set(new.shapes) == {"cells"}
    assert set(new.images) == {"dapi"}
    table = new["table"]
    assert table.uns["spatialdata_attrs"] == {"region": "cells", "region_key": "region", "instance_key": "cell_id"}
    assert list(table.obs["stmfg_domain"]) == list(result.obs["stmfg_domain"])
    assert list(table.uns["stmfg_domain_colors"]) == PALETTE[:3]
    np.testing.assert_array_equal(table.obsm["X_stmfg"], result.obsm["X_stmfg"])
    assert set(table.uns["stmfg"]) == set(result.uns["stmfg"])


@quietly
def test_rows_are_found_by_what_the_instrument_calls_them(tmp_path: Path, refused: Any) -> None:
    sd = optional("spatialdata")
    section = write_source(tmp_path / "source.zarr")
    labels = pd.Categorical([str(1 + i % 2) for i in range(section.n_obs)])
    section.obs["mine"], section.obs["mine_confidence"] = labels, np.linspace(0, 1, section.n_obs)
    part = section[::-1][:100].copy()  # another order, and not all of them
    options = {"source": tmp_path / "source.zarr", "key": "mine"}
    export.spatialdata(part, tmp_path / "new.zarr", **options)
    table = sd.read_zarr(tmp_path / "new.zarr")["table"]
    assert list(table.obs["mine"][20:]) == list(labels[20:])
    assert table.obs["mine"][:20].isna().all()
    np.testing.assert_allclose(table.obs["mine_confidence"][20:], section.obs["mine_confidence"][20:])
    part.obs_names = [f"other-{i}" for i in range(100)]
    said = refused(export.spatialdata, part, tmp_path / "b.zarr", **options)
    assert "does not have 100 of 100 spots of the result (first 'other-0', its own are like '0')" in said
    assert "no table 'x'; name one of these: table" in refused(
        export.spatialdata, section, tmp_path / "b.zarr", table="x", **options
    )
    assert not (tmp_path / "b.zarr").exists()


@quietly
@pytest.mark.parametrize("shape", ["circles", "polygons", "labels"])
def test_positions_are_those_of_the_elements(shape: str, tmp_path: Path) -> None:
    section = write_source(tmp_path / "source.zarr", shape, positions=False)
    for path in (tmp_path / "source.zarr", tmp_path / "source.zarr" / "tables" / "table"):
        adata = stmfg.read(path)
        np.testing.assert_allclose(adata.obsm["spatial"], section.obsm["spatial"], atol=1e-6)
        np.testing.assert_array_equal(sparse.csr_matrix(adata.X).toarray(), section.X.toarray())


@quietly
def test_what_is_refused(result: AnnData, tmp_path: Path, refused: Any) -> None:
    optional("spatialdata")
    (tmp_path / "there.zarr").mkdir()
    write = export.spatialdata
    assert "exists already" in refused(write, result, tmp_path / "there.zarr")
    new = tmp_path / "new.zarr"
    assert "no SpatialData store" in refused(write, result, new, source=tmp_path / "there.zarr")
    (tmp_path / "there.zarr" / "tables").mkdir()
    assert "cannot be read" in refused(write, result, new, source=tmp_path / "there.zarr")
    assert "give source, too" in refused(write, result, new, table="table")
    assert "leave it out" in refused(write, result, new, source=tmp_path / "there.zarr", library_key="a")
    assert [path.name for path in tmp_path.iterdir()] == ["there.zarr"]


@quietly
def test_without_spatialdata(result: AnnData, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_source(tmp_path / "source.zarr", positions=False)
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    for call in ((stmfg.read, tmp_path / "source.zarr"), (export.spatialdata, result, tmp_path / "a.zarr")):
        assert 'pip install "stmfg[spatialdata]"' in refused(*call, kind=MissingDependencyError)
    assert [path.name for path in tmp_path.iterdir()] == ["source.zarr"]


def test_from_the_shell(result: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    result.write_h5ad(tmp_path / "out" / "result.h5ad")
    assert main(["export", "out", "--to", "loupe", "-o", "a.csv"]) == 0
    assert capsys.readouterr() == ("wrote a.csv: stmfg_domain of out for loupe\n", "")
    assert (tmp_path / "a.csv").read_text().startswith(f"Barcode,stmfg_domain\n{BARCODES[0]},")
    assert main(["export", "out", "--to", "loupe", "-o", "b.csv", "--source", "x.zarr"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--source goes with --to spatialdata" in line
    assert not (tmp_path / "b.csv").exists()

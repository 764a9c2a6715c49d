"""Images of SpatialData stores lie under the places of the table, whatever brings both into one system."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData

import stmfg
from _optional import optional

WIDTH, HEIGHT = 1300, 1100  # of the tissue, in the global system
TURN = [[0.9, 0.2, -290.0], [-0.1, 1.1, -20.0], [0, 0, 1]]  # from pixels to the global system


def picture(to_global: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return pixels (3, height, width) whose red and green say where they are in the global system."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    places = np.stack([x, y, np.ones_like(x)]).reshape(3, -1)
    red, green, _ = (to_global @ places).reshape(3, height, width)
    return np.stack([255 * red / WIDTH, 255 * green / HEIGHT, 0 * red]).clip(0, 255).astype(np.uint8)


def write_store(
    path: Path, table: AnnData, onto: Any = ((1, 0, 0), (0, 1, 0), (0, 0, 1)), unit: float = 1.0, region: str = "spots"
) -> None:
    """Write a store whose places have another unit than the global system, as those of Xenium have."""
    sd = optional("spatialdata")
    from spatialdata import models
    from spatialdata.transformations import Affine, Scale

    onto = np.array(onto, dtype=float)
    width, height = np.ceil(np.linalg.solve(onto, [1300, 1100, 1])[:2]).astype(int) + 450
    axes = {"input_axes": ("x", "y"), "output_axes": ("x", "y")}
    image = {"dims": ("c", "y", "x"), "transformations": {"global": Affine(onto, **axes)}}
    colours = models.Image2DModel.parse(picture(onto, width, height), scale_factors=[2], **image)
    stains = models.Image2DModel.parse(
        np.zeros((3, 300, 300)), c_coords=["DAPI", "18S", "ATP1A1"], dims=("c", "y", "x")
    )
    places = {"transformations": {"global": Scale([unit, unit], axes=("x", "y"))}}
    circles = models.ShapesModel.parse(
        table.obsm["spatial"], geometry=0, radius=4.0, index=table.obs_names.to_numpy(), **places
    )
    filled = np.zeros((HEIGHT, WIDTH), dtype=np.int32)
    x, y = (unit * table.obsm["spatial"]).astype(int).T
    filled[y, x] = np.arange(1, table.n_obs + 1)
    labels = models.Labels2DModel.parse(filled, dims=("y", "x"))
    table.obs["region"], table.obs["instance"] = region, np.arange(1, table.n_obs + 1)
    table.obs["region"] = table.obs["region"].astype("category")
    if region == "spots":
        table.obs["instance"] = table.obs_names.to_numpy(dtype=object)
    table = models.TableModel.parse(table, region=region, region_key="region", instance_key="instance")
    elements = {"images": {"he": colours, "morphology": stains}, "shapes": {"spots": circles}}
    sd.SpatialData(**elements, labels={"cells": labels}, tables={"table": table}).write(path)


@pytest.fixture
def table() -> AnnData:
    tissue = stmfg.datasets.simulate(200, 30, n_domains=3, random_state=2)
    xy = tissue.obsm["spatial"]
    tissue.obsm["spatial"] = 40 + (xy - xy.min(axis=0)) * [750 / np.ptp(xy[:, 0]), 650 / np.ptp(xy[:, 1])]
    return tissue


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("onto", "unit", "region", "positions"),
    [
        (((1, 0, 0), (0, 1, 0), (0, 0, 1)), 1.0, "spots", True),
        (((1.3, 0, 0), (0, 1.3, 0), (0, 0, 1)), 1.2, "spots", True),
        (TURN, 1.0, "spots", True),
        (TURN, 1.5, "cells", True),  # the table annotates labels in pixels, and has places in another unit
        (TURN, 1.0, "cells", True),
        (TURN, 1.2, "spots", False),
    ],
)
def test_the_image_lies_under_the_places(
    onto: Any, unit: float, region: str, positions: bool, table: AnnData, tmp_path: Path
) -> None:
    true = unit * table.obsm["spatial"]
    write_store(tmp_path / "a.zarr", table, onto, unit, region)
    if not positions:
        del zarr.open_group(tmp_path / "a.zarr" / "tables" / "table" / "obsm")["spatial"]
    adata = stmfg.read(tmp_path / "a.zarr")
    # Some zip the folder, some what is in it.
    where = {"root_dir": tmp_path, "base_dir": "a.zarr"} if unit == 1 else {"root_dir": tmp_path / "a.zarr"}
    shutil.make_archive(str(tmp_path / "a.zarr"), "zip", **where)
    zipped = stmfg.read(tmp_path / "a.zarr.zip").uns["spatial"][region]
    library = adata.uns["spatial"][region]
    np.testing.assert_array_equal(zipped["images"]["hires"], library["images"]["hires"])
    assert zipped["scalefactors"] == library["scalefactors"]
    scale, image = library["scalefactors"]["tissue_hires_scalef"], library["images"]["hires"]
    assert image.dtype == np.uint8
    assert 400 < max(image.shape) < 2100
    column, row = np.round(adata.obsm["spatial"] * scale).astype(int).T
    there = image[row, column, :2] / 255 * [WIDTH, HEIGHT]
    assert np.abs(there - true).max() < 16  # three shades of 255
    if region == "spots" and positions:
        assert library["scalefactors"]["spot_diameter_fullres"] == 8
    assert "spatial" not in stmfg.read(tmp_path / "a.zarr", images=False).uns


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("positions", [True, False])
def test_a_table_of_several_elements_has_the_image_of_each(
    together: bool, positions: bool, table: AnnData, tmp_path: Path
) -> None:
    sd = optional("spatialdata")
    from spatialdata import models
    from spatialdata.transformations import Identity, Scale

    left = table.obsm["spatial"][:, 0] < np.median(table.obsm["spatial"][:, 0])
    table.obs["region"] = pd.Categorical(np.where(left, "one", "two"))
    table.obs["name"] = table.obs_names.to_numpy(dtype=object)
    elements: dict[str, Any] = {"images": {}, "shapes": {}}
    for name, color in (("one", (0, 200, 0)), ("two", (0, 0, 200))):
        part = table[table.obs["region"] == name]
        system = "global" if together else name
        circles = {"geometry": 0, "radius": 4.0, "index": part.obs_names.to_numpy()}
        elements["shapes"][name] = models.ShapesModel.parse(
            part.obsm["spatial"], **circles, transformations={system: Identity()}
        )
        pixels = np.zeros((3, 600, 600), np.uint8) + np.array(color, np.uint8)[:, None, None]
        double = {"transformations": {system: Scale([2, 2], axes=("x", "y"))}}
        if name == "one" or not together:
            elements["images"][f"{name}_he"] = models.Image2DModel.parse(pixels, dims=("c", "y", "x"), **double)
    if not positions:
        del table.obsm["spatial"]
    keys = {"region": ["one", "two"], "region_key": "region", "instance_key": "name"}
    sd.SpatialData(**elements, tables={"table": models.TableModel.parse(table, **keys)}).write(tmp_path / "a.zarr")
    libraries = stmfg.read(tmp_path / "a.zarr").uns["spatial"]
    colours = {name: tuple(each["images"]["hires"][9, 9]) for name, each in libraries.items()}
    assert colours == ({"one": (0, 200, 0)} if together else {"one": (0, 200, 0), "two": (0, 0, 200)})
    assert {each["scalefactors"]["tissue_hires_scalef"] for each in libraries.values()} == {0.5}


@pytest.mark.filterwarnings("ignore")
def test_an_image_that_cannot_be_placed_is_left_out(
    table: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_store(tmp_path / "a.zarr", table.copy())
    places = zarr.open_group(tmp_path / "a.zarr" / "tables" / "table" / "obsm")["spatial"]
    places[:] = places[:] * 3.0  # in the frame of no element
    assert "spatial" not in stmfg.read(tmp_path / "a.zarr").uns
    places[:] = table.obsm["spatial"]
    (tmp_path / "a.zarr" / "images" / "he" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    assert "spatial" not in stmfg.read(tmp_path / "a.zarr").uns
    assert "its image is left out" in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_rows_without_an_element_are_left_out(table: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_store(tmp_path / "a.zarr", table.copy())
    stored = zarr.open_group(tmp_path / "a.zarr" / "tables" / "table")
    del stored["obsm/spatial"]
    stored["obs/instance"][:5] = "none"
    adata = stmfg.read(tmp_path / "a.zarr")
    assert list(adata.obs_names) == list(table.obs_names[5:])
    np.testing.assert_allclose(adata.obsm["spatial"], table.obsm["spatial"][5:])
    assert "5 of 200 have no element and are left out" in caplog.text

"""AnnData as other tools leave it: places, names and spots beside the tissue end where those of a folder are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmfg
from _data import write_zarr


@pytest.fixture(params=["h5ad", "zarr"])
def written(request: pytest.FixtureRequest, section: AnnData, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that changes a good slice, and writes it as h5ad or zarr."""

    def change_and_write(change: Callable[[AnnData], Any]) -> Path:
        change(section)
        path = tmp_path / f"input.{request.param}"
        section.write_h5ad(path) if request.param == "h5ad" else write_zarr(section, path)
        return path

    return change_and_write


def move(key: str) -> Callable[[AnnData], Any]:
    return lambda adata: adata.obsm.__setitem__(key, adata.obsm.pop("spatial"))


def columns(x: str, y: str) -> Callable[[AnnData], Any]:
    def change(adata: AnnData) -> None:
        adata.obs[y], adata.obs[x] = adata.obsm.pop("spatial")[:, ::-1].T

    return change


AFFIXES = [("", "_um"), ("cell_", ""), ("centroid_", ""), ("", "_position"), ("sdim", "")]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (move("X_spatial"), "obsm['X_spatial']"),
        (move("Spatial"), "obsm['Spatial']"),
        (move("spatial_coords"), "obsm['spatial_coords']"),
        (columns("x", "y"), "obs[['x', 'y']]"),
        (columns("x_centroid", "y_centroid"), "obs[['x_centroid', 'y_centroid']]"),
        (columns("CenterX_global_px", "CenterY_global_px"), "obs[['CenterX_global_px', 'CenterY_global_px']]"),
        (columns("pxl_col_in_fullres", "pxl_row_in_fullres"), "obs[['pxl_col_in_fullres', 'pxl_row_in_fullres']]"),
        (columns("imagecol", "imagerow"), "obs[['imagecol', 'imagerow']]"),
        *((columns(f"{x}x{y}", f"{x}y{y}"), f"obs[['{x}x{y}', '{x}y{y}']]") for x, y in AFFIXES),
        (columns("spatial_1", "spatial_2"), "obs[['spatial_1', 'spatial_2']]"),
        (columns("array_col", "array_row"), "obs[['array_col', 'array_row']]"),
        *((move(key), f"obsm['{key}']") for key in ("X_xy", "X_spatial_coords", "xy_loc", "location")),
    ],
)
def test_positions_of_other_tools_are_found(
    change: Callable[[AnnData], Any],
    where: str,
    written: Callable[..., Path],
    section: AnnData,
    caplog: pytest.LogCaptureFixture,
) -> None:
    xy = section.obsm["spatial"].copy()
    adata = stmfg.read(written(change))
    np.testing.assert_allclose(adata.obsm["spatial"], xy)  # x first
    assert f"positions are taken from {where}" in caplog.text


@pytest.mark.parametrize("key", ["spatial", "coords_um"])
@pytest.mark.parametrize(
    "names", [("Y", "X"), ("imagerow", "imagecol"), ("y_centroid", "x_centroid"), ("pxl_row", "pxl_col")]
)
def test_columns_of_positions_go_by_their_names(
    names: tuple[str, str], key: str, written: Callable[..., Path], section: AnnData
) -> None:
    xy = section.obsm.pop("spatial")
    turned = pd.DataFrame(xy[:, ::-1], index=section.obs_names, columns=names)
    np.testing.assert_array_equal(stmfg.read(written(lambda a: a.obsm.__setitem__(key, turned))).obsm["spatial"], xy)


@pytest.mark.parametrize(("column", "n"), [("In_Tissue", 280), ("on_tissue", 280), ("tissue", 280), ("inside", 300)])
def test_what_the_column_of_tissue_is_called(
    column: str, n: int, written: Callable[..., Path], section: AnnData
) -> None:
    assert stmfg.read(written(lambda a: a.obs.__setitem__(column, [0] * 20 + [1] * 280))).n_obs == n


def test_rows_and_columns_of_visium_are_hexagons(written: Callable[..., Path], section: AnnData) -> None:
    def change(adata: AnnData) -> None:
        del adata.obsm["spatial"]
        adata.obs["array_row"], column = np.divmod(np.arange(300), 20)
        adata.obs["array_col"] = 2 * column + adata.obs["array_row"] % 2

    xy = stmfg.read(written(change)).obsm["spatial"]
    np.testing.assert_allclose(np.linalg.norm(xy[[1, 20]] - xy[0], axis=1), 2)  # along and across rows


def test_positions_that_are_there_are_kept(
    written: Callable[..., Path], section: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    xy = section.obsm["spatial"].copy()
    adata = stmfg.read(written(lambda adata: adata.obs.insert(0, "x", 0.0)))
    np.testing.assert_array_equal(adata.obsm["spatial"], xy)
    assert caplog.text == ""


def test_positions_as_text(written: Callable[..., Path], section: AnnData, quick: dict[str, Any]) -> None:
    def change(adata: AnnData) -> None:
        adata.obsm["spatial"] = adata.obsm["spatial"].astype("U24")

    expected = stmfg.tl.domains(section, n_domains=3, copy=True, **quick)
    adata = stmfg.read(written(change))
    stmfg.tl.domains(adata, n_domains=3, **quick)
    assert list(adata.obs["stmfg_domain"]) == list(expected.obs["stmfg_domain"])


@pytest.mark.parametrize(
    "values",
    [
        lambda keep: keep.astype(int),
        lambda keep: keep,
        lambda keep: keep * 1.0,
        lambda keep: pd.array(keep.astype(int), dtype="Int64"),
        *(lambda keep, pair=pair: np.where(keep, *pair) for pair in (("1", "0"), ("yes", "no"), ("in", "off tissue"))),
    ],
)
def test_spots_beside_the_tissue_are_left_out(
    values: Callable[..., Any], written: Callable[..., Path], section: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    keep = np.arange(section.n_obs) % 5 != 0
    expected = section[keep].copy()
    adata = stmfg.read(written(lambda adata: adata.obs.insert(0, "in_tissue", values(keep))))
    assert list(adata.obs_names) == list(expected.obs_names)
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())
    np.testing.assert_array_equal(adata.obsm["spatial"], expected.obsm["spatial"])
    assert "60 of 300 spots are not in tissue" in caplog.text


def test_a_column_that_means_something_else_is_left_alone(
    written: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert stmfg.read(written(lambda adata: adata.obs.insert(0, "in_tissue", "brain"))).n_obs == 300
    assert "obs['in_tissue'] is not 1 or 0 everywhere (brain)" in caplog.text


def test_nothing_in_tissue(written: Callable[..., Path], refused: Callable[..., str]) -> None:
    path = written(lambda adata: adata.obs.insert(0, "in_tissue", 0))
    assert "obs['in_tissue'] is 0 for all 300 spots" in refused(stmfg.read, path)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_barcodes_that_repeat_get_the_name_of_their_slice(
    written: Callable[..., Path], section: AnnData, caplog: pytest.LogCaptureFixture
) -> None:
    def change(adata: AnnData) -> None:
        adata.obs["batch"] = np.arange(300) % 3
        adata.obs["section_id"] = np.where(np.arange(300) < 150, "left", "right")
        adata.obs_names = [*adata.obs_names[:150], *adata.obs_names[:150]]

    adata = stmfg.read(written(change))
    names = list(section.obs_names[:150])
    assert list(adata.obs_names) == [f"{n}_left" for n in names] + [f"{n}_right" for n in names]
    assert "obs['section_id'] is put behind each" in caplog.text


def test_warnings_for_developers_do_not_reach_the_user(section: AnnData, tmp_path: Path) -> None:
    import h5py

    section.obsp["connectivities"] = section.X @ section.X.T
    section.write_h5ad(tmp_path / "old.h5ad")
    with h5py.File(tmp_path / "old.h5ad", "a") as file:  # as before version 0.7
        file["uns"].require_group("neighbors").attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        file.move("obsp/connectivities", "uns/neighbors/connectivities")
        del file.attrs["encoding-type"], file.attrs["encoding-version"]
    adata = stmfg.read(tmp_path / "old.h5ad")  # warnings are errors in tests
    pd.testing.assert_index_equal(adata.obs_names, section.obs_names)

"""The folders that our readers are tested on are read by spatialdata-io, too, and both see the same.

So that a folder of the tests is not merely what we believe an instrument writes. What spatialdata-io cannot read is
said where it is tried.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import stmfg
from _data import write_space_ranger
from _optional import optional
from _platforms import write_cosmx, write_merscope, write_saw
from _tenx import write_hd_cells, write_visium_hd, write_xenium

pytestmark = pytest.mark.filterwarnings("ignore")  # of spatialdata; ours are seen in test_platforms
NO_IMAGES = dict.fromkeys(
    [f"{part}_{kind}" for part in ("cells", "nucleus") for kind in ("boundaries", "labels")]
    + ["transcripts", "morphology_mip", "morphology_focus"],
    False,
)


def theirs(reader: str, *args: Any, table: str = "table", **kwargs: Any) -> AnnData:
    """Return the table that a reader of spatialdata-io makes."""
    return getattr(optional("spatialdata_io"), reader)(*args, **kwargs).tables[table]


def same(ours: AnnData, other: AnnData, names: pd.Index | None = None, xy: str = "spatial") -> None:
    """Compare counts and positions of all spots that we take, by name."""
    names = other.obs_names if names is None else names
    assert set(ours.obs_names) <= set(names)
    order = pd.Index(names).get_indexer(ours.obs_names)
    genes = other.var_names.get_indexer(ours.var_names)
    assert (genes >= 0).all()
    np.testing.assert_array_equal(sparse.csr_matrix(other.X)[order][:, genes].toarray(), ours.X.toarray())
    np.testing.assert_allclose(np.asarray(other.obsm[xy], float)[order], ours.obsm["spatial"])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_visium(version: int, tmp_path: Path) -> None:
    outs = write_space_ranger(tmp_path / "outs", version, "both")
    same(stmfg.read(outs), theirs("visium", outs, dataset_id="section"))


def test_visium_hd(tissue: AnnData, tmp_path: Path) -> None:
    write_visium_hd(tmp_path / "run", tissue)
    options = {"dataset_id": "section", "load_segmentations_only": False, "table": "square_016um"}
    same(stmfg.read(tmp_path / "run"), theirs("visium_hd", tmp_path / "run", **options))


def test_cells_of_visium_hd(tissue: AnnData, tmp_path: Path) -> None:
    write_visium_hd(tmp_path / "run", tissue)
    write_hd_cells(tmp_path / "run", tissue)
    store = optional("spatialdata_io").visium_hd(tmp_path / "run", dataset_id="s", load_segmentations_only=True)
    table, outlines = store.tables["cell_segmentations"], store.shapes["s_cell_segmentations"]
    table.obsm["spatial"] = np.column_stack([outlines.centroid.x, outlines.centroid.y])
    assert list(outlines.index) == list(table.obs_names)
    same(stmfg.read(tmp_path / "run" / "segmented_outputs"), table)


def test_xenium(tissue: AnnData, tmp_path: Path) -> None:
    write_xenium(tmp_path / "run", tissue)
    table = theirs("xenium", tmp_path / "run", cells_as_circles=True, **NO_IMAGES)
    same(stmfg.read(tmp_path / "run"), table, table.obs["cell_id"])
    assert (table.obs["nucleus_count"] == 1).all()  # the ids in cells.zarr.zip are those of the table


def test_merscope(tissue: AnnData, tmp_path: Path) -> None:
    write_merscope(tmp_path / "region_0", tissue)
    same(stmfg.read(tmp_path / "region_0"), theirs("merscope", tmp_path / "region_0", transcripts=False))


def test_cosmx(tissue: AnnData, tmp_path: Path) -> None:
    write_cosmx(tmp_path / "flat", tissue, gz=False)  # they read plain text only
    table = theirs("cosmx", tmp_path / "flat", transcripts=False)
    # They name a cell by its number and field, we by field and number, as the vendor's own tools do.
    names = pd.Index(["_".join(reversed(name.split("_"))) for name in table.obs_names])
    same(stmfg.read(tmp_path / "flat"), table, names, xy="global")


def test_stereoseq(tissue: AnnData, tmp_path: Path) -> None:
    write_saw(tmp_path / "saw", tissue)  # they read version 7 only
    tables = optional("spatialdata_io").stereoseq(tmp_path / "saw").tables
    cells, ours = tables["cells_table"], stmfg.read(tmp_path / "saw")
    assert list(cells.obs["cellID"].astype(str)) == list(ours.obs_names)
    assert list(cells.var["geneName"]) == list(ours.var_names)
    np.testing.assert_array_equal(cells.obsm["spatial"], ours.obsm["spatial"])
    # Their counts of cells come from SAW's own file of clusters; what the GEF file says of them is in obs.
    np.testing.assert_array_equal(cells.obs["expCount"], np.asarray(ours.X.sum(axis=1)).ravel())
    squares, ours = tables["bin50_table"], stmfg.read(tmp_path / "saw" / "04.tissuecut" / "C04.gef")
    assert squares.shape == ours.shape
    assert list(squares.var_names) == sorted(ours.var_names)
    per_gene = [np.sort(a[:, squares.var_names].X.toarray(), axis=0) for a in (squares, ours)]
    np.testing.assert_array_equal(*per_gene)

"""Folders of instruments: what they are taken for, and that counts, names and positions are those written."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import stmfg
from _data import text
from _platforms import (
    FOLDERS,
    WRITERS,
    write_cell_gef,
    write_merscope,
    write_square_gef,
)
from _tenx import check, write_visium_hd, write_xenium
from stmfg import cli
from stmfg.errors import MissingDependencyError


@pytest.mark.parametrize("kind", FOLDERS)
def test_what_was_written_is_read(kind: str, tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = FOLDERS[kind](tmp_path / "run", tissue)
    with caplog.at_level(logging.INFO, "stmfg"):
        adata = stmfg.read(tmp_path / "run")
    check(adata, tissue, expected)
    assert adata.uns["spatial_platform"]["platform"] == kind.split()[0]
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []
    adata.write_h5ad(tmp_path / "again.h5ad")
    assert stmfg.read(tmp_path / "again.h5ad").uns["spatial_platform"] == adata.uns["spatial_platform"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("visium", "read as Visium because of filtered_feature_bc_matrix.h5 and spatial/tissue_positions.csv"),
        ("visiumhd", "read as Visium HD because of binned_outputs"),
        ("xenium", "read as Xenium because of cell_feature_matrix.h5 and cells.parquet"),
        ("merscope", "read as MERSCOPE because of cell_by_gene.csv and cell_metadata.csv"),
        ("cosmx", "read as CosMx because of Run5642_S3_exprMat_file.csv.gz and Run5642_S3_metadata_file.csv.gz"),
        ("slideseq", "read as Slide-seq because of MappedDGEForR.csv and BeadLocationsForR.csv"),
        ("stereoseq", "read as Stereo-seq because of feature_expression/C04.cellbin.gef"),
    ],
)
def test_the_platform_and_the_reason_are_said(
    name: str, said: str, tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    WRITERS[name](tmp_path / "run" / "outs", tissue)  # found in outs, too
    with caplog.at_level(logging.INFO, "stmfg"):
        adata = stmfg.read(tmp_path / "run")
    assert said in caplog.text
    assert adata.uns["spatial_platform"]["because"] == said.split("because of ")[1]


def test_another_bin_size_can_be_had(tissue: AnnData, tmp_path: Path) -> None:
    write_visium_hd(tmp_path, tissue)
    bins = tmp_path / "binned_outputs"
    assert stmfg.read(tmp_path).obs_names[0].startswith("s_016um")
    assert stmfg.read(bins).obs_names[0].startswith("s_016um")
    assert stmfg.read(bins / "square_002um").obs_names[0].startswith("s_002um")
    said = stmfg.read(tmp_path).uns["spatial_platform"]["taken"]
    assert said == "square_016um (of square_002um, square_008um, square_016um)"
    assert stmfg.read(tmp_path).uns["spatial"]["square_016um"]["scalefactors"]["bin_size_um"] == 16


def test_only_small_bins_are_not_taken_by_themselves(
    tissue: AnnData, tmp_path: Path, refused: Callable[..., str]
) -> None:
    write_visium_hd(tmp_path, tissue, (2,))
    said = refused(stmfg.read, tmp_path)
    assert "no square_016um or square_008um" in said
    assert str(tmp_path / "binned_outputs" / "square_002um") in said


def test_the_platform_can_be_told(tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    xenium, merscope = write_xenium(tmp_path / "a", tissue), write_merscope(tmp_path / "b", tissue)
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / path.name)
    check(stmfg.read(tmp_path / "a"), tissue, xenium)
    assert "it could be merscope, too" in caplog.text
    caplog.clear()
    check(stmfg.read(tmp_path / "a", platform="merscope"), tissue, merscope)
    check(stmfg.read(tmp_path / "a", platform="xenium"), tissue, xenium)
    assert caplog.text == ""
    command = ["run", str(tmp_path / "a"), "-o", str(tmp_path / "out"), "--n-domains", "3", "--platform", "merscope"]
    assert cli.main([*command, "--quiet", "--set", "epochs=2", "--set", "finest_level=0"]) == 0
    assert set(stmfg.read(tmp_path / "out" / "result.h5ad").obs_names) == set(merscope.index)


def test_an_unknown_platform_is_refused(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    write_xenium(tmp_path / "run", tissue)
    assert refused(stmfg.read, tmp_path / "run", platform="Xenium").endswith(f"choose one of {', '.join(WRITERS)}")
    assert "has no cell_by_gene.csv" in refused(stmfg.read, tmp_path / "run", platform="merscope")
    tissue.write_h5ad(tmp_path / "a.h5ad")
    assert "is not a file of xenium" in refused(stmfg.read, tmp_path / "a.h5ad", platform="xenium")


def test_xenium_says_which_run_it_is(tissue: AnnData, tmp_path: Path) -> None:
    write_xenium(tmp_path / "run", tissue)
    assert stmfg.read(tmp_path / "run").uns["spatial_platform"] == {
        "platform": "xenium",
        "because": "cell_feature_matrix.h5 and cells.parquet",
        "taken": "cell_feature_matrix.h5, cells.parquet",
        "unit": "micrometres",
        "run_name": "run 7",
        "region_name": "cortex",
        "panel_name": "Human Brain",
        "analysis_sw_version": "xenium-3.0.0.15",
    }
    (tmp_path / "run" / "experiment.xenium").unlink()
    assert "run_name" not in stmfg.read(tmp_path / "run").uns["spatial_platform"]


@pytest.mark.parametrize("kind", ["bytes", "numbers"])
def test_early_xenium_names_cells_otherwise(kind: str, tissue: AnnData, tmp_path: Path) -> None:
    expected = write_xenium(tmp_path / "run", tissue)
    table = pd.read_parquet(tmp_path / "run" / "cells.parquet")
    if kind == "bytes":
        table["cell_id"] = table["cell_id"].str.encode("utf-8")
    else:
        table["cell_id"] = np.arange(1, tissue.n_obs + 1, dtype=np.int32)
        expected.index = table["cell_id"].astype(str)
        with h5py.File(tmp_path / "run" / "cell_feature_matrix.h5", "a") as file:
            del file["matrix/barcodes"]
            file["matrix/barcodes"] = expected.index.to_numpy("S")
    table.to_parquet(tmp_path / "run" / "cells.parquet")
    check(stmfg.read(tmp_path / "run"), tissue, expected)


def test_xenium_without_pyarrow(tissue: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_xenium(tmp_path / "run", tissue)
    table = pd.read_parquet(tmp_path / "run" / "cells.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "stmfg\[parquet\]"'):
        stmfg.read(tmp_path / "run")
    table.to_csv(tmp_path / "run" / "cells.csv.gz", index=False)
    check(stmfg.read(tmp_path / "run"), tissue, expected)


def test_genes_of_one_name_stay_apart(tissue: AnnData, tmp_path: Path) -> None:
    tissue.var_names = ["TBCE", "TBCE", *tissue.var_names[2:]]
    for name in ("slideseq", "stereoseq"):
        WRITERS[name](tmp_path / name, tissue)
        assert list(stmfg.read(tmp_path / name).var_names[:2]) == ["TBCE", "TBCE-1"]


def test_cells_without_position_are_left_out(tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = write_merscope(tmp_path / "run", tissue)
    table = pd.read_csv(tmp_path / "run" / "cell_metadata.csv", dtype={"EntityID": str})
    table[table["EntityID"] != expected.index[4]].to_csv(tmp_path / "run" / "cell_metadata.csv", index=False)
    adata = stmfg.read(tmp_path / "run")
    assert expected.index[4] not in adata.obs_names
    assert adata.n_obs == tissue.n_obs - 1
    assert "1 of 110 have no position and are left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "table"),
    [("xenium", "cells.csv.gz"), ("merscope", "cell_metadata.csv"), ("slideseq", "BeadLocationsForR.csv")],
)
def test_positions_are_found_by_name(name: str, table: str, tissue: AnnData, tmp_path: Path) -> None:
    write = partial(write_xenium, parquet=False) if name == "xenium" else WRITERS[name]
    expected = write(tmp_path / "run", tissue)
    path = tmp_path / "run" / table
    pd.read_csv(path, dtype=str).sample(frac=1, random_state=0).to_csv(path, index=False)
    check(stmfg.read(tmp_path / "run"), tissue, expected)


def test_the_best_gef_is_taken(tissue: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_square_gef(tmp_path / "C04.tissue.gef", tissue)
    write_square_gef(tmp_path / "C04.raw.gef", tissue, (1,))
    assert stmfg.read(tmp_path).uns["spatial_platform"]["taken"] == "bin50 of C04.tissue.gef"
    raw = stmfg.read(tmp_path / "C04.raw.gef").uns["spatial_platform"]
    assert raw["taken"] == "bin50, summed from bin1 of C04.raw.gef"
    assert raw["unit"] == "spots of the chip, 500 nm apart"
    write_cell_gef(tmp_path / "C04.cellbin.gef", tissue)
    write_cell_gef(tmp_path / "C04.adjusted.cellbin.gef", tissue)
    with caplog.at_level(logging.INFO, "stmfg"):
        adata = stmfg.read(tmp_path)
    assert adata.uns["spatial_platform"]["taken"] == "cells of C04.adjusted.cellbin.gef"
    assert adata.var["gene_ids"].iloc[1] == "ENSMUSG00000000001"
    assert "give the path of another to read that: C04.cellbin.gef, C04.tissue.gef, C04.raw.gef" in caplog.text


COSMX = "Run5642_S3_{}_file.csv.gz"
GEF = "feature_expression/C04.cellbin.gef"


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def swap(old: str, new: str) -> Callable[[bytes], bytes]:
    return text(lambda t: t.replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "file", "change", "said"),
    [
        (
            "xenium",
            "cells.parquet",
            None,
            "no cells.parquet(.gz) or cells.csv(.gz); add it from the output of Xenium",
        ),
        ("xenium", "cell_feature_matrix.h5", None, "has no cell_feature_matrix.h5(.gz) or cell_feature_matrix/ or"),
        ("xenium", "cells.parquet", half, "cells.parquet cannot be read"),
        ("xenium", "cell_feature_matrix.h5", half, "cell_feature_matrix.h5 cannot be read"),
        ("xenium", "experiment.xenium", half, "experiment.xenium cannot be read"),
        ("xenium", "experiment.xenium", text(lambda t: "[]"), "not a JSON object but a list"),
        ("merscope", "cell_metadata.csv", None, "has no cell_metadata.csv(.gz) or"),
        ("merscope", "cell_by_gene.csv", None, "has no cell_by_gene.csv(.gz);"),
        ("merscope", "cell_metadata.csv", swap("center_x", "x"), "have the columns center_x (it has: EntityID, fov"),
        ("merscope", "cell_metadata.csv", text(lambda t: ""), "cell_metadata.csv cannot be read"),
        ("merscope", "cell_by_gene.csv", text(lambda t: ""), "has no column of counts (it has: nothing)"),
        ("merscope", "cell_by_gene.csv", text(lambda t: "cell,Blank-1\n1,2\n"), "no column of counts (it has: cell"),
        ("merscope", "cell_by_gene.csv", text(lambda t: t.split("\n")[0] + "\n"), "has a header and no rows"),
        ("merscope", "cell_by_gene.csv", text(lambda t: t[:-9]), "row 110 has not as many values as the header"),
        ("merscope", "cell_by_gene.csv", swap(",0,", ",,"), "row 1 holds '' in the column 'Gene0005'"),
        ("merscope", "cell_by_gene.csv", swap(",0,", ",x,"), "row 1 holds 'x' in the column 'Gene0005'"),
        ("merscope", "cell_by_gene.csv", text(lambda t: t + t.split("\n")[1]), "more than once in the counts"),
        ("merscope", "cell_by_gene.csv", text(lambda t: t.replace("\n27", "\n99")), "share no name (first: '99"),
        ("cosmx", COSMX.format("metadata"), None, "has no metadata_file.csv(.gz) or"),
        ("cosmx", COSMX.format("exprMat"), half, "Run5642_S3_exprMat_file.csv.gz cannot be read"),
        ("cosmx", COSMX.format("exprMat"), swap("cell_ID", "cell"), "does not have the columns fov and cell_ID"),
        ("slideseq", "BeadLocationsForR.csv", None, "has no BeadLocationsForR.csv(.gz) or"),
        ("slideseq", "BeadLocationsForR.csv", swap("xcoord", "east"), "does not have the columns xcoord"),
        ("stereoseq", GEF, half, "C04.cellbin.gef cannot be read"),
    ],
)
def test_what_is_missing_or_damaged_is_said_in_one_line(
    name: str,
    file: str,
    change: Callable[[bytes], bytes] | None,
    said: str,
    tissue: AnnData,
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    WRITERS[name](tmp_path / "run", tissue)
    path = tmp_path / "run" / file
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content))
    assert said in refused(stmfg.read, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.move("cellBin", "other"), "is HDF5 but not GEF (it holds other)"),
        (lambda f: f.move("cellBin/cellExp", "x"), "C04.cellbin.gef cannot be read"),
        (lambda f: (f.move("cellBin", "x"), f.create_group("geneExp/bin7")), "bins that stMFG can use (it has: bin7)"),
    ],
)
def test_what_is_wrong_in_a_gef(
    change: Callable[[h5py.File], Any], said: str, tissue: AnnData, tmp_path: Path, refused: Callable[..., str]
) -> None:
    write_cell_gef(tmp_path / "C04.cellbin.gef", tissue)
    with h5py.File(tmp_path / "C04.cellbin.gef", "a") as file:
        change(file)
    assert said in refused(stmfg.read, tmp_path)


def test_two_chips_are_two_samples(tissue: AnnData, tmp_path: Path, refused: Callable[..., str]) -> None:
    for name in ("C04", "D01"):
        write_cell_gef(tmp_path / f"{name}.cellbin.gef", tissue)
    write_square_gef(tmp_path / "C04.merge.gef", tissue)  # of the first
    assert "several samples (C04.cellbin.gef, D01.cellbin.gef); give the file of one" in refused(stmfg.read, tmp_path)
    assert stmfg.read(tmp_path / "C04.cellbin.gef").n_obs == tissue.n_obs

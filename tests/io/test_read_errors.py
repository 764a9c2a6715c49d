"""What is wrong with a file or folder is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import pandas as pd
import pytest

from _data import slide, write_mtx, write_zarr
from stmfg import read

MATRIX, POSITIONS = "filtered_feature_bc_matrix.h5", "spatial/tissue_positions_list.csv"


def _no_h5(path: Path) -> Path:
    (path / MATRIX).unlink()
    return path


def _truncate(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _bad_mtx(outs: Path, name: str, content: bytes | None) -> Path:
    folder = _no_h5(outs) / "filtered_feature_bc_matrix"
    write_mtx(folder, slide()["barcode"].tolist(), zipped=False)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return outs


def _text(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def _h5ad(outs: Path) -> Path:
    read(outs).write_h5ad(outs / "a.h5ad")
    return outs / "a.h5ad"


def _broken_zarr(outs: Path) -> Path:
    write_zarr(read(outs), outs / "a.zarr")
    for path in (outs / "a.zarr" / "X").rglob("*"):
        if path.is_file():
            path.write_text("{")
    return outs / "a.zarr"


def _folder(path: Path, *children: str) -> Path:
    path.mkdir()
    for child in children:
        (path / child).mkdir(parents=True)
    return path


def _positions(outs: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    change(slide()).to_csv(outs / POSITIONS, header=False, index=False)
    return outs


def _edit_h5(outs: Path, change: Callable[[h5py.File], None]) -> Path:
    with h5py.File(outs / MATRIX, "a") as file:
        change(file)
    return outs


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda o: o / "nowhere", "no such file or folder; give an .h5ad file"),
        (lambda o: o / ("x" * 300), "check name and permissions"),
        (lambda o: _text(o / "a.txt", "hello"), "file of a kind stMFG does not read; give an .h5ad"),
        (lambda o: _text(o / "a.tar.gz", "hello"), "does not read (unpack it, and give the folder)"),
        (lambda o: _text(o / "x" / "a.h5", "hello"), "a matrix without positions: put it into a folder with spatial/"),
        (lambda o: _text(o / "a.h5ad", "a,b\n1,2\n"), "a.h5ad as h5ad cannot be read"),
        (lambda o: _text(o / "a.h5ad", ""), "a.h5ad as h5ad cannot be read"),
        (lambda o: _truncate(_h5ad(o)), "check that the copy is complete"),
        (lambda o: (o / MATRIX).rename(o / "a.h5ad"), "a.h5ad is HDF5 but not AnnData (it holds matrix)"),
        (_broken_zarr, "a.zarr as AnnData zarr cannot be read"),
        (lambda o: _folder(o / "e.zarr", "c"), "e.zarr is zarr but not AnnData or SpatialData (it holds c)"),
        (lambda o: _folder(o / "empty"), "empty is an empty folder"),
        (lambda o: _folder(o / "other", "stuff"), "folder of a kind stMFG does not read (it holds stuff)"),
        (lambda o: _folder(o / "hd", "binned_outputs/square_008um"), "hd/binned_outputs/square_008um"),
        (_no_h5, "has no filtered_feature_bc_matrix.h5(.gz) or filtered_feature_bc_matrix/ or"),
        (lambda o: _truncate(o / MATRIX).parent, "filtered_feature_bc_matrix.h5 cannot be read"),
        (lambda o: _edit_h5(o, lambda f: f.move("matrix/indptr", "matrix/x")), "cannot be read"),
        (lambda o: _edit_h5(o, lambda f: f.move("matrix", "g") or f.create_group("h")), "holds 2 genomes (g, h)"),
        (
            lambda o: _edit_h5(o, lambda f: f["matrix/features/feature_type"].__setitem__(..., b"Custom")),
            "no 'Gene Expression' features (it has: Custom)",
        ),
        (lambda o: _bad_mtx(o, "matrix.mtx", b"nonsense"), "filtered_feature_bc_matrix cannot be read"),
        (lambda o: _bad_mtx(o, "matrix.mtx", None), "filtered_feature_bc_matrix has no matrix.mtx(.gz)"),
        (lambda o: _bad_mtx(o, "barcodes.tsv", b"AAAC-1\n"), "matrix.mtx has 60 spots of 6 genes, but 1 and 6 names"),
        (lambda o: _bad_mtx(o, "barcodes.tsv.gz", b"not gzip"), "filtered_feature_bc_matrix cannot be read"),
        (lambda o: (o / POSITIONS).unlink() or o, "outs or spatial/ has no tissue_positions.csv(.gz) or"),
        (lambda o: _positions(o, lambda t: t.drop(columns="array_row")), "does not have the columns barcode, in"),
        (lambda o: _positions(o, lambda t: t.assign(array_row="x")), "tissue_positions_list.csv cannot be read"),
        (lambda o: _positions(o, lambda t: t.where(t["array_row"] < 5)), "is empty or has empty values"),
        (lambda o: _positions(o, lambda t: pd.concat([t, t[:1]])), "lists the barcode 'AAAC000-1' more than once"),
        (lambda o: _positions(o, lambda t: t.assign(in_tissue=0)), "none of 60 spots is in tissue"),
        (
            lambda o: _positions(o, lambda t: t.assign(barcode="T" + t["barcode"])),
            "share no name (first: 'AAAC000-1' and 'TAAAC000-1')",
        ),
        (lambda o: _text(o / "spatial" / "tissue_positions.csv", "").parents[1], "tissue_positions.csv cannot be read"),
        (lambda o: _text(o / "spatial" / "scalefactors_json.json", "{").parents[1], "scalefactors_json.json cannot be"),
        (lambda o: _text(o / "spatial" / "scalefactors_json.json", "[]").parents[1], "not a JSON object but a list"),
    ],
)
def test_errors(outs: Path, make: Callable[[Path], Path], expected: str, refused: Callable[..., str]) -> None:
    assert expected in refused(read, make(outs))

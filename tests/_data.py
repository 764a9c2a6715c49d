"""Data for tests: where the shared development data lies, and Space Ranger folders written exactly as the real ones."""

from __future__ import annotations

import gzip
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from _tenx import write_10x_h5, write_10x_mtx

N_ROWS, N_COLS = 6, 10  # of the slide; array_col runs over every other number, as on a Visium slide
SYMBOLS = ["GAPDH", "NA", "TBCE", "TBCE", "CD3", "HSPA14"]  # "NA" is a name, TBCE is there twice
KINDS = ["Gene Expression"] * 4 + ["Antibody Capture", "Gene Expression"]
FACTORS = {"spot_diameter_fullres": 90.0, "tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.05}

_REPOSITORY = Path(__file__).resolve().parents[1]


def data_file(name: str) -> Path:
    """Return a file or folder of the development data, or skip the test where it is absent.

    Looked for in ``$STMFG_DATA``, then in ``../shared/data`` beside the repository.
    """
    folders = [_REPOSITORY.parent / "shared" / "data"]
    if "STMFG_DATA" in os.environ:
        folders.insert(0, Path(os.environ["STMFG_DATA"]))
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"development data {name} is in none of: {', '.join(map(str, folders))} (set STMFG_DATA)")


def slide() -> pd.DataFrame:
    """All spots; the first row of the slide is out of tissue."""
    row, i = np.divmod(np.arange(N_ROWS * N_COLS), N_COLS)
    column = 2 * i + row % 2
    barcodes = [f"{'ACGT'[r % 4]}{'ACGT'[c % 4]}AC{k:03d}-1" for k, (r, c) in enumerate(zip(row, i, strict=True))]
    table = pd.DataFrame({"barcode": barcodes, "in_tissue": (row > 0).astype(int), "array_row": row})
    return table.assign(array_col=column, pxl_row_in_fullres=500 + 120 * row, pxl_col_in_fullres=900 + 70 * column)


def matrix(n_spots: int) -> sparse.csr_matrix:
    """Counts, (n_spots, 6); sparse enough to have empty entries."""
    return sparse.csr_matrix(np.random.default_rng(0).poisson(1.0, (n_spots, 6)))


def write_h5(path: Path, barcodes: list[str]) -> None:
    write_10x_h5(path, matrix(len(barcodes)), barcodes, SYMBOLS, KINDS)
    with h5py.File(path, "a") as file:
        file.attrs["library_ids"] = np.array([b"V10-A1"])
        file.attrs["chemistry_description"] = "Spatial 3' v1"
        file.attrs["software_version"] = "spaceranger-1.2.2"


def write_legacy_h5(path: Path, barcodes: list[str]) -> None:
    """Write a 10x HDF5 matrix as Cell Ranger 2 did: one group a genome, no feature types."""
    write_10x_h5(path, matrix(len(barcodes)), barcodes, SYMBOLS)
    with h5py.File(path, "a") as file:
        file.move("matrix", "GRCh38")
        group = file["GRCh38"]
        group["genes"], group["gene_names"] = group["features/id"][()], group["features/name"][()]
        del group["features"]


def write_mtx(folder: Path, barcodes: list[str], *, zipped: bool = True) -> None:
    write_10x_mtx(folder, matrix(len(barcodes)), barcodes, SYMBOLS, KINDS, zipped=zipped)


def write_positions(spatial: Path, version: int | str) -> None:
    """Write positions as Space Ranger 1, as 2 and 3, or as Visium HD ("hd") does."""
    # Space Ranger lists the spots in another order than the matrix.
    table = slide().sample(frac=1, random_state=0)
    if version == 1:
        table.to_csv(spatial / "tissue_positions_list.csv", header=False, index=False)
    elif version == "hd":
        table.to_parquet(spatial / "tissue_positions.parquet", index=False)
    else:
        table.to_csv(spatial / "tissue_positions.csv", index=False)


def write_space_ranger(folder: Path, version: int | str, matrix: str = "h5", *, zipped: bool = True) -> Path:
    """Write an ``outs`` folder with the matrix as ``"h5"``, as folder ``"mtx"``, or ``"both"``; no images."""
    (folder / "spatial").mkdir(parents=True)
    barcodes = slide()["barcode"].tolist()
    if matrix != "mtx":
        write_h5(folder / "filtered_feature_bc_matrix.h5", barcodes)
    if matrix != "h5":
        write_mtx(folder / "filtered_feature_bc_matrix", barcodes, zipped=zipped)
    write_positions(folder / "spatial", version)
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(FACTORS))
    return folder


def write_zarr(adata: AnnData, path: Path, version: int = 3) -> None:
    """Write a zarr store of either format; anndata and zarr warn of both, each of what the other lacks."""
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        adata.write_zarr(path)


def text(change: Callable[[str], str]) -> Callable[[bytes], bytes]:
    """Change the text in a file, compressed or not."""

    def edit(content: bytes) -> bytes:
        packed = content.startswith(b"\x1f\x8b")
        edited = change((gzip.decompress(content) if packed else content).decode()).encode()
        return gzip.compress(edited) if packed else edited

    return edit

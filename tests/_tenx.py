"""Folders of 10x Genomics' software, made from simulated tissue."""

from __future__ import annotations

import gzip
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import zarr
from anndata import AnnData
from PIL import Image
from scipy import io, sparse

CONTROLS = {
    "NegControlProbe_00042": "Negative Control Probe",
    "antisense_PROKR2": "Negative Control Probe",
    "NegControlCodeword_0500": "Negative Control Codeword",
    "UnassignedCodeword_0001": "Unassigned Codeword",
}
Expected = pd.DataFrame


def expected(section: AnnData, ids: list[str], xy: np.ndarray | None = None) -> Expected:
    xy = section.obsm["spatial"] if xy is None else xy
    return pd.DataFrame(np.asarray(xy, float), index=pd.Index(ids, dtype=object), columns=["x", "y"])


def background(n: int, m: int) -> sparse.csr_matrix:
    """Counts of controls: where there are any, a reader has left none in by chance."""
    return sparse.csr_matrix(1 + np.random.default_rng(5).poisson(1.0, (n, m)))


GENES = "Gene Expression"


def write_10x_h5(
    path: Path, counts: sparse.csr_matrix, barcodes: list[str], names: list[str], kinds: list[str] | None = None
) -> None:
    """Write a 10x HDF5 matrix, genes by cells, as Cell Ranger 3 and later do."""
    with h5py.File(path, "w") as file:
        for name, values in {
            "barcodes": np.array(barcodes, "S"),
            "data": counts.data.astype(np.int32),
            "indices": counts.indices.astype(np.int64),
            "indptr": counts.indptr.astype(np.int64),
            "shape": np.array(counts.shape[::-1], np.int32),
            "features/id": np.array(gene_ids(names), "S"),
            "features/name": np.array(names, "S"),
            "features/feature_type": np.array(kinds or [GENES] * len(names), "S"),
            "features/genome": np.array(["GRCh38"] * len(names), "S"),
            "features/_all_tag_keys": np.array(["genome"], "S"),
        }.items():
            file[f"matrix/{name}"] = values


def write_10x_mtx(
    folder: Path,
    counts: sparse.csr_matrix,
    barcodes: list[str],
    names: list[str],
    kinds: list[str] | None = None,
    *,
    zipped: bool = True,
) -> None:
    """Write the same as a folder of three files."""
    folder.mkdir()
    io.mmwrite(folder / "matrix.mtx", counts.T.astype(np.int64))
    features = zip(gene_ids(names), names, kinds or [GENES] * len(names), strict=True)
    (folder / "features.tsv").write_text("".join("\t".join(line) + "\n" for line in features))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in barcodes))
    for path in list(folder.iterdir()) if zipped else []:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


def gene_ids(names: list[str]) -> list[str]:
    return [f"ENSG{i:011d}" for i in range(len(names))]


def check(adata: AnnData, section: AnnData, expected: Expected) -> None:
    """Compare what was read with what was written, whatever the order of the spots."""
    assert sorted(adata.obs_names) == sorted(expected.index)
    assert list(adata.var_names) == list(section.var_names)
    assert sparse.isspmatrix_csr(adata.X)
    assert adata.X.dtype == np.float32
    assert adata.obsm["spatial"].dtype == np.float64
    same = adata[expected.index]
    np.testing.assert_array_equal(same.X.toarray(), section.X.toarray())
    np.testing.assert_allclose(same.obsm["spatial"], expected.to_numpy())


def _write_spatial(folder: Path, factors: dict[str, float]) -> None:
    """Write scale factors and small images."""
    (folder / "spatial").mkdir(parents=True, exist_ok=True)
    factors = factors | {"tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.05}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    for name, size in (("hires", 24), ("lowres", 6)):
        Image.new("RGB", (size, size), (200, 180, 190)).save(folder / "spatial" / f"tissue_{name}_image.png")


def write_visium(
    folder: Path, section: AnnData, *, h5: bool = True, matrix: str = "filtered_feature_bc_matrix", number: int = 1
) -> Expected:
    """Write an ``outs`` folder of Space Ranger 3; a raw matrix has the spots beside the tissue, too."""
    folder.mkdir(parents=True)
    n, beside = section.n_obs, 7 if matrix.startswith("raw") else 0
    row, column = np.divmod(np.arange(n + 7), 10)
    barcodes = ["".join("ACGT"[i // 4**k % 4] for k in range(16)) + f"-{number}" for i in range(n + 7)]
    table = pd.DataFrame({"barcode": barcodes, "in_tissue": (np.arange(n + 7) < n).astype(int), "array_row": row})
    table["array_col"] = 2 * column + row % 2
    table["pxl_row_in_fullres"], table["pxl_col_in_fullres"] = 5000 + 120 * row, 900 + 70 * table["array_col"]
    counts = sparse.vstack([section.X, background(7, section.n_vars)[:beside]], format="csr")
    if h5:
        write_10x_h5(folder / f"{matrix}.h5", counts, barcodes[: n + beside], list(section.var_names))
        with h5py.File(folder / f"{matrix}.h5", "a") as file:
            file.attrs["library_ids"] = np.array([b"V10-A1"])
    else:
        write_10x_mtx(folder / matrix, counts, barcodes[: n + beside], list(section.var_names))
    _write_spatial(folder, {"spot_diameter_fullres": 90.0})
    # Space Ranger lists the spots in another order than the matrix.
    table.sample(frac=1, random_state=0).to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    return expected(section, barcodes[:n], table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()[:n])


def write_aggregated(folder: Path, section: AnnData, names: tuple[str, ...] = ("LV123", "LB456")) -> Expected:
    """Write what ``spaceranger aggr`` makes of capture areas: every area has half of the spots, at the same places."""
    parts = np.array_split(np.arange(section.n_obs), len(names))
    written = []
    for number, (name, part) in enumerate(zip(names, parts, strict=True), 1):
        written.append(write_visium(folder / "areas" / name, section[part].copy(), number=number))
    expected = pd.concat(written)
    write_10x_h5(folder / "filtered_feature_bc_matrix.h5", section.X, list(expected.index), list(section.var_names))
    tables = [pd.read_csv(folder / "areas" / name / "spatial" / "tissue_positions.csv") for name in names]
    pd.concat(tables).to_csv(folder / "aggr_tissue_positions.csv", index=False)
    pd.DataFrame({"library_id": names, "molecule_h5": "x.h5"}).to_csv(folder / "aggregation.csv", index=False)
    (folder / "spatial").mkdir()
    for name in names:
        (folder / "areas" / name / "spatial" / "tissue_positions.csv").unlink()
        (folder / "areas" / name / "spatial").rename(folder / "spatial" / name)
        (folder / "areas" / name / "filtered_feature_bc_matrix.h5").unlink()
        (folder / "areas" / name).rmdir()
    (folder / "areas").rmdir()
    return expected


def write_hd_cells(folder: Path, section: AnnData) -> Expected:
    """Write the cells of a Visium HD run by Space Ranger 4: counts by cell, outlines as GeoJSON."""
    cells = folder / "segmented_outputs"
    cells.mkdir(parents=True)
    numbers = 3 * np.arange(section.n_obs) + 2  # not all numbers are cells
    ids = [f"cellid_{number:09d}-1" for number in numbers]
    write_10x_h5(cells / "filtered_feature_cell_matrix.h5", section.X, ids, list(section.var_names))
    features = []
    xy = section.obsm["spatial"] + [4000, 9000]
    for number, (x, y) in zip([*numbers[::-1], 1], [*xy[::-1], (0, 0)], strict=True):  # one more than in the matrix
        ring = [[x - 3, y - 2], [x + 3, y - 2], [x + 3, y], [x + 3, y + 2], [x - 3, y + 2], [x - 3, y - 2]]
        about = {"cell_id": int(number), "classification": {"name": "Cluster 1"}}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": about})
    outlines = json.dumps({"type": "FeatureCollection", "features": features})
    (cells / "cell_segmentations.geojson").write_text(outlines)
    (cells / "nucleus_segmentations.geojson").write_text(outlines)
    _write_spatial(cells, {"microns_per_pixel": 0.27, "regist_target_img_scalef": 0.2})
    return expected(section, ids, xy)


def write_visium_hd(folder: Path, section: AnnData, sizes: tuple[int, ...] = (2, 8, 16)) -> Expected:
    """Write a Visium HD folder; every bin size has the same counts and its own names and positions."""
    (folder / "spatial").mkdir(parents=True)  # the images of the whole slide
    with h5py.File(folder / "feature_slice.h5", "w") as file:
        layout = json.dumps({"file_format": "1.0", "transform": np.eye(3).tolist()})
        file.attrs["metadata_json"] = json.dumps({"sample_id": "s", "hd_layout_json": layout})
    for size in sizes:
        bins = folder / "binned_outputs" / f"square_{size:03d}um"
        (bins / "spatial").mkdir(parents=True)
        row, column = np.divmod(np.arange(section.n_obs), 20)
        ids = [f"s_{size:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row, column, strict=True)]
        write_10x_h5(bins / "filtered_feature_bc_matrix.h5", section.X, ids, list(section.var_names))
        xy = np.column_stack([100 + 3.5 * size * column, 900 + 3.5 * size * row])
        positions = pd.DataFrame({"barcode": ids, "in_tissue": 1, "array_row": row, "array_col": column})
        positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = xy[:, 1], xy[:, 0]
        positions.to_parquet(bins / "spatial" / "tissue_positions.parquet", index=False)
        factors = {"spot_diameter_fullres": 3.5 * size, "bin_size_um": size, "microns_per_pixel": 1 / 3.5}
        factors |= {"tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.02}
        (bins / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    return expected(section, ids, xy)


def write_xenium(folder: Path, section: AnnData, *, h5: bool = True, parquet: bool = True) -> Expected:
    """Write what a Xenium run has of cells: the matrix and the table in one of two forms each."""
    folder.mkdir(parents=True)
    letters = np.array(list("abcdefghijklmnop"))
    numbers = np.random.default_rng(3).integers(0, 16, (section.n_obs, 8))
    ids = ["".join(letters[each]) + "-1" for each in numbers]
    names, kinds = [*section.var_names, *CONTROLS], [GENES] * section.n_vars + list(CONTROLS.values())
    counts = sparse.hstack([section.X, background(section.n_obs, len(CONTROLS))], format="csr")
    if h5:
        write_10x_h5(folder / "cell_feature_matrix.h5", counts, ids, names, kinds)
    else:
        write_10x_mtx(folder / "cell_feature_matrix", counts, ids, names, kinds)
    total = np.asarray(section.X.sum(axis=1)).ravel().astype(np.int64)
    cells = pd.DataFrame({"cell_id": ids, "x_centroid": section.obsm["spatial"][:, 0]})
    cells["y_centroid"], cells["transcript_counts"] = section.obsm["spatial"][:, 1], total
    for name in ("control_probe_counts", "control_codeword_counts", "unassigned_codeword_counts"):
        cells[name] = 1
    cells["total_counts"], cells["cell_area"], cells["nucleus_area"] = total + 3, 80.0, 20.0
    if parquet:
        cells.to_parquet(folder / "cells.parquet", index=False)
    else:
        cells.to_csv(folder / "cells.csv.gz", index=False)
    _write_cells_zarr(folder / "cells.zarr.zip", numbers)
    said = {"major_version": 5, "run_name": "run 7", "region_name": "cortex", "panel_name": "Human Brain"}
    said |= {"analysis_sw_version": "xenium-3.0.0.15", "pixel_size": 0.2125, "num_cells": section.n_obs}
    (folder / "experiment.xenium").write_text(json.dumps(said))
    return expected(section, ids)


def _write_cells_zarr(path: Path, digits: np.ndarray) -> None:
    """Write what Xenium keeps of cells besides: their ids as a number and a suffix, from their hexadecimal digits."""
    prefix = digits.astype(np.uint64) @ (np.uint64(16) ** np.arange(7, -1, -1, dtype=np.uint64))
    with zarr.storage.ZipStore(path, mode="w") as store, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr rewrites the attributes, which a zip file keeps twice
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group["cell_id"] = np.column_stack([prefix, np.ones_like(prefix)]).astype(np.uint32)
        group["cell_summary"] = np.ones((len(digits), 2))
        group["cell_summary"].attrs["column_names"] = ["z_level", "nucleus_count"]

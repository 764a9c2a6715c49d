"""Folders as instruments write them, made from simulated tissue; spatialdata-io reads them, too.

Every function writes a folder and returns what reading it should give: x and y of each spot, bead or cell by its name,
in the order of the section, of which gene and counts are those of the section.
"""

from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
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


def _expected(section: AnnData, ids: list[str], xy: np.ndarray | None = None) -> Expected:
    xy = section.obsm["spatial"] if xy is None else xy
    return pd.DataFrame(np.asarray(xy, float), index=pd.Index(ids, dtype=object), columns=["x", "y"])


def _background(n: int, m: int) -> sparse.csr_matrix:
    """Counts of controls: where there are any, a reader has left none in by chance."""
    return sparse.csr_matrix(1 + np.random.default_rng(5).poisson(1.0, (n, m)))


def _write_10x_h5(path: Path, counts: sparse.csr_matrix, barcodes: list[str], kinds: dict[str, str]) -> None:
    """Write a 10x HDF5 matrix, genes by cells."""
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name, values in {
            "barcodes": np.array(barcodes, "S"),
            "data": counts.data.astype(np.int32),
            "indices": counts.indices.astype(np.int64),
            "indptr": counts.indptr.astype(np.int64),
            "shape": np.array(counts.shape[::-1], np.int32),
            "features/id": np.array([f"ENSG{i:011d}" for i in range(len(kinds))], "S"),
            "features/name": np.array(list(kinds), "S"),
            "features/feature_type": np.array(list(kinds.values()), "S"),
            "features/genome": np.array(["GRCh38"] * len(kinds), "S"),
            "features/_all_tag_keys": np.array(["genome"], "S"),
        }.items():
            group[name] = values


def _write_10x_mtx(folder: Path, counts: sparse.csr_matrix, barcodes: list[str], kinds: dict[str, str]) -> None:
    """Write the same as a folder of three gzipped files."""
    folder.mkdir()
    io.mmwrite(folder / "matrix.mtx", counts.T.astype(np.int64))
    features = [f"ENSG{i:011d}\t{name}\t{kind}\n" for i, (name, kind) in enumerate(kinds.items())]
    (folder / "features.tsv").write_text("".join(features))
    (folder / "barcodes.tsv").write_text("".join(f"{name}\n" for name in barcodes))
    for path in list(folder.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


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
    counts = sparse.vstack([section.X, _background(7, section.n_vars)[:beside]], format="csr")
    write = (
        (lambda *a: _write_10x_h5(folder / f"{matrix}.h5", *a))
        if h5
        else (lambda *a: _write_10x_mtx(folder / matrix, *a))
    )
    write(counts, barcodes[: n + beside], dict.fromkeys(section.var_names, "Gene Expression"))
    if h5:
        with h5py.File(folder / f"{matrix}.h5", "a") as file:
            file.attrs["library_ids"] = np.array([b"V10-A1"])
    _write_spatial(folder, {"spot_diameter_fullres": 90.0})
    # Space Ranger lists the spots in another order than the matrix.
    table.sample(frac=1, random_state=0).to_csv(folder / "spatial" / "tissue_positions.csv", index=False)
    return _expected(section, barcodes[:n], table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()[:n])


def write_aggregated(folder: Path, section: AnnData, names: tuple[str, ...] = ("LV123", "LB456")) -> Expected:
    """Write what ``spaceranger aggr`` makes of capture areas: every area has half of the spots, at the same places."""
    parts = np.array_split(np.arange(section.n_obs), len(names))
    written = []
    for number, (name, part) in enumerate(zip(names, parts, strict=True), 1):
        written.append(write_visium(folder / "areas" / name, section[part].copy(), number=number))
    expected = pd.concat(written)
    _write_10x_h5(
        folder / "filtered_feature_bc_matrix.h5",
        section.X,
        list(expected.index),
        dict.fromkeys(section.var_names, "Gene Expression"),
    )
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
    kinds = dict.fromkeys(section.var_names, "Gene Expression")
    _write_10x_h5(cells / "filtered_feature_cell_matrix.h5", section.X, ids, kinds)
    features = []
    xy = section.obsm["spatial"] + [4000, 9000]
    for number, (x, y) in zip([*numbers[::-1], 1], [*xy[::-1], (0, 0)], strict=True):  # one more than in the matrix
        ring = [[x - 3, y - 2], [x + 3, y - 2], [x + 3, y], [x + 3, y + 2], [x - 3, y + 2], [x - 3, y - 2]]
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"cell_id": int(number), "classification": {"name": "Cluster 1"}},
            }
        )
    outlines = json.dumps({"type": "FeatureCollection", "features": features})
    (cells / "cell_segmentations.geojson").write_text(outlines)
    (cells / "nucleus_segmentations.geojson").write_text(outlines)
    _write_spatial(cells, {"microns_per_pixel": 0.27, "regist_target_img_scalef": 0.2})
    return _expected(section, ids, xy)


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
        kinds = dict.fromkeys(section.var_names, "Gene Expression")
        _write_10x_h5(bins / "filtered_feature_bc_matrix.h5", section.X, ids, kinds)
        xy = np.column_stack([100 + 3.5 * size * column, 900 + 3.5 * size * row])
        positions = pd.DataFrame({"barcode": ids, "in_tissue": 1, "array_row": row, "array_col": column})
        positions["pxl_row_in_fullres"], positions["pxl_col_in_fullres"] = xy[:, 1], xy[:, 0]
        positions.to_parquet(bins / "spatial" / "tissue_positions.parquet", index=False)
        factors = {"spot_diameter_fullres": 3.5 * size, "bin_size_um": size, "microns_per_pixel": 1 / 3.5}
        factors |= {"tissue_hires_scalef": 0.2, "tissue_lowres_scalef": 0.02}
        (bins / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    return _expected(section, ids, xy)


def write_xenium(folder: Path, section: AnnData, *, h5: bool = True, parquet: bool = True) -> Expected:
    """Write what a Xenium run has of cells: the matrix and the table in one of two forms each."""
    folder.mkdir(parents=True)
    letters = np.array(list("abcdefghijklmnop"))
    numbers = np.random.default_rng(3).integers(0, 16, (section.n_obs, 8))
    ids = ["".join(letters[each]) + "-1" for each in numbers]
    kinds = dict.fromkeys(section.var_names, "Gene Expression") | CONTROLS
    counts = sparse.hstack([section.X, _background(section.n_obs, len(CONTROLS))], format="csr")
    if h5:
        _write_10x_h5(folder / "cell_feature_matrix.h5", counts, ids, kinds)
    else:
        _write_10x_mtx(folder / "cell_feature_matrix", counts, ids, kinds)
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
    return _expected(section, ids)


def _write_cells_zarr(path: Path, digits: np.ndarray) -> None:
    """Write what Xenium keeps of cells besides: their ids as a number and a suffix, from their hexadecimal digits."""
    prefix = digits.astype(np.uint64) @ (np.uint64(16) ** np.arange(7, -1, -1, dtype=np.uint64))
    with zarr.storage.ZipStore(path, mode="w") as store, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr rewrites the attributes, which a zip file keeps twice
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group["cell_id"] = np.column_stack([prefix, np.ones_like(prefix)]).astype(np.uint32)
        group["cell_summary"] = np.ones((len(digits), 2))
        group["cell_summary"].attrs["column_names"] = ["z_level", "nucleus_count"]


def write_merscope(folder: Path, section: AnnData, *, first: str = "EntityID") -> Expected:
    """Write a region of a MERSCOPE run; older software leaves the header of the first column empty."""
    folder.mkdir(parents=True)
    ids = [str(2716456800031100000 + 7 * i) for i in range(section.n_obs)]  # more digits than a float has
    table = pd.DataFrame(section.X.toarray().astype(int), index=pd.Index(ids), columns=section.var_names)
    blanks = pd.DataFrame(_background(section.n_obs, 2).toarray(), index=ids, columns=["Blank-1", "Blank-20"])
    counts = pd.concat([table, blanks], axis=1)
    counts.to_csv(folder / "cell_by_gene.csv", index_label="cell" if first else "")
    x, y = section.obsm["spatial"].T
    cells = pd.DataFrame({"fov": 12, "volume": 900.5, "center_x": x, "center_y": y, "min_x": x - 5, "max_x": x + 5})
    cells = cells.assign(min_y=y - 5, max_y=y + 5).set_axis(ids, axis=0)
    cells.to_csv(folder / "cell_metadata.csv", index_label=first)
    (folder / "images").mkdir()
    np.savetxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv", np.diag([9.26, 9.26, 1.0]))
    return _expected(section, ids)


def write_cosmx(folder: Path, section: AnnData, *, gz: bool = True, beside: bool = False) -> Expected:
    """Write the flat files of a CosMx run; newer ones have other names of the cell beside its numbers."""
    folder.mkdir(parents=True)
    x, y = section.obsm["spatial"].T
    fov = 1 + (x > np.median(x)) + 9 * (y > np.median(y))
    number = pd.Series(fov).groupby(fov).cumcount().to_numpy() + 1  # cells are counted anew in every field
    names = [*section.var_names, "NegPrb3", "Negative12", "SystemControl7", "FalseCode9"]
    counts = sparse.hstack([section.X, _background(section.n_obs, 4)]).toarray().astype(int)
    frame = pd.DataFrame(counts, columns=names)
    frame.insert(0, "fov", fov)
    frame.insert(1, "cell_ID", number)
    outside = pd.DataFrame({"fov": np.unique(fov), "cell_ID": 0} | dict.fromkeys(names, 3))
    matrix = pd.concat([outside, frame]).sort_values("fov", kind="stable")
    if beside:
        matrix.insert(2, "cell", "c_1_" + matrix["fov"].astype(str) + "_" + matrix["cell_ID"].astype(str))
    end = ".csv.gz" if gz else ".csv"
    matrix.to_csv(folder / f"Run5642_S3_exprMat_file{end}", index=False)
    metadata = pd.DataFrame({"fov": fov, "cell_ID": number, "Area": 4000, "AspectRatio": 0.9})
    metadata["CenterX_local_px"], metadata["CenterY_local_px"] = (x % 5000).round(), (y % 3000).round()
    metadata["CenterX_global_px"], metadata["CenterY_global_px"] = x, y
    if beside:
        metadata["cell_id"] = [f"c_1_{f}_{c}" for f, c in zip(fov, number, strict=True)]
    metadata.to_csv(folder / f"Run5642_S3_metadata_file{end}", index=False)
    places = pd.DataFrame({"fov": np.unique(fov), "x_global_px": 0.0, "y_global_px": 0.0})
    places.to_csv(folder / f"Run5642_S3_fov_positions_file{end}", index=False)
    for images in ("CellComposite", "CellLabels"):
        (folder / images).mkdir()
    ids = [f"{f}_{c}" for f, c in zip(fov, number, strict=True)]
    return _expected(section, ids)


def write_slideseq(folder: Path, section: AnnData, *, text: bool = False) -> Expected:
    """Write a puck: the table for R of the first pipeline, or what Drop-seq's tools write."""
    folder.mkdir(parents=True)
    ids = _beads(section.n_obs)
    table = pd.DataFrame(section.X.T.toarray().astype(int), index=section.var_names, columns=ids)
    if text:
        with gzip.open(folder / "Puck_200115_08.digital_expression.txt.gz", "wt") as file:
            file.write("#DGE_HEADER\tVERSION:2.3.0\tEXPRESSION_FORMAT:raw\n")
            table.to_csv(file, sep="\t", index_label="GENE")
    else:
        table.to_csv(folder / "MappedDGEForR.csv", index_label="Row")
    x, y = section.obsm["spatial"].T
    beads = pd.DataFrame({"barcodes": ids, "xcoord": x, "ycoord": y})
    beads.to_csv(folder / "BeadLocationsForR.csv", index=False)
    return _expected(section, ids)


def _write_mtx(folder: Path, names: tuple[str, str, str], section: AnnData, ids: list[str]) -> None:
    """Write a Matrix Market file, and the names of its columns and rows."""
    folder.mkdir(parents=True, exist_ok=True)
    io.mmwrite(folder / names[0], section.X.T.astype(np.int64))
    (folder / names[1]).write_text("".join(f"{each}\n" for each in ids))
    (folder / names[2]).write_text("".join(f"{each}\n" for each in section.var_names))


def _beads(n: int) -> list[str]:
    bases = np.array(list("ACGT"))
    return ["".join(each) for each in bases[np.random.default_rng(4).integers(0, 4, (n, 14))]]


def write_matched_slideseq(folder: Path, section: AnnData, *, matching: bool = False) -> Expected:
    """Write a puck by the later pipeline: matched beads as Matrix Market, their places without header."""
    ids, puck = _beads(section.n_obs), "Puck_210824_02"
    names = tuple(f"{puck}.matched.digital_expression_{end}" for end in ("matrix.mtx", "barcodes.tsv", "features.tsv"))
    _write_mtx(folder, names, section, [f"{each}-1" for each in ids])
    (folder / "barcode_matching").mkdir()
    beads = pd.DataFrame({"bead": ids, "x": section.obsm["spatial"][:, 0], "y": section.obsm["spatial"][:, 1]})
    if matching:  # several barcodes were read from a bead
        beads = pd.concat([beads, beads[::2]])
        beads.insert(0, "read", [f"N{each}" for each in beads["bead"]])
    name = f"{puck}_barcode_{'matching' if matching else 'xy'}.txt.gz"
    beads.to_csv(folder / "barcode_matching" / name, sep="\t", header=False, index=False)
    return _expected(section, ids)


def write_curio(folder: Path, section: AnnData) -> Expected:
    """Write a puck by Curio's pipeline."""
    ids = _beads(section.n_obs)
    names = ("sample1_MoleculesPerMatchedBead.mtx", "sample1_barcodes.tsv", "sample1_genes.tsv")
    _write_mtx(folder, names, section, ids)
    places = pd.DataFrame(section.obsm["spatial"], index=ids, columns=["SPATIAL_1", "SPATIAL_2"])
    places.to_csv(folder / "sample1_MatchedBeadLocation.csv")
    return _expected(section, ids)


def write_gem(path: Path, section: AnnData, *, cells: bool = False, new: bool = True) -> Expected:
    """Write GEM text: a line for every gene seen at a spot, as many spots of an observation as it has molecules."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row, column = np.divmod(np.arange(section.n_obs), 9)
    corners = np.column_stack([50 * (40 + column), 50 * (300 + row)])
    X = section.X.tocoo()
    one = X.data > 1  # the last molecule in another corner of the square
    table = pd.DataFrame({"of": np.r_[X.row, X.row[one]], "gene": np.r_[X.col, X.col[one]]})
    table["count"] = np.r_[X.data - one, np.ones(one.sum())].astype(int)
    table["x"] = corners[table["of"], 0] + np.r_[np.zeros(len(X.data)), np.full(one.sum(), 49)].astype(int)
    table["y"] = corners[table["of"], 1] + np.r_[np.zeros(len(X.data)), np.full(one.sum(), 49)].astype(int)
    out = pd.DataFrame({"geneID": [f"ENSMUSG{i:011d}" for i in table["gene"]]})
    if new:
        out["geneName"] = section.var_names[table["gene"]]
    else:
        out["geneID"] = section.var_names[table["gene"]]
    out["x"], out["y"], out["MIDCount" if new else "MIDCounts"] = table["x"], table["y"], table["count"]
    out["ExonCount"] = 0
    ids = [f"{x}_{y}" for x, y in corners]
    xy: np.ndarray = corners.astype(float)
    if cells:
        out["CellID"] = table["of"] + 1
        ids = [str(i + 1) for i in range(section.n_obs)]
        xy = table.groupby("of")[["x", "y"]].mean().to_numpy()
        out = pd.concat([out, out[:5].assign(CellID=0)])
    header = "#FileFormat=GEMv0.1\n#SortedBy=None\n#BinSize=1\n#OffsetX=0\n#OffsetY=0\n"
    text = header + out.to_csv(sep="\t", index=False)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return _expected(section, ids, xy)


def _compound(fields: dict[str, tuple[str, object]]) -> np.ndarray:
    n = max(np.size(values) for _, values in fields.values())
    array = np.zeros(n, dtype=[(name, kind) for name, (kind, _) in fields.items()])
    for name, (_, values) in fields.items():
        array[name] = values
    return array


def _gene_fields(names: pd.Index, *, new: bool, old_name: str) -> dict[str, tuple[str, object]]:
    """Return the names as GEF has them, by version: an identifier and a symbol, or one of both."""
    text = np.array(names, "S64")
    ids = np.array([f"ENSMUSG{i:011d}" for i in range(len(names))], "S64")
    return {"geneID": ("S64", ids), "geneName": ("S64", text)} if new else {old_name: ("S32", text)}


def write_cell_gef(path: Path, section: AnnData, *, new: bool = True) -> Expected:
    """Write a cell bin GEF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    xy = section.obsm["spatial"].round().astype(int)
    X, n_genes = section.X.tocsr(), np.diff(section.X.indptr)
    ids = 10 + 3 * np.arange(section.n_obs)  # not all numbers are cells
    of_genes = section.X.tocsc()
    cell = {"id": ("<u4", ids), "x": ("<i4", xy[:, 0]), "y": ("<i4", xy[:, 1]), "offset": ("<u4", X.indptr[:-1])}
    cell |= {"geneCount": ("<u2", n_genes), "expCount": ("<u2", np.asarray(X.sum(axis=1)).ravel())}
    cell |= {"dnbCount": ("<u2", 120), "area": ("<u2", 300), "cellTypeID": ("<u2", 0), "clusterID": ("<u2", 0)}
    gene = _gene_fields(section.var_names, new=new, old_name="geneName") | {
        "offset": ("<u4", of_genes.indptr[:-1]),
        "cellCount": ("<u4", np.diff(of_genes.indptr)),
        "expCount": ("<u4", np.asarray(X.sum(axis=0)).ravel()),
        "maxMIDcount": ("<u2", of_genes.max(axis=0).toarray().ravel()),
    }
    kind = "<u4" if new else "<u2"
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.array([2], "<u4")
        file.attrs["resolution"] = np.array([500], "<u4")
        file["cellBin/cell"] = _compound(cell)
        file["cellBin/gene"] = _compound(gene)
        file["cellBin/cellExp"] = _compound({"geneID": (kind, X.indices), "count": ("<u2", X.data)})
        file["cellBin/geneExp"] = _compound({"cellID": ("<u4", of_genes.indices), "count": ("<u2", of_genes.data)})
        border = np.full((section.n_obs, 32, 2), 32767, "<i2")
        border[:, :4] = [(-3, -3), (3, -3), (3, 3), (-3, 3)]  # from the centre; the rest is padding
        file["cellBin/cellBorder"] = border
        for name in ("cell", "gene", "cellExp", "geneExp"):
            file[f"cellBin/{name}Exon"] = np.zeros(len(file[f"cellBin/{name}"]), "<u2")
        file["cellBin/blockIndex"] = np.array([0, section.n_obs], "<u4")
        file["cellBin/blockSize"] = np.array([256, 256, 1, 1], "<u4")
        file["cellBin/cellTypeList"] = np.array(["default"], "S32")
    return _expected(section, [str(i) for i in ids], xy)


def write_saw(folder: Path, section: AnnData) -> Expected:
    """Write the folders of SAW 7: cells, squares under tissue, and its own clusters of the cells."""
    write_square_gef(folder / "02.count" / "C04.raw.gef", section, (1,), new=False)
    write_square_gef(folder / "04.tissuecut" / "C04.gef", section, (50, 100), new=False)
    (folder / "03.register").mkdir()
    (folder / "051.cellcluster").mkdir()
    clusters = AnnData(section.X, obs=pd.DataFrame(index=[str(i) for i in range(section.n_obs)]))
    clusters.write_h5ad(folder / "051.cellcluster" / "C04.cell.cluster.h5ad")
    return write_cell_gef(folder / "041.cellcut" / "C04.cellbin.gef", section, new=False)


def write_square_gef(
    path: Path, section: AnnData, bins: tuple[int, ...] = (1, 20, 50, 100), *, size: int = 50, new: bool = True
) -> Expected:
    """Write a square bin GEF file in which each observation of the section is one square of the given size.

    Of smaller bins each count is split over two places in the square, of larger ones it is left where it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    row, column = np.divmod(np.arange(section.n_obs), 9)
    corners = np.column_stack([size * (40 + column), size * (300 + row)])  # x, y
    of_genes = section.X.tocsc()
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.array([2], "<u4")
        for width in bins:
            inside = [(0, 0)] if width >= size else [(0, 0), (size - width, size - width)]
            x, y, count, of = [], [], [], []
            for j in range(section.n_vars):
                part = slice(of_genes.indptr[j], of_genes.indptr[j + 1])
                for k, (dx, dy) in enumerate(inside):
                    half = of_genes.data[part] // len(inside) if k == 0 else -(-of_genes.data[part] // len(inside))
                    there = half > 0
                    x.append(corners[of_genes.indices[part][there], 0] + dx)
                    y.append(corners[of_genes.indices[part][there], 1] + dy)
                    count.append(half[there])
                    of.append(np.full(there.sum(), j))
            lengths = np.bincount(np.concatenate(of), minlength=section.n_vars)
            fields = {name: ("<i4", np.concatenate(each)) for name, each in (("x", x), ("y", y))}
            expression = _compound(fields | {"count": ("u1", np.concatenate(count))})
            gene = _gene_fields(section.var_names, new=new, old_name="gene")
            gene |= {"offset": ("<u4", np.cumsum(lengths) - lengths), "count": ("<u4", lengths)}
            file[f"geneExp/bin{width}/expression"] = expression
            file[f"geneExp/bin{width}/expression"].attrs["resolution"] = np.array([500], "<u4")
            file[f"geneExp/bin{width}/gene"] = _compound(gene)
    return _expected(section, [f"{x}_{y}" for x, y in corners], corners)


WRITERS: dict[str, Callable[[Path, AnnData], Expected]] = {
    "visium": write_visium,
    "visiumhd": write_visium_hd,
    "xenium": write_xenium,
    "merscope": write_merscope,
    "cosmx": write_cosmx,
    "slideseq": write_slideseq,
    "stereoseq": lambda folder, section: write_cell_gef(folder / "feature_expression" / "C04.cellbin.gef", section),
}
"""A folder of every platform by its name."""

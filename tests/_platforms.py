"""Folders as instruments write them, made from simulated tissue; spatialdata-io reads them, too.

Every function writes a folder and returns what reading it should give: x and y of each spot, bead or cell by its name,
in the order of the section, of which gene and counts are those of the section.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import io, sparse

from _tenx import (
    Expected,
    background,
    expected,
    write_aggregated,
    write_hd_cells,
    write_visium,
    write_visium_hd,
    write_xenium,
)


def write_merscope(folder: Path, section: AnnData, *, first: str = "EntityID") -> Expected:
    """Write a region of a MERSCOPE run; older software leaves the header of the first column empty."""
    folder.mkdir(parents=True)
    ids = [str(2716456800031100000 + 7 * i) for i in range(section.n_obs)]  # more digits than a float has
    table = pd.DataFrame(section.X.toarray().astype(int), index=pd.Index(ids), columns=section.var_names)
    blanks = pd.DataFrame(background(section.n_obs, 2).toarray(), index=ids, columns=["Blank-1", "Blank-20"])
    counts = pd.concat([table, blanks], axis=1)
    counts.to_csv(folder / "cell_by_gene.csv", index_label="cell" if first else "")
    x, y = section.obsm["spatial"].T
    cells = pd.DataFrame({"fov": 12, "volume": 900.5, "center_x": x, "center_y": y, "min_x": x - 5, "max_x": x + 5})
    cells = cells.assign(min_y=y - 5, max_y=y + 5).set_axis(ids, axis=0)
    cells.to_csv(folder / "cell_metadata.csv", index_label=first)
    (folder / "images").mkdir()
    np.savetxt(folder / "images" / "micron_to_mosaic_pixel_transform.csv", np.diag([9.26, 9.26, 1.0]))
    return expected(section, ids)


def write_cosmx(folder: Path, section: AnnData, *, gz: bool = True, beside: bool = False) -> Expected:
    """Write the flat files of a CosMx run; newer ones have other names of the cell beside its numbers."""
    folder.mkdir(parents=True)
    x, y = section.obsm["spatial"].T
    fov = 1 + (x > np.median(x)) + 9 * (y > np.median(y))
    number = pd.Series(fov).groupby(fov).cumcount().to_numpy() + 1  # cells are counted anew in every field
    names = [*section.var_names, "NegPrb3", "Negative12", "SystemControl7", "FalseCode9"]
    counts = sparse.hstack([section.X, background(section.n_obs, 4)]).toarray().astype(int)
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
    return expected(section, ids)


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
    return expected(section, ids)


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
    return expected(section, ids)


def write_curio(folder: Path, section: AnnData) -> Expected:
    """Write a puck by Curio's pipeline."""
    ids = _beads(section.n_obs)
    names = ("sample1_MoleculesPerMatchedBead.mtx", "sample1_barcodes.tsv", "sample1_genes.tsv")
    _write_mtx(folder, names, section, ids)
    places = pd.DataFrame(section.obsm["spatial"], index=ids, columns=["SPATIAL_1", "SPATIAL_2"])
    places.to_csv(folder / "sample1_MatchedBeadLocation.csv")
    return expected(section, ids)


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
    return expected(section, ids, xy)


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
    return expected(section, [str(i) for i in ids], xy)


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
    X = section.X.tocoo()
    with h5py.File(path, "w") as file:
        file.attrs["version"] = np.array([2], "<u4")
        for width in bins:
            inside = [(0, 0)] if width >= size else [(0, 0), (size - width, size - width)]
            parts = []
            for (dx, dy), count in zip(inside, (X.data // len(inside), -(-X.data // 2)), strict=False):
                x, y = corners[X.row].T
                parts.append(pd.DataFrame({"gene": X.col, "x": x + dx, "y": y + dy, "count": count}))
            table = pd.concat(parts).query("count > 0").sort_values("gene", kind="stable")
            lengths = np.bincount(table["gene"], minlength=section.n_vars)
            kinds = {"x": "<i4", "y": "<i4", "count": "u1"}
            expression = _compound({name: (kind, table[name]) for name, kind in kinds.items()})
            gene = _gene_fields(section.var_names, new=new, old_name="gene")
            gene |= {"offset": ("<u4", np.cumsum(lengths) - lengths), "count": ("<u4", lengths)}
            file[f"geneExp/bin{width}/expression"] = expression
            file[f"geneExp/bin{width}/expression"].attrs["resolution"] = np.array([500], "<u4")
            file[f"geneExp/bin{width}/gene"] = _compound(gene)
    return expected(section, [f"{x}_{y}" for x, y in corners], corners)


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
FOLDERS = WRITERS | {
    "visiumhd without 16": partial(write_visium_hd, sizes=(2, 8)),
    "visiumhd cells": write_hd_cells,
    "visium mtx": partial(write_visium, h5=False),
    "visium raw": partial(write_visium, matrix="raw_feature_bc_matrix"),
    "visium aggregated": write_aggregated,
    "xenium text": partial(write_xenium, h5=False, parquet=False),
    "merscope before": partial(write_merscope, first=""),
    "cosmx with names": partial(write_cosmx, gz=False, beside=True),
    "slideseq text": partial(write_slideseq, text=True),
    "slideseq matched": write_matched_slideseq,
    "slideseq matched, barcodes": partial(write_matched_slideseq, matching=True),
    "slideseq curio": write_curio,
    "stereoseq by SAW 7": write_saw,
    "stereoseq squares": lambda f, t: write_square_gef(f / "C04.tissue.gef", t),
    "stereoseq squares before": lambda f, t: write_square_gef(f / "C04.gef", t, new=False),
    "stereoseq larger squares": lambda f, t: write_square_gef(f / "C04.gef", t, (1, 20, 100, 200), size=100),
    "stereoseq raw": lambda f, t: write_square_gef(f / "C04.raw.gef", t, (1,)),
    "stereoseq text": lambda f, t: write_gem(f / "C04.tissue.gem", t),
    "stereoseq text, packed": lambda f, t: write_gem(f / "C04.tissue.gem.gz", t),
    "stereoseq text of cells": lambda f, t: write_gem(f / "GEM_CellBin.tsv", t, cells=True, new=False),
}
"""Every form of the folders, the name of the platform in front."""

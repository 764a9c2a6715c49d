"""Public files to what the benchmark runs on: an AnnData without labels, and the labels.

Each function takes the files of one data set and returns counts (or an embedding) with ``obsm["spatial"]``, and a
series with one label a spot, missing where nobody annotated it. ``ValueError`` tells that a file is not as expected.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import rdata
import scanpy as sc
from scipy import sparse

Annotated = tuple[ad.AnnData, pd.Series]
# Space Ranger 1: no header.
POSITIONS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row", "pxl_col")


def dlpfc(counts: Path, positions: Path, layers: Path, *, section: str) -> Annotated:
    """Human prefrontal cortex: Space Ranger's matrix and positions, the layers of all sections in one table."""
    table = pd.read_csv(layers, sep="\t", names=["barcode", "section", "layer"], dtype=str)
    table = table[table["section"] == section].set_index("barcode")["layer"]
    with positions.open("rb") as file:
        return _visium(counts, _positions(file), table)


def breast(counts: Path, positions: Path, regions: Path) -> Annotated:
    """Human breast cancer: Space Ranger's matrix, its ``spatial`` folder as an archive, a table of regions."""
    with tarfile.open(positions) as archive:
        member = next((m for m in archive if m.name.endswith("tissue_positions_list.csv")), None)
        file = archive.extractfile(member) if member else None
        if file is None:
            raise ValueError(f"{positions.name} has no tissue_positions_list.csv")
        table = _positions(file)
    return _visium(counts, table, pd.read_csv(regions, sep="\t", index_col="ID", dtype=str)["fine_annot_type"])


def starmap_visual_cortex(counts: Path, layers: Path) -> Annotated:
    """Mouse visual cortex: the cells that have a type, their layers by hand."""
    adata = ad.read_h5ad(counts)
    adata = adata[adata.obs["cluster_name"].notna()]
    table = pd.read_csv(layers, index_col=0, dtype={0: str})
    return _bare(adata.X, adata.obs_names, adata.var_names, adata.obs[["x", "y"]], table["smoothed_manual"])


def starmap_cortex(data: Path, *, section: str) -> Annotated:
    """Mouse prefrontal cortex: lists of counts (genes x cells) and of tables of cells, one entry a section."""
    found = rdata.read_rda(data)
    counts, cells = _table(found["starmap_cnts"][section]), found["starmap_info"][section]
    return _bare(counts.T.to_numpy(), counts.columns, counts.index, cells[["x", "y"]], cells["z"])


def merfish(data: Path, *, section: str) -> Annotated:
    """Mouse hypothalamus. Its values are scaled by volume, no counts: components as its annotators took them.

    Totals made equal, log2, genes standardised, 20 components.
    """
    found = rdata.read_rda(data)
    values, cells = _table(found["cnts_mult"][section]), found["info_mult"][section]
    adata = ad.AnnData(values.T.astype(np.float32))
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata, base=2)
    sc.pp.scale(adata)
    sc.pp.pca(adata, n_comps=min(20, adata.n_vars - 1), random_state=0)
    no_counts = sparse.csr_matrix((adata.n_obs, 0), dtype=np.float32)
    bare, labels = _bare(no_counts, adata.obs_names, [], cells[["x", "y"]], cells["z"])
    bare.obsm["X_pca"] = adata.obsm["X_pca"]
    return bare, labels


def osmfish(data: Path) -> Annotated:
    """Mouse somatosensory cortex, a loom file (genes x cells): the cells its authors call valid."""
    with h5py.File(data) as file:
        cells = {key: file["col_attrs"][key][:] for key in ("CellID", "X", "Y", "Valid", "Region")}
        genes, counts = file["row_attrs"]["Gene"].asstr()[:], file["matrix"][:].T
    names = np.asarray([c.decode() if isinstance(c, bytes) else str(c) for c in cells["CellID"]])
    regions = pd.Series([r.decode() for r in cells["Region"]], index=names)
    valid = cells["Valid"] == 1
    positions = pd.DataFrame({"x": cells["X"], "y": cells["Y"]}, index=names)
    return _bare(counts[valid], names[valid], genes, positions[valid], regions[regions != "Excluded"])


def _table(matrix: object) -> pd.DataFrame:
    """Return a matrix of R with names of rows and columns as a table."""
    if not hasattr(matrix, "to_pandas"):
        raise ValueError(f"a matrix was expected, not {type(matrix).__name__}")
    return matrix.to_pandas()


def _positions(file) -> pd.DataFrame:
    table = pd.read_csv(file, names=POSITIONS, index_col="barcode")
    return table.loc[table["in_tissue"] == 1, ["pxl_col", "pxl_row"]]


def _visium(counts: Path, positions: pd.DataFrame, labels: pd.Series) -> Annotated:
    with h5py.File(counts) as file:  # the sparse layout of Cell Ranger 3 and later: spots x genes, by rows
        part = file["matrix"]
        names, genes = part["barcodes"].asstr()[:], part["features"]["id"].asstr()[:]
        values = (part["data"][:], part["indices"][:], part["indptr"][:])
        X = sparse.csr_matrix(values, shape=(len(names), len(genes)))
    return _bare(X, names, genes, positions, labels)


def _bare(X, names, genes, positions: pd.DataFrame, labels: pd.Series) -> Annotated:
    """Put the parts together; positions and labels are matched by name."""
    names = pd.Index(np.asarray(names, dtype=str), name="spot")
    positions.index, labels.index = positions.index.astype(str), labels.index.astype(str)
    if missing := len(names.difference(positions.index)):
        raise ValueError(f"{missing} of {len(names)} spots have no position")
    X = sparse.csr_matrix(X, dtype=np.float32)
    if (X.data != np.rint(X.data)).any() or (X.data < 0).any():
        raise ValueError("the counts are not whole numbers")
    obs, var = pd.DataFrame(index=names), pd.DataFrame(index=pd.Index(np.asarray(genes, dtype=str)))
    adata = ad.AnnData(X, obs=obs, var=var)
    adata.obsm["spatial"] = positions.loc[names].to_numpy(np.float64)
    labels = labels.astype(str).where(labels.notna()).reindex(names)
    return adata, labels.rename("ground_truth")

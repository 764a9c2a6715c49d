"""Reading the matrices of 10x Genomics: HDF5, or a Matrix Market file with its two lists of names."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._core.blocks import check_indices
from stmfg.errors import InputError
from stmfg.io.guard import fits, hdf5, unpacked
from stmfg.io.platforms import entries
from stmfg.io.tables import AGAIN, Strings, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    Keep = Callable[[Strings], tuple[NDArray[np.bool_], NDArray[Any]]]

GENE_EXPRESSION: Final = "Gene Expression"
_HEADERS: Final = ("", "x", "v1", "0", "barcode", "barcodes", "cell", "gene", "genes", "gene_id", "id", "feature")
_ENTRIES: Final = 500_000
"""Entries of a matrix read at a time."""


def read_matrix(path: Path, keep: Keep | None = None) -> tuple[AnnData, dict[str, Any]]:
    """Read the counts of genes, CSR float32 (n_spots, n_genes), and the attributes of the file.

    The path is an HDF5 file of version 3 or older, a folder with ``matrix.mtx``, or that file. `keep` tells from the
    barcodes which to read, (n,), and how those are called. Antibodies, controls and the like are left out.
    """
    keep = keep or (lambda barcodes: (np.ones(len(barcodes), dtype=bool), barcodes.astype(object)))
    with reading(str(path), AGAIN):
        if path.is_dir():
            files = [file for file in entries(path) if re.search(r"matrix.*\.mtx(\.gz)?$", file.name.lower())]
            if not files:
                raise InputError(f"{path} has no matrix.mtx(.gz); {AGAIN}")
            path = files[-1]
        if ".mtx" in path.name.lower():
            return _read_mtx(path, keep), {}
        with unpacked(path) as plain:
            return _read_h5(plain, path, keep)


def _read_h5(plain: Path, path: Path, keep: Keep) -> tuple[AnnData, dict[str, Any]]:
    """Read HDF5 a block of spots at a time, so that what is left out takes no memory."""
    import h5py
    from scipy import sparse

    with h5py.File(plain, "r") as file:
        # Entries are read in parts; all else is read as a whole.
        fits({name: size for name, size in hdf5(file).items() if not name.endswith(("/data", "/indices"))}, path)
        if "matrix" in file:
            group = file["matrix"]
            ids, symbols, kinds = (_strings(group["features"][k]) for k in ("id", "name", "feature_type"))
        else:
            if len(file) != 1:
                raise InputError(f"{path} holds {len(file)} genomes ({', '.join(file)}); give a matrix of one genome")
            group = file[next(iter(file))]
            ids, symbols = _strings(group["genes"]), _strings(group["gene_names"])
            kinds = np.full(len(ids), GENE_EXPRESSION)
        # 10x stores genes x spots by column, which is spots x genes by row.
        barcodes, shape = _strings(group["barcodes"]), tuple(map(int, group["shape"][()][::-1]))
        _check_shape(path, shape, barcodes, ids)
        genes, (rows, names) = _genes(kinds), keep(barcodes)
        del barcodes
        starts = group["indptr"][()].astype(np.int64)
        lengths = np.diff(starts)
        n = len(group["data"])
        fitting = len(lengths) == len(rows) and (lengths >= 0).all() and starts[0] == 0
        if not fitting or starts[-1] != n != len(group["indices"]):
            raise InputError(f"{path} is damaged (its rows do not fit its entries); {AGAIN}")
        n_kept = int(lengths[rows].sum())
        fits({"counts": 8 * n_kept}, path)
        indices, data = np.empty(n_kept, dtype=np.int32), np.empty(n_kept, dtype=np.float32)
        column, row = np.where(genes, np.cumsum(genes) - 1, -1), np.cumsum(rows)
        in_row = np.zeros(int(rows.sum()) + 1, dtype=np.int64)  # from the second on
        first = end = 0
        while first < len(rows):
            last = max(first + 1, int(np.searchsorted(starts, starts[first] + _ENTRIES, side="right")) - 1)
            part = slice(starts[first], starts[last])
            of = group["indices"][part]
            if len(of) and not 0 <= int(of.min()) <= int(of.max()) < len(ids):
                raise InputError(f"{path} is damaged (it names genes that it does not have); {AGAIN}")
            spot = np.repeat(np.arange(first, last), lengths[first:last])
            used = rows[spot] & (column[of] >= 0)
            stop = end + int(used.sum())
            indices[end:stop], data[end:stop] = column[of[used]], group["data"][part][used]
            in_row += np.bincount(row[spot[used]], minlength=len(in_row))
            first, end = last, stop
        data.resize(end, refcheck=False)
        indices.resize(end, refcheck=False)
        X = sparse.csr_matrix((data, indices, np.cumsum(in_row)), shape=(len(in_row) - 1, int(genes.sum())))
        return _assemble(X, names, ids[genes], symbols[genes], kinds[genes]), dict(file.attrs)


def _read_mtx(path: Path, keep: Keep) -> AnnData:
    from scipy import io

    with unpacked(path) as plain:
        shape = io.mminfo(plain)[1::-1]
        barcodes = _names(path, shape[0], "barcodes")
        features = _names(path, shape[1], "features", "genes")
        ids = features[0].to_numpy(str)
        symbols = features[1].to_numpy(str) if features.shape[1] > 1 else ids
        kinds = features[2].to_numpy(str) if features.shape[1] > 2 else np.full(len(features), GENE_EXPRESSION)
        spots = barcodes[0].to_numpy(str)
        _check_shape(path, shape, spots, ids)
        genes, (rows, names) = _genes(kinds), keep(spots)
        X = io.mmread(plain).T.tocsr().astype(np.float32)[rows][:, genes]
    return _assemble(X, names, ids[genes], symbols[genes], kinds[genes])


def _names(matrix: Path, n: int, *kinds: str) -> pd.DataFrame:
    """Read a list of n names beside a Matrix Market file, which has what is before and behind its name in common."""
    parts = re.fullmatch(r"(.*)(?:matrix|MoleculesPerMatchedBead)(.*?)\.mtx(?:\.gz)?", matrix.name, re.IGNORECASE)
    before, after = parts.groups() if parts else ("", "")
    beside = {file.name.lower(): file for file in entries(matrix.parent)}
    exact = [f"{before}{kind}{after}.tsv{end}".lower() for kind in kinds for end in (".gz", "")]
    files = [beside[name] for name in exact if name in beside]
    if not files:  # of another name, if there is one only
        alike = re.compile(rf"(.*[-_. ])?({'|'.join(kinds)})([-_. ].*)?\.(tsv|txt)(\.gz)?")
        files = [file for name, file in beside.items() if alike.fullmatch(name)]
        if len(files) != 1:
            raise InputError(f"{matrix.parent} has no {before}{kinds[0]}{after}.tsv(.gz); {AGAIN}")
    # Plain text: there are genes called "NA", and a quote in a name quotes nothing.
    how: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}
    names: pd.DataFrame = pd.read_csv(files[0], sep="\t", encoding="utf-8-sig", **how)
    for column in names:
        if names[column].str.fullmatch('".*"').all():  # R quotes what it writes, and gives it a header
            names[column] = names[column].str[1:-1]
    is_header = len(names) == n + 1 and str(names.iat[0, 0]).lower() in _HEADERS
    return names[int(is_header) :]


def _check_shape(path: Path, shape: Sequence[int], barcodes: Strings, ids: Strings) -> None:
    """Check that a matrix is as large as it has names, before memory is taken for it."""
    if tuple(shape) != (len(barcodes), len(ids)):
        raise InputError(
            f"{path} has {shape[0]} spots of {shape[1]} genes, but {len(barcodes)} and {len(ids)} names; {AGAIN}"
        )


def _genes(kinds: Strings) -> NDArray[np.bool_]:
    genes = np.asarray(kinds == GENE_EXPRESSION)
    if not genes.any():
        present = ", ".join(np.unique(kinds)) or "none"
        raise InputError(f"the matrix has no {GENE_EXPRESSION!r} features (it has: {present}); give one that has")
    return genes


def _assemble(X: Any, barcodes: NDArray[Any], ids: Strings, symbols: Strings, kinds: Strings) -> AnnData:
    from anndata import AnnData

    var = pd.DataFrame({"gene_ids": ids, "feature_types": kinds}, index=pd.Index(symbols, dtype=object), dtype=object)
    X.sort_indices()
    adata = AnnData(check_indices(X, "the matrix"), obs=pd.DataFrame(index=pd.Index(barcodes, dtype=object)), var=var)
    adata.var_names_make_unique()
    return adata


def _strings(dataset: Any) -> Strings:
    """Return an HDF5 dataset of fixed or variable-length strings as text."""
    return np.char.decode(np.asarray(dataset[()], dtype=np.bytes_), "utf-8")

"""Reading Stereo-seq: GEF files, which are HDF5, and GEM, which is text with a line for every gene seen at a spot."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._core.blocks import check_indices
from stmfg._keys import PLATFORM
from stmfg.errors import InputError
from stmfg.io.guard import fits, hdf5, unpacked
from stmfg.io.tables import AGAIN, combine, read_header, reading

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg.io.platforms import Match

    Integers = NDArray[np.int64]

logger = logging.getLogger("stmfg")

_BIN: Final = 50  # spots, 25 micrometres: smaller squares have hardly a count
_LINES: Final = 5_000_000  # of text at a time
_GENES: Final = ("genename", "gene_name", "geneid", "gene_id", "gene")
_COUNTS: Final = ("midcount", "midcounts", "umicount", "umicounts", "count", "counts", "values")
_CELLS: Final = ("cellid", "cell_id", "cell", "label", "cell_label", "celllabel")
"""Names of columns, in lower case, the best first."""


def read_stereoseq(match: Match) -> AnnData:
    """Read the best file of a Stereo-seq run: cells, then what lies under tissue, then the whole chip."""
    best = match.need("counts").path
    others = ", ".join(file.path.name for file in match.files["counts"] if file.path != best)
    if others:
        logger.info("%s is taken; give the path of another to read that: %s", best.name, others)
    return read_gef(best) if ".gef" in best.name.lower() else read_gem(best)


def read_gef(path: Path) -> AnnData:
    """Read a GEF file: cells where it has them, else squares of 50 spots or the next larger size."""
    import h5py

    with reading(str(path)), unpacked(path) as plain, h5py.File(plain, "r") as file:
        fits(hdf5(file), path)
        if "cellBin" in file:
            return _read_cells(file, path)
        if "geneExp" in file:
            return _read_squares(file["geneExp"], path)
        present = ", ".join(sorted(file)[:5]) or "nothing"
        raise InputError(f"{path} is HDF5 but not GEF (it holds {present}); {AGAIN}")


def _read_cells(file: Any, path: Path) -> AnnData:
    from scipy import sparse

    cell, gene, expression = (file["cellBin"][name] for name in ("cell", "gene", "cellExp"))
    n_genes = cell["geneCount"].astype(np.int64)
    entries = _ranges(cell["offset"].astype(np.int64), n_genes)
    counts = expression["count"].astype(np.float32)[entries]
    arrays = (counts, expression["geneID"].astype(np.int64)[entries], np.cumsum([0, *n_genes]))
    X = check_indices(sparse.csr_matrix(arrays, shape=(len(n_genes), gene.shape[0])), str(path))
    positions = pd.DataFrame({"x": cell["x"], "y": cell["y"]}, index=cell["id"].astype(str))
    return _finish(X, positions, gene, path, "cells", file.attrs.get("resolution"))


def _read_squares(bins: Any, path: Path) -> AnnData:
    """Read the squares of a GEF file, summed from smaller ones where those are all there is."""
    from scipy import sparse

    sizes = sorted(int(name[3:]) for name in bins if name[:3] == "bin" and name[3:].isdigit())
    stored = next((size for size in sizes if size >= _BIN), None) or max(
        (size for size in sizes if _BIN % size == 0), default=None
    )
    if stored is None:
        raise InputError(f"{path} has no bins that stMFG can use (it has: {', '.join(bins) or 'none'}); {AGAIN}")
    size = max(stored, _BIN)
    gene, expression = (bins[f"bin{stored}"][name] for name in ("gene", "expression"))
    n_entries = gene["count"].astype(np.int64)
    entries = _ranges(gene["offset"].astype(np.int64), n_entries)
    x, y = (expression[axis].astype(np.int64)[entries] // size * size for axis in ("x", "y"))
    corners, rows = np.unique(np.stack([x, y], axis=1), axis=0, return_inverse=True)
    columns = np.repeat(np.arange(len(n_entries)), n_entries)
    counts = expression["count"].astype(np.float32)[entries]
    X = sparse.csr_matrix((counts, (rows.ravel(), columns)), shape=(len(corners), len(n_entries)))  # sums
    positions = pd.DataFrame(corners, index=[f"{i}_{j}" for i, j in corners])
    taken = f"bin{size}" if size == stored else f"bin{size}, summed from bin{stored}"
    return _finish(X, positions, gene, path, taken, expression.attrs.get("resolution"))


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """Return ``start, start + 1, ...`` of each start, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def _finish(X: Any, positions: pd.DataFrame, gene: Any, path: Path, taken: str, resolution: Any) -> AnnData:
    fields = gene.dtype.names
    names = np.char.decode(gene["geneName" if "geneName" in fields else "gene"], "utf-8")
    adata = combine(X, positions.index.to_numpy(str), names, positions, path)
    if "geneID" in fields:
        adata.var["gene_ids"] = np.char.decode(gene["geneID"], "utf-8").astype(object)
    apart = f", {int(np.ravel(resolution)[0])} nm apart" if resolution is not None else ""
    adata.uns[PLATFORM] = {"taken": f"{taken} of {path.name}", "unit": f"spots of the chip{apart}"}
    return adata


def read_gem(path: Path) -> AnnData:
    """Read GEM text: cells where it tells them, at the mean of their spots, else squares of 50 spots."""
    from scipy import sparse

    header = read_header(path)
    names = [name.lower() for name in header.names]
    gene, count, cell = (next((n for n in known if n in names), "") for known in (_GENES, _COUNTS, _CELLS))
    if not (gene and count and {"x", "y"} <= set(names)):
        present = ", ".join(header.names[:8])
        raise InputError(f"{path} does not have the columns geneID, x, y and MIDCount (it has: {present}); {AGAIN}")
    with reading(str(path)):
        used = [gene, "x", "y", count, *([cell] if cell else [])]
        types = {gene: str, "x": np.float64, "y": np.float64, count: np.float32, cell: np.float64}
        form: dict[str, Any] = {"sep": header.separator, "skiprows": header.lines, "names": names, "usecols": used}
        form |= {"dtype": types, "chunksize": _LINES, "keep_default_na": False}
        form |= {"na_values": {cell: ["", "NA", "nan"]}} if cell else {}
        genes: dict[str, int] = {}
        parts = []
        for lines in pd.read_csv(path, **form):
            if cell:
                lines = lines[lines[cell] > 0]  # 0 is what lies outside of cells
            codes, new = pd.factorize(lines[gene])
            numbers = np.array([genes.setdefault(str(name), len(genes)) for name in new], dtype=np.int64)
            key = lines[[cell]].set_axis(["id"], axis=1) if cell else lines[["x", "y"]] // _BIN * _BIN
            key = key.astype(np.int64).rename(columns={"x": "left", "y": "top"})
            part = key.assign(gene=numbers[codes], count=lines[count], x=lines["x"], y=lines["y"], n=1)
            parts.append(part.groupby([*key.columns, "gene"], as_index=False).sum())
        table = pd.concat(parts)
    keys = [name for name in ("id", "left", "top") if name in table]
    groups = table.groupby(keys)
    rows, sums = groups.ngroup().to_numpy(), groups[["x", "y", "n"]].sum()
    xy = sums[["x", "y"]].div(sums["n"], axis=0) if cell else sums.index.to_frame()
    ids = [str(each) if cell else f"{each[0]}_{each[1]}" for each in sums.index]
    X = sparse.csr_matrix((table["count"], (rows, table["gene"])), shape=(len(ids), len(genes)))  # sums
    named = np.array(list(genes))  # in the order of the file, which is any
    by_name = np.argsort(named)
    adata = combine(X[:, by_name], np.array(ids), named[by_name], xy.set_axis(ids, axis=0), path)
    taken = "cells" if cell else f"bin{_BIN}, summed from spots"
    adata.uns[PLATFORM] = {"taken": f"{taken} of {path.name}", "unit": "spots of the chip"}
    return adata

"""Reading what arrays of beads or spots finer than cells write: Slide-seq and Stereo-seq."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import pandas as pd

from stmfg._core.blocks import checked_indices
from stmfg._keys import PLATFORM
from stmfg.errors import InputError
from stmfg.io.guard import fits, hdf5, regular
from stmfg.io.tables import COPY, combine, header, one_file, read_table, read_wide, reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

logger = logging.getLogger("stmfg")

_BEAD_COLUMNS: Final = (("barcodes", "barcode"), ("xcoord", "x"), ("ycoord", "y"))  # by either name
GEM: Final = (".gem", ".gem.gz")
# Best first: cells, then what lies under tissue, then the whole chip. Cells that were grown after they were
# found hold more of their molecules.
_GEF: Final = (".adjusted.cellbin.gef", ".cellbin.gef", ".tissue.gef", ".gef", ".raw.gef")
_BIN: Final = 50  # spots, 25 micrometres: smaller squares have hardly a count


def read_slideseq(folder: Path, counts: Sequence[str], beads: Sequence[str]) -> AnnData:
    """Read a puck of Slide-seq: beads with their positions."""
    table, matrix = one_file(folder, beads), one_file(folder, counts)
    there = header(table)
    columns = [next((name for name in names if name in there), names[0]) for names in _BEAD_COLUMNS]
    positions = read_table(table, columns, text=columns[:1]).set_index(columns[0])
    wide = read_wide(matrix, 1, lambda _: False, separator="," if ".csv" in matrix.name else "\t")
    adata = combine(wide.values.T, wide.names, wide.keys[:, 0], positions, folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "as in the table of beads"}
    return adata


def read_stereoseq(folder: Path, patterns: Sequence[str]) -> AnnData:
    """Read the best GEF file of a Stereo-seq run."""
    found = [p for pattern in patterns for p in sorted(folder.glob(pattern))]
    ranked = sorted((_rank(p), p) for p in found if p.suffix == ".gef")
    if not ranked:
        if found:
            refuse_gem(found[0])
        raise InputError(f"{folder} has no .gef file; {COPY}")
    best = [p for rank, p in ranked if rank == ranked[0][0]]
    if len(best) > 1:
        names = ", ".join(p.relative_to(folder).as_posix() for p in best)
        raise InputError(f"{folder} holds several samples ({names}); give one of these files")
    if len(ranked) > 1:
        others = ", ".join(p.name for _, p in ranked[1:])
        logger.info("%s is taken; give the path of another to read that: %s", best[0].name, others)
    return read_gef(best[0])


def _rank(path: Path) -> int:
    """Return how far back a GEF file stands, by the longest end of its name that is known."""
    return _GEF.index(max((end for end in _GEF if path.name.endswith(end)), key=len))


def refuse_gem(path: Path) -> NoReturn:
    """Say how to convert a GEM file, which is text with a line for every molecule seen at a spot."""
    raise InputError(
        f"{path} is GEM text, which stMFG does not read; give the .gef beside it, or convert it with Stereopy: "
        f"stereo.io.stereo_to_anndata(stereo.io.read_gem({path.name!r}, bin_size={_BIN}), output='{path.name}.h5ad')"
    )


def read_gef(path: Path) -> AnnData:
    """Read a GEF file: cells where it has them, else squares of 50 spots or the next larger size."""
    import h5py

    with reading(str(path), COPY), h5py.File(regular(path), "r") as file:
        fits(hdf5(file), path)
        if "cellBin" in file:
            return _read_cells(file, path)
        if "geneExp" in file:
            return _read_squares(file["geneExp"], path)
        found = ", ".join(sorted(file)[:5]) or "nothing"
        raise InputError(f"{path} is HDF5 but not GEF (it holds {found}); {COPY}")


def _read_cells(file: Any, path: Path) -> AnnData:
    """Read the cells of a GEF file."""
    from scipy import sparse

    cell, gene, expression = (file["cellBin"][name] for name in ("cell", "gene", "cellExp"))
    n_genes = cell["geneCount"].astype(np.int64)
    entries = _ranges(cell["offset"].astype(np.int64), n_genes)
    counts = expression["count"].astype(np.float32)[entries]
    arrays = (counts, expression["geneID"].astype(np.int64)[entries], np.cumsum([0, *n_genes]))
    X = checked_indices(sparse.csr_matrix(arrays, shape=(len(n_genes), gene.shape[0])), str(path))
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
        raise InputError(f"{path} has no bins that stMFG can use (it has: {', '.join(bins) or 'none'}); {COPY}")
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
    """Put the parts of a GEF file together."""
    fields = gene.dtype.names
    names = np.char.decode(gene["geneName" if "geneName" in fields else "gene"], "utf-8")
    adata = combine(X, positions.index.to_numpy(str), names, positions, path)
    if "geneID" in fields:
        adata.var["gene_ids"] = np.char.decode(gene["geneID"], "utf-8").astype(object)
    apart = f", {int(np.ravel(resolution)[0])} nm apart" if resolution is not None else ""
    adata.uns[PLATFORM] = {"taken": f"{taken} of {path.name}", "unit": f"spots of the chip{apart}"}
    return adata

"""Reading what imaging instruments write as text: MERSCOPE and CosMx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from stmfg._keys import PLATFORM
from stmfg.errors import InputError
from stmfg.io.tables import COPY, combine, header, one_file, read_table, read_wide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData

_BLANKS: Final = "blank"  # barcodes that no gene has
# Probes without a target, barcodes without a probe: what they count is background.
_CONTROLS: Final = ("negprb", "negative", "systemcontrol", "falsecode")
_FIELD: Final = ("fov", "cell_ID")  # together they name a cell
_BESIDE: Final = ("", "cell", "cell_id")  # other names of it, which some versions put in front, too


def read_merscope(folder: Path, counts: Sequence[str], cells: Sequence[str]) -> AnnData:
    """Read a region of a MERSCOPE run: cells with their centres, without blank barcodes."""
    table, matrix = one_file(folder, cells), one_file(folder, counts)
    # The first column names the cell, under a header or none. The numbers are too long for a float.
    name = next(iter(header(table)), "") or "Unnamed: 0"
    positions = read_table(table, [name, "center_x", "center_y"], text=[name]).set_index(name)
    wide = read_wide(matrix, 1, lambda gene: gene.lower().startswith(_BLANKS))
    adata = combine(wide.values, wide.keys[:, 0], wide.names, positions, folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "micrometres"}
    return adata


def read_cosmx(folder: Path, counts: Sequence[str], cells: Sequence[str]) -> AnnData:
    """Read the flat files of a CosMx run: cells named ``fov_cell``, without control probes and background."""
    table, matrix = one_file(folder, cells), one_file(folder, counts)
    metadata = read_table(table, [*_FIELD, "CenterX_global_px", "CenterY_global_px"], text=_FIELD)
    positions = metadata.drop(columns=list(_FIELD)).set_index(metadata["fov"] + "_" + metadata["cell_ID"])

    names = header(matrix)
    if not set(_FIELD) <= set(names):
        raise InputError(f"{matrix} does not have the columns {' and '.join(_FIELD)}; {COPY}")
    n_keys = 1 + max(names.index(name) for name in (*_FIELD, *_BESIDE) if name in names)
    others = set(names[:n_keys]) - {*_FIELD, *_BESIDE}
    if others:
        raise InputError(f"{matrix} has {', '.join(sorted(others)[:3])} in front of what names the cell; {COPY}")
    wide = read_wide(matrix, n_keys, lambda gene: gene.lower().startswith(_CONTROLS))
    fov, cell = (wide.keys[:, names.index(name)] for name in _FIELD)
    inside = cell != "0"  # cell 0 of every field is what lies outside of cells
    ids = np.char.add(np.char.add(fov, "_"), cell)[inside]
    adata = combine(wide.values[inside], ids, wide.names, positions, folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "pixels of the whole slide"}
    return adata

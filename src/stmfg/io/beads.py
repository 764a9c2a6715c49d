"""Reading pucks of beads: Slide-seq, from its first pipeline to Curio's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pandas as pd

from stmfg._keys import PLATFORM
from stmfg.io.matrix10x import read_matrix
from stmfg.io.tables import combine, place, read_header, read_table, read_wide

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmfg.io.platforms import Match

_BEAD: Final = ("bead", "x", "y")
_COLUMNS: Final = (
    ("barcodes", "barcode", "bead", "bead_barcode", ""),
    ("xcoord", "x", "x_coord", "x_um", "spatial_1"),
    ("ycoord", "y", "y_coord", "y_um", "spatial_2"),
)
"""Each by one of these names."""


def read_slideseq(match: Match) -> AnnData:
    """Read a puck: beads with their positions."""
    matrix, table = match.need("counts").path, match.need("beads").path
    positions = _read_beads(table)
    if ".mtx" in matrix.name.lower():
        adata, _ = read_matrix(matrix)
        if not adata.obs_names.isin(positions.index).any():  # some versions number the beads' names: ACGT-1
            adata.obs_names = adata.obs_names.str.replace(r"-\d+$", "", regex=True)
        adata = place(adata, positions, match.folder)
    else:
        wide = read_wide(matrix, [0], lambda _: False)
        adata = combine(wide.values.T, wide.names, wide.keys[:, 0], positions, match.folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "as in the table of beads"}
    return adata


def _read_beads(path: Path) -> pd.DataFrame:
    """Read x and y of beads, with a header or without.

    ``barcode_xy.txt`` has no header, nor has ``barcode_matching.txt``, in which the barcode of a bead stands behind
    each barcode that was read from it.
    """
    cells = read_header(path).names
    names = [cell.strip().lower() for cell in cells]
    columns = [next((name for name in options if name in names), options[0]) for options in _COLUMNS]
    header = None
    if len(cells) >= 3 and all(re.fullmatch(r"[-+.\deE]+", cell.strip()) for cell in cells[-2:]):
        header = [*map(str, range(len(cells) - 3)), *_BEAD]
        columns = list(_BEAD)
    elif "matchedbeadlocation" in path.name.lower() and len(cells) == 3 and not {*columns} <= {*names}:
        columns = cells  # under names that mean nothing
    table = read_table(path, columns, text=columns[:1], header=header).set_axis(_BEAD, axis=1)
    positions: pd.DataFrame = (table if header is None else table.drop_duplicates()).set_index("bead")
    return positions

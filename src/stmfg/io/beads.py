"""Reading pucks of beads: Slide-seq, from its first pipeline to Curio's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pandas as pd

from stmfg._keys import PLATFORM
from stmfg.errors import InputError
from stmfg.io.matrix10x import read_matrix
from stmfg.io.tables import AGAIN, combine, open_text, place, read_wide, reading

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmfg.io.platforms import Match

_COLUMNS: Final = (("barcodes", "barcode", ""), ("xcoord", "x"), ("ycoord", "y"))  # each by one of these names


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
        wide = read_wide(matrix, 1, lambda _: False, separator="," if ".csv" in matrix.name.lower() else "\t")
        adata = combine(wide.values.T, wide.names, wide.keys[:, 0], positions, match.folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "as in the table of beads"}
    return adata


def _read_beads(path: Path) -> pd.DataFrame:
    """Read x and y of beads, with a header or without.

    ``barcode_xy.txt`` has no header, nor has ``barcode_matching.txt``, in which the barcode of a bead stands behind
    each barcode that was read from it.
    """
    with reading(str(path)):
        with open_text(path) as file:
            first = file.readline().rstrip("\r\n")
        cells = [cell.strip().strip('"') for cell in re.split("[\t,]", first)]
        if len(cells) >= 3 and all(re.fullmatch(r"[-+.\deE]+", cell) for cell in cells[-2:]):
            where, header = [len(cells) - 3, len(cells) - 2, len(cells) - 1], None
        else:
            names = [cell.lower() for cell in cells]
            by_name = [next((names.index(n) for n in options if n in names), -1) for options in _COLUMNS]
            missing = [options[0] for options, at in zip(_COLUMNS, by_name, strict=True) if at < 0]
            if "matchedbeadlocation" in path.name.lower() and len(cells) == 3:  # without names that mean anything
                by_name, missing = [0, 1, 2], []
            if missing:
                shown = ", ".join(cells[:8])
                raise InputError(f"{path} does not have the columns {', '.join(missing)} (it has: {shown}); {AGAIN}")
            where, header = by_name, 0
        separator = "\t" if "\t" in first else ","
        table = pd.read_csv(path, sep=separator, header=header, dtype={where[0]: str}, encoding="utf-8-sig")
        table = table.iloc[:, where].set_axis(["bead", "x", "y"], axis=1)
        table["bead"] = table["bead"].astype(str)
        if header is None:
            table = table.drop_duplicates()
        positions: pd.DataFrame = table.set_index("bead").apply(pd.to_numeric)
        return positions

"""Reading what imaging instruments write as text: MERSCOPE and CosMx."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from stmfg._keys import PLATFORM, SLICE
from stmfg.errors import InputError
from stmfg.io.tables import AGAIN, combine, read_header, read_table, read_wide

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmfg.io.platforms import Match

_BLANKS: Final = "blank"  # barcodes that no gene has
# Probes without a target, barcodes without a probe: what they count is background.
_CONTROLS: Final = ("negprb", "negative", "systemcontrol", "falsecode")
_FIELD: Final = ("fov", "cell_ID")  # together they name a cell of a slide
_BESIDE: Final = ("", "cell", "cell_id")  # other names of it, which some versions put in front, too
_SLIDES: Final = ("slide_ID", "slide_ID_numeric", "Run_Tissue_name")
_CENTRES: Final = (
    ("CenterX_global_px", "CenterY_global_px", "pixels of the whole slide"),
    ("x_slide_mm", "y_slide_mm", "millimetres"),
)


def read_merscope(match: Match) -> AnnData:
    """Read a region of a MERSCOPE run: cells with their centres, without blank barcodes."""
    matrix, table = match.need("counts").path, match.need("cells").path
    # The first column names the cell, under a header or none. The numbers are too long for a float.
    name = next(iter(read_header(table)), "") or "Unnamed: 0"
    positions = read_table(table, [name, "center_x", "center_y"], text=[name]).set_index(name)
    wide = read_wide(matrix, 1, lambda gene: gene.lower().startswith(_BLANKS))
    adata = combine(wide.values, wide.keys[:, 0], wide.names, positions, match.folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "micrometres"}
    return adata


def read_cosmx(match: Match) -> AnnData:
    """Read the flat files of a CosMx run: cells named ``fov_cell``, without control probes and background.

    An export of several slides counts fields and cells anew on each: its cells keep the name in the column ``cell``,
    and the slide is in ``obs["stmfg_slice"]``.
    """
    matrix, table = match.need("counts").path, match.need("cells").path
    columns = read_header(table)
    x, y, unit = next((each for each in _CENTRES if set(each[:2]) <= set(columns)), _CENTRES[0])
    more = [name for name in (*_BESIDE[1:], *_SLIDES) if name in columns]
    metadata = read_table(table, [*_FIELD, x, y, *more], text=[*_FIELD, *more])
    counts, cells = _read_cosmx_counts(matrix)
    in_counts, in_table = _unique_keys(cells, metadata, table)
    positions = metadata[[x, y]].set_index(_names(metadata, in_table))
    adata = combine(counts.values, _names(cells, in_counts).to_numpy(str), counts.names, positions, match.folder)
    if in_table:
        slides = next((metadata[name] for name in _SLIDES if name in more), None)
        slides = metadata[in_table].str.extract(r"^c_(.+?)_")[0] if slides is None else slides
        adata.obs[SLICE] = pd.Categorical(slides.set_axis(positions.index).reindex(adata.obs_names).fillna("unknown"))
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": unit}
    return adata


def _read_cosmx_counts(matrix: Path) -> tuple[Any, pd.DataFrame]:
    """Return counts and names of the cells; what lies outside of cells is left out."""
    names = read_header(matrix)
    if not set(_FIELD) <= set(names):
        raise InputError(f"{matrix} does not have the columns {' and '.join(_FIELD)}; {AGAIN}")
    n_keys = 1 + max(names.index(name) for name in (*_FIELD, *_BESIDE) if name in names)
    others = set(names[:n_keys]) - {*_FIELD, *_BESIDE}
    if others:
        raise InputError(f"{matrix} has {', '.join(sorted(others)[:3])} in front of what names the cell; {AGAIN}")
    wide = read_wide(matrix, n_keys, lambda gene: gene.lower().startswith(_CONTROLS))
    cells = pd.DataFrame(wide.keys, columns=names[:n_keys])
    inside = (cells["cell_ID"] != "0").to_numpy()  # cell 0 of every field is what lies outside of cells
    return wide._replace(values=wide.values[inside]), cells[inside]


def _unique_keys(cells: pd.DataFrame, metadata: pd.DataFrame, table: Path) -> tuple[str, str]:
    """Return the columns that name cells where field and number do not; nothing where they do."""
    if not any(frame.duplicated(list(_FIELD)).any() for frame in (cells, metadata)):
        return "", ""
    unique = [[k for k in _BESIDE[1:] if k in frame and frame[k].is_unique] for frame in (cells, metadata)]
    for one, other in itertools.product(*unique):
        if cells[one].isin(metadata[other]).any():
            return one, other
    raise InputError(
        f"{table} has the same fov and cell_ID more than once, and no column 'cell' of it and of the counts tells the "
        "cells apart; export each slide into a folder of its own"
    )


def _names(frame: pd.DataFrame, key: str) -> pd.Series[str]:
    return frame[key] if key else frame["fov"] + "_" + frame["cell_ID"]

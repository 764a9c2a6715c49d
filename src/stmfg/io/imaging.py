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
_CELL: Final = ("EntityID", "cell", "cell_id")
_FIELD: Final = ("fov", "cell_ID")  # together they name a cell of a slide
_NUMBERS: Final = "fov_cell"
_BESIDE: Final = ("cell", "cell_id")  # other names of it
_SLIDES: Final = ("slide_ID", "slide_ID_numeric", "Run_Tissue_name")
_CENTRES: Final = (
    ("CenterX_global_px", "CenterY_global_px", "pixels of the whole slide"),
    ("x_slide_mm", "y_slide_mm", "millimetres"),
)


def read_merscope(match: Match) -> AnnData:
    """Read a region of a MERSCOPE run: cells with their centres, without blank barcodes."""
    matrix, table = match.need("counts").path, match.need("cells").path
    columns, genes = read_header(table).names, read_header(matrix).names
    # The numbers are too long for a float. What the table of cells has, too, is no gene.
    name = _naming(columns)
    positions = read_table(table, [name, "center_x", "center_y"], text=[name]).set_index(name)
    key = genes.index(_naming(genes)) if genes else 0
    others = [i for i, gene in enumerate(genes) if gene in columns and i != key]
    wide = read_wide(matrix, [key, *others], lambda gene: gene.lower().startswith(_BLANKS))
    adata = combine(wide.values, wide.keys[:, 0], wide.names, positions, match.folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": "micrometres"}
    return adata


def _naming(columns: list[str]) -> str:
    """Return the column that names the cell: the first, unless that is a number of rows."""
    return next((name for name in _CELL if name in columns), next(iter(columns), ""))


def read_cosmx(match: Match) -> AnnData:
    """Read the flat files of a CosMx run: cells named ``fov_cell``, without control probes and background.

    An export of several slides may count fields and cells anew on each: its cells then have the name in the column
    ``cell``, or that of the slide in front. The slide is in ``obs["stmfg_slice"]``.
    """
    matrix, table = match.need("counts").path, match.need("cells").path
    columns = read_header(table).names
    lower = {name.lower() for name in columns}
    x, y, unit = next((each for each in _CENTRES if {each[0].lower(), each[1].lower()} <= lower), _CENTRES[0])
    more = [name for name in (*_BESIDE, *_SLIDES) if name in columns and (name != "cell_id" or "cell_ID" in columns)]
    metadata = read_table(table, [*_FIELD, x, y, *more], text=[*_FIELD, *more])
    counts, cells = _read_cosmx_counts(matrix, columns)
    for frame in (cells, metadata):
        frame[_NUMBERS] = frame["fov"] + "_" + frame["cell_ID"]
        for slide in set(_SLIDES) & set(frame):
            frame[slide + _NUMBERS] = frame[slide] + "_" + frame[_NUMBERS]
    in_counts, in_table = _keys(cells, metadata, table)
    positions = metadata.set_index(in_table)
    adata = combine(counts.values, cells[in_counts].to_numpy(str), counts.names, positions[[x, y]], match.folder)
    slides = next((positions[name] for name in _SLIDES if name in more and positions[name].nunique() > 1), None)
    if slides is None and in_table in _BESIDE:
        slides = positions.index.to_series().str.extract(r"^c_(.+?)_")[0]
    if slides is not None:
        adata.obs[SLICE] = pd.Categorical(slides.reindex(adata.obs_names).fillna("unknown"))
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {table.name}", "unit": unit}
    return adata


def _read_cosmx_counts(matrix: Path, described: list[str]) -> tuple[Any, pd.DataFrame]:
    """Return counts and names of the cells; what lies outside of cells is left out.

    Columns that the table of cells has, too, are no genes.
    """
    names = read_header(matrix).names
    by_case = {name.lower(): name for name in names}
    fields = [by_case.get(name.lower(), "") for name in _FIELD]
    if not all(fields):
        raise InputError(f"{matrix} does not have the columns {' and '.join(_FIELD)}; {AGAIN}")
    keys = [i for i, name in enumerate(names) if name in ("", *fields, *_BESIDE, *_SLIDES, *described)]
    wide = read_wide(matrix, keys, lambda gene: gene.lower().startswith(_CONTROLS))
    cells = pd.DataFrame(wide.keys, columns=[names[i] for i in keys])
    cells = cells.rename(columns=dict(zip(fields, _FIELD, strict=True)))
    inside = (cells["cell_ID"] != "0").to_numpy()  # cell 0 of every field is what lies outside of cells
    return wide._replace(values=wide.values[inside]), cells[inside].copy()


def _keys(cells: pd.DataFrame, metadata: pd.DataFrame, table: Path) -> tuple[str, str]:
    """Return the columns of counts and table that name the cells: field and number, or else one that is unique."""
    if not any(frame[_NUMBERS].duplicated().any() for frame in (cells, metadata)):
        return _NUMBERS, _NUMBERS
    unique = [[key for key in frame if frame[key].is_unique] for frame in (cells, metadata)]
    for groups in (_BESIDE, [slide + _NUMBERS for slide in _SLIDES]):
        for one, other in itertools.product(groups, groups):
            if one in unique[0] and other in unique[1] and cells[one].isin(metadata[other]).any():
                return one, other
    raise InputError(
        f"{table} has the same fov and cell_ID more than once, and no column 'cell' of it and of the counts tells the "
        "cells apart; export each slide into a folder of its own"
    )

"""Reading what 10x Genomics' software writes: Space Ranger (Visium and Visium HD) and Xenium."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._keys import PLATFORM, SLICE, SPATIAL
from stmfg.errors import InputError
from stmfg.io.guard import unpacked
from stmfg.io.matrix10x import read_matrix
from stmfg.io.outlines import read_centres
from stmfg.io.platforms import Match, recognise
from stmfg.io.tables import (
    AGAIN,
    as_text,
    match_names,
    open_text,
    place,
    read_header,
    read_table,
    reading,
    share_no_name,
)

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg.io.tables import Strings

logger = logging.getLogger("stmfg")

_COLUMNS: Final = ["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"]
_PIXELS: Final = "pixels of the full-resolution image"
_BINS: Final = ("square_016um", "square_008um")  # best first: smaller ones have hardly a count
_SAMPLES: Final = ("library_id", "sample_id")  # in aggregation.csv
_RUN: Final = ("run_name", "region_name", "panel_name", "analysis_sw_version")  # in experiment.xenium


def read_space_ranger(match: Match, *, images: bool) -> AnnData:
    """Read a folder of Space Ranger: spots, or bins of one size, under tissue."""
    matrix = match.need("counts").path
    # The small files first: what is wrong with them shows before the wait for the matrix.
    spots, about = _Spots(match), _read_library(match, images=images)
    adata, attrs = read_matrix(matrix, spots.under_tissue)
    spots.place(adata)
    _give_library(adata, match, about, attrs)
    adata.uns[PLATFORM] = {"taken": matrix.name, "unit": _PIXELS}
    return adata


def read_aggregated(match: Match, *, images: bool) -> AnnData:
    """Read what ``spaceranger aggr`` makes of several capture areas: slices, told apart by the ends of the barcodes."""
    matrix = match.need("counts").path
    spots = _Spots(match)
    adata, _ = read_matrix(matrix, spots.under_tissue)
    spots.place(adata)
    numbers = adata.obs_names.str.extract(r"-(\d+)$")[0].fillna("1").astype(int).to_numpy()
    names = [str(number) for number in range(1, numbers.max() + 1)]
    table = match.path("samples")
    if table is not None:
        with reading(str(table)):
            columns = read_header(table).names
            column = next((name for name in columns if name.lower() in _SAMPLES), columns[0])
            names = read_table(table, [column], text=[column])[column].tolist()
        if len(set(names)) < len(names):
            raise InputError(f"{table} names a capture area twice; give each a name of its own")
        if numbers.min() < 1 or len(names) < numbers.max():
            raise InputError(f"{table} names {len(names)} capture areas, but the barcodes end in -{numbers.max()}")
    adata.obs[SLICE] = pd.Categorical([names[number - 1] for number in numbers], categories=names)
    adata.obs[SLICE] = adata.obs[SLICE].cat.remove_unused_categories()
    libraries = {}
    for name in adata.obs[SLICE].cat.categories:
        area = match.folder / "spatial" / name
        one = recognise(area, "visium") if area.is_dir() else None
        if one is not None:
            libraries[name] = _read_library(one, images=images) | {"metadata": {}}
    if libraries:
        adata.uns[SPATIAL] = libraries
    adata.uns[PLATFORM] = {"taken": matrix.name, "unit": _PIXELS}
    return adata


def read_bins(match: Match, *, images: bool) -> AnnData:
    """Read a Visium HD run at the best of its bin sizes."""
    first = match.need("bins").path
    bins = first if first.name.startswith("binned") else match.folder
    present = sorted(path.name for path in bins.glob("square_*um") if path.is_dir())
    size = next((name for name in _BINS if name in present), None)
    cells = match.path("cells")
    others = [str(bins / name) for name in present if name != size] + ([str(cells)] if cells else [])
    if size is None:
        raise InputError(f"{bins} has no {' or '.join(_BINS)}; give one of its folders ({', '.join(others) or 'none'})")
    if others:
        logger.info("%s is taken; give the folder of another to read that: %s", size, ", ".join(others))
    one = recognise(bins / size, "visium")
    if one is None:
        raise InputError(f"{bins / size} is empty; {AGAIN}")
    adata = read_space_ranger(one, images=images)
    adata.uns[PLATFORM]["taken"] = f"{size} (of {', '.join(present)}{' and cells' if cells else ''})"
    return adata


def read_hd_cells(match: Match, *, images: bool) -> AnnData:
    """Read the cells that Space Ranger finds in Visium HD, at the centres of their outlines."""
    if match.layout.reader == "cell folder":
        inside = recognise(match.need("cells").path, "visiumhd")
        if inside is None or inside.layout.reader != "cells":
            raise InputError(f"{match.need('cells').path} has no cells; {AGAIN}")
        match = inside
    matrix, outlines = match.need("counts").path, match.need("outlines").path
    about, centres = _read_library(match, images=images), read_centres(outlines)

    def keep(barcodes: Strings) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        known = np.isin(_cell_numbers(barcodes), centres.index)
        if not known.any():
            raise share_no_name(match.folder, barcodes, centres.index)
        if not known.all():
            logger.warning("%s: %d cells of the matrix have no outline and are left out", match.folder, (~known).sum())
        return known, barcodes[known].astype(object)

    adata, attrs = read_matrix(matrix, keep)
    adata.obsm[SPATIAL] = centres.loc[_cell_numbers(adata.obs_names.to_numpy(str))].to_numpy(np.float64)
    _give_library(adata, match, about, attrs)
    adata.uns[PLATFORM] = {"taken": f"cells, {matrix.name}, {outlines.name}", "unit": _PIXELS}
    return adata


def _cell_numbers(barcodes: Strings) -> NDArray[np.int64]:
    """Return the numbers in names such as ``cellid_000000012-1``; -1 where there is none."""
    numbers = pd.Series(barcodes).str.extract(r"(\d+)(?:-\d+)?$")[0]
    return pd.to_numeric(numbers).fillna(-1).to_numpy(np.int64)


def read_xenium(match: Match) -> AnnData:
    """Read a Xenium folder: cells with their centroids, gene expression only."""
    matrix, tables = match.need("counts").path, [match.need("cells").path]
    if importlib.util.find_spec("pyarrow") is None:  # the same table lies there as text, too
        tables = [f.path for f in match.files["cells"] if ".parquet" not in f.path.name.lower()] or tables
    columns = ["cell_id", "x_centroid", "y_centroid"]
    positions = read_table(tables[0], columns, text=columns[:1]).set_index("cell_id")
    experiment = _read_json(match.path("experiment"))
    adata, _ = read_matrix(matrix)
    adata = place(adata, positions, match.folder)
    adata.uns[PLATFORM] = {"taken": f"{matrix.name}, {tables[0].name}", "unit": "micrometres"}
    adata.uns[PLATFORM] |= {key: str(experiment[key]) for key in _RUN if key in experiment}
    return adata


def _read_positions(path: Path) -> pd.DataFrame:
    """Read the positions of all spots, indexed by barcode."""
    names = read_header(path).names
    header = None if "barcode" in [name.lower() for name in names] or len(names) != len(_COLUMNS) else _COLUMNS
    table = read_table(path, _COLUMNS, text=_COLUMNS[:1], header=header)
    positions: pd.DataFrame = table.set_index("barcode").astype(np.float64)
    if positions.empty or positions.isna().to_numpy().any():
        raise InputError(f"{path} is empty or has empty values; {AGAIN}")
    repeated = positions.index[positions.index.duplicated()]
    if len(repeated):
        raise InputError(f"{path} lists the barcode {repeated[0]!r} more than once; give the positions of one slide")
    return positions


class _Spots:
    """Positions of all spots, and once the barcodes of a matrix are known, of those of it that lie under tissue."""

    def __init__(self, match: Match) -> None:
        self.folder = match.folder
        self.table = _read_positions(match.need("positions").path)

    def under_tissue(self, barcodes: Strings) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Tell which spots of a matrix lie under tissue, and return their names."""
        rows = match_names(barcodes, self.table.index, self.folder)
        n_known = int((rows >= 0).sum())
        if n_known < len(rows):
            logger.warning(
                "%s: %d spots of the matrix have no position and are left out", self.folder, len(rows) - n_known
            )
        keep = (rows >= 0) & (self.table["in_tissue"].to_numpy()[rows] == 1)
        if not keep.any():
            raise InputError(
                f"{self.folder}: none of {n_known} spots is in tissue; check in_tissue in the positions file"
            )
        self.table = self.table.iloc[rows[keep]]
        names, kept = self.table.index.to_numpy(), barcodes[keep]
        return keep, names if names[0] == kept[0] else kept.astype(object)  # the same need not be stored twice

    def place(self, adata: AnnData) -> None:
        """Give the spots of a matrix their positions."""
        for column in ("in_tissue", "array_row", "array_col"):
            adata.obs[column] = self.table[column].to_numpy().astype(np.int64)
        adata.obsm[SPATIAL] = self.table[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()


def _read_library(match: Match, *, images: bool) -> dict[str, Any]:
    """Read what is drawn under the spots of a capture area: images and their scale factors."""
    path = match.path("scale factors")
    if path is None:
        logger.warning("%s: scalefactors_json.json is missing: spots are drawn without the image", match.folder)
    return {"images": _read_images(match) if images else {}, "scalefactors": _read_json(path)}


def _give_library(adata: AnnData, match: Match, library: dict[str, Any], attrs: dict[str, Any]) -> None:
    """Store images and scale factors under the name of the library, as scanpy and squidpy do."""
    folder = match.folder.resolve()
    names = [
        name for name in (match.need("counts").sample, folder.name, folder.parent.name) if name not in ("", "outs")
    ]
    name = as_text([*np.ravel(attrs.get("library_ids", [])), *names, "library"][0])
    versions = {k: as_text(attrs[k]) for k in ("chemistry_description", "software_version") if k in attrs}
    adata.uns[SPATIAL] = {name: library | {"metadata": versions}}


def _read_json(path: Path | None) -> dict[str, Any]:
    """Read a JSON object; nothing where there is no file."""
    if path is None:
        return {}
    with reading(str(path)), open_text(path) as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object but a {type(content).__name__}; {AGAIN}")
    return content


def _read_images(match: Match) -> dict[str, NDArray[np.uint8]]:
    """Read the images present, uint8 (height, width, 3); one that cannot be used is left out with a warning."""
    from PIL import Image

    # Pillow only warns of an image large enough to fill the memory; such an image is left out, too.
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    images = {}
    for size in ("hires", "lowres"):
        path = match.path(f"{size} image")
        if path is None:
            continue
        try:
            with warnings.catch_warnings(), unpacked(path) as plain:
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(plain) as image:
                    images[size] = np.array(image.convert("RGB"))
        except (OSError, EOFError, zlib.error, ValueError, SyntaxError, *bombs) as error:
            logger.warning("%s is left out: %s", path, error)
    return images

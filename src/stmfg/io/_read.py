"""``stmfg.read``: what a path is, and which reader takes it.

Everything is read with anndata, h5py, scipy and pandas: importing scanpy would load matplotlib, and the spatialdata
package is heavy for what is one AnnData table inside a zarr store.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stmfg._keys import COUNTS, PLATFORM
from stmfg.errors import InputError
from stmfg.io.annotated import UNDERSTOOD, is_annotated, is_zipped_store, read_h5ad, read_zarr
from stmfg.io.beads import read_slideseq
from stmfg.io.guard import regular
from stmfg.io.imaging import read_cosmx, read_merscope
from stmfg.io.platforms import Match, entries, recognise
from stmfg.io.settle import settle
from stmfg.io.stereoseq import read_stereoseq
from stmfg.io.tenx import read_aggregated, read_bins, read_hd_cells, read_space_ranger, read_xenium

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from anndata import AnnData

__all__ = ["read"]

logger = logging.getLogger("stmfg")

_READERS: Final[dict[str, Callable[..., AnnData]]] = {
    "aggregated": read_aggregated,
    "visium": read_space_ranger,
    "bins": read_bins,
    "cell folder": read_hd_cells,
    "cells": read_hd_cells,
    "xenium": read_xenium,
    "merscope": read_merscope,
    "cosmx": read_cosmx,
    "slideseq": read_slideseq,
    "stereoseq": read_stereoseq,
}
_HINTS: Final = {
    (".h5", ".h5.gz", ".mtx", ".mtx.gz"): (
        "a matrix without positions: put it into a folder with spatial/ of the same sample, and give the folder"
    ),
    (".tar", ".tar.gz", ".tgz", ".zip"): "unpack it, and give the folder",
    (".loom", ".h5mu"): "read it in Python, and write the table with counts with adata.write_h5ad",
    (".rds", ".rdata", ".h5seurat"): "convert it to .h5ad in R",
}
_WITH_IMAGES: Final = ("aggregated", "visium", "bins", "cell folder", "cells")


def read(path: str | Path, *, platform: str | None = None, images: bool = True, lazy: bool | None = None) -> AnnData:
    """Read spatial transcriptomics data.

    A path is one of: an ``.h5ad`` file; an AnnData ``.zarr`` store; a SpatialData ``.zarr`` store, or one table of it
    (``X.zarr/tables/NAME``); the folder that an instrument wrote, or the folder above its ``outs``: Visium, Visium HD,
    Xenium, MERSCOPE, CosMx, Slide-seq or Stereo-seq. Where a folder holds several samples, give a file of one. Files
    may be compressed and have the name of a sample before or behind their own.

    A SpatialData table without ``obsm["spatial"]`` gets there the centres of the elements that it annotates, for which
    the spatialdata package is needed.

    Parameters
    ----------
    path
        File or folder.
    platform
        What wrote the folder, where that cannot be told from its files: ``"visium"``, ``"visiumhd"``, ``"xenium"``,
        ``"merscope"``, ``"cosmx"``, ``"slideseq"`` or ``"stereoseq"``.
    images
        Whether to read the tissue images of a Space Ranger folder or a SpatialData store; of the latter the smallest
        in colours that is good enough to look at. AnnData comes with what is stored in it.
    lazy
        Whether the counts of an ``.h5ad`` file or a ``.zarr`` store stay on disk, to be read in blocks of
        rows. They then are a dask array, which needs the file to stay where it is. When not given: if they
        are sparse by rows, would take more than a quarter of the machine's memory, and dask is installed.

    Returns
    -------
    Annotated data, (n_spots, n_genes). From the folder of an instrument: genes only, without controls, and

    ``X``
        Counts as stored, CSR float32.
    ``obs_names``
        As the instrument names its spots, beads or cells; of CosMx ``fov_cell``, of the squares of Stereo-seq ``x_y``.
    ``var_names``
        Gene symbols made unique with the suffixes ``-1``, ``-2``, ...
    ``obsm["spatial"]``
        (x, y), float64 (n_spots, 2).
    ``obs["stmfg_slice"]``
        The slice of each spot, where a folder holds several: ``spaceranger aggr``, a CosMx export of several slides.
    ``uns["spatial_platform"]``
        ``"platform"``, ``"because"`` (the files that decided), ``"taken"`` (what was read) and ``"unit"`` (of x and y).

    From a Space Ranger folder spots under tissue only, (x, y) = (column, row) in pixels of the full-resolution image,
    and besides

    ``var["gene_ids"]``, ``var["feature_types"]``
        Gene identifiers; feature types.
    ``obs["in_tissue"]``, ``obs["array_row"]``, ``obs["array_col"]``
        Integers, as in the positions file.
    ``uns["spatial"][library_id]``
        ``"images"`` (``"hires"``, ``"lowres"``: uint8 RGB, those present), ``"scalefactors"`` and
        ``"metadata"``, as scanpy and squidpy plot them.

    Of Visium HD, bins of 16 micrometres are read, or of 8 where those are missing; give the folder of another bin size,
    or ``segmented_outputs`` for cells, to read that. Of Stereo-seq, cells are read, or squares of 50 spots where there
    are none.

    From a file or store, what the folder of an instrument would leave out is left out, with a warning: spots whose
    ``obs["in_tissue"]`` is 0. Positions that other tools keep in another place are copied to ``obsm["spatial"]``.

    Raises
    ------
    InputError
        If the path is missing, is none of these, or cannot be read.
    MissingDependencyError
        If a table is a parquet file and pyarrow is not installed, dask is not and ``lazy`` is asked for, or spatialdata
        is not and positions are to be those of elements.
    """
    return _read(Path(path).expanduser(), platform, images, lazy)


def read_for_run(path: str | Path, platform: str | None, layer: str | None) -> AnnData:
    """Read as :func:`read`; large layers that the run does not use stay on disk, from where they go into its result."""
    return _read(Path(path).expanduser(), platform, layers=(layer or COUNTS,))


def _read(
    path: Path,
    platform: str | None,
    images: bool = True,
    lazy: bool | None = None,
    layers: Collection[str] | None = None,
) -> AnnData:
    try:
        return _read_path(path, platform, images, lazy, layers)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check name and permissions") from error


def _read_path(
    path: Path, platform: str | None, images: bool, lazy: bool | None, layers: Collection[str] | None
) -> AnnData:
    if not path.exists():
        recognise(path, platform)  # refuses an unknown name whatever the path is
        raise InputError(f"{path}: no such file or folder; give {UNDERSTOOD}")
    name = regular(path).name.lower()
    if platform is None and name.endswith((".h5ad", ".h5ad.gz")) and path.is_file():
        return settle(read_h5ad(path, lazy, layers), path)
    is_store = path.is_dir() and (path.suffix == ".zarr" or any((path / n).exists() for n in (".zgroup", "zarr.json")))
    if platform is None and (is_store or is_zipped_store(path)):
        return settle(read_zarr(path, lazy, layers, images=images), path)
    match = recognise(path, platform)
    if match is not None:
        return _read_folder(match, images=images)
    if not path.is_dir():
        if platform is not None:
            raise InputError(f"{path} is not a file of {platform}; give the folder that the instrument wrote")
        if is_annotated(path):
            return settle(read_h5ad(path, lazy, layers), path)
        raise InputError(f"{path} is a file of a kind stMFG does not read{_hint(path)}; give {UNDERSTOOD}")
    raise InputError(f"{path} is {_describe_folder(path)}")


def _describe_folder(path: Path) -> str:
    """Say what a folder is that cannot be read as a whole, and what to give instead."""
    names = [p.name for p in entries(path)]
    files = [entry for entry in names if entry.lower().endswith((".h5ad", ".h5ad.gz", ".zarr", ".zarr.zip"))]
    if not names:
        return f"an empty folder; give {UNDERSTOOD}"
    if len(files) == 1:
        return f"a folder with one file that stMFG reads; give that: {path / files[0]}"
    if files:
        one = f"give one, such as {path / files[0]}, or several as slices"
        return f"a folder with {len(files)} files that stMFG reads ({', '.join(files[:5])}); {one}"
    inside = [each.name for each in entries(path) if each.is_dir() and _is_readable(each)]
    if inside:
        return f"a folder with folders that stMFG reads ({', '.join(inside)}); give {path / inside[0]}"
    return f"a folder of a kind stMFG does not read (it holds {', '.join(names[:5])}); give {UNDERSTOOD}"


def _is_readable(folder: Path) -> bool:
    """Whether a folder, or files in it, are what some platform writes."""
    try:
        match = recognise(folder)
        return match is not None and match.whole
    except InputError:  # it holds several samples
        return True
    except OSError:
        return False


def _hint(path: Path) -> str:
    """Say what to do with a file that is a part of something, or of another program."""
    name = path.name.lower()
    return next((f" ({hint})" for ends, hint in _HINTS.items() if name.endswith(ends)), "")


def _read_folder(match: Match, *, images: bool) -> AnnData:
    layout, because = match.layout, match.because
    logger.info("%s: read as %s because of %s", match.folder, layout.title, because)
    if match.others:
        taken = f"{match.folder} was taken for {layout.title}"
        logger.warning("%s; it could be %s, too, which platform chooses", taken, " or ".join(match.others))
    options = {"images": images} if layout.reader in _WITH_IMAGES else {}
    adata = _READERS[layout.reader](match, **options)
    adata.uns[PLATFORM] = {"platform": layout.platform, "because": because} | adata.uns[PLATFORM]
    return adata

"""Reading spatial transcriptomics data into AnnData.

Here it is decided what a path is; the readers are beside this file. Everything is read with anndata, h5py, scipy and
pandas: importing scanpy would load matplotlib, and the spatialdata package is heavy for what is one AnnData table
inside a zarr store.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from stmfg._keys import PLATFORM
from stmfg.errors import InputError
from stmfg.io.annotated import UNDERSTOOD, read_h5ad, read_zarr
from stmfg.io.beads import GEM, read_gef, read_slideseq, read_stereoseq, refuse_gem
from stmfg.io.guard import regular
from stmfg.io.imaging import read_cosmx, read_merscope
from stmfg.io.platforms import Match, recognise
from stmfg.io.tenx import read_space_ranger, read_visium_hd, read_xenium

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

__all__ = ["read"]

logger = logging.getLogger("stmfg")


def read(path: str | Path, *, platform: str | None = None, images: bool = True, lazy: bool | None = None) -> AnnData:
    """Read spatial transcriptomics data.

    Understood are an ``.h5ad`` file, an AnnData ``.zarr`` directory, a SpatialData ``.zarr`` directory with one table
    (of several, give the path of one: ``X.zarr/tables/NAME``), and the folders (or ``outs`` in them) that instruments
    write: Visium, Visium HD, Xenium, MERSCOPE, CosMx, Slide-seq and Stereo-seq, of which a single ``.gef`` file does,
    too.

    A SpatialData table without ``obsm["spatial"]`` gets there the centres of the elements that it annotates, for which
    the spatialdata package is needed.

    Parameters
    ----------
    path
        File or folder.
    platform
        What wrote the folder, where that is not to be guessed from its files: ``"visium"``, ``"visiumhd"``,
        ``"xenium"``, ``"merscope"``, ``"cosmx"``, ``"slideseq"`` or ``"stereoseq"``.
    images
        Whether to read the tissue images of a Space Ranger folder. An ``.h5ad`` file or a ``.zarr``
        store comes with what is stored in it.
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

    Of Visium HD, bins of 16 micrometres are taken, or of 8 where those are missing; give the folder of another bin size
    to read that. Of Stereo-seq, cells are taken, or squares of 50 spots where there are none.

    Raises
    ------
    InputError
        If the path is missing, is none of these, or cannot be read.
    MissingDependencyError
        If a table is a parquet file and pyarrow is not installed, dask is not and ``lazy`` is asked for, or spatialdata
        is not and positions are to be those of elements.
    """
    path = Path(path).expanduser()
    try:
        return _read(path, platform=platform, images=images, lazy=lazy)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check name and permissions") from error


def _read(path: Path, *, platform: str | None, images: bool, lazy: bool | None) -> AnnData:
    """Find out what ``path`` is and read it."""
    match = recognise(path, platform)  # refuses an unknown name whatever the path is
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; give {UNDERSTOOD}")
    if not regular(path).is_dir():
        return _read_file(path, platform, lazy)
    holds = ", ".join(sorted(p.name for p in path.iterdir())[:5])
    if not holds:
        raise InputError(f"{path} is an empty folder; give {UNDERSTOOD}")
    is_zarr = path.suffix == ".zarr" or any((path / name).exists() for name in (".zgroup", "zarr.json"))
    if is_zarr and platform is None:
        return read_zarr(path, lazy)
    if match is None:
        raise InputError(f"{path} is a folder of a kind stMFG does not read (it holds {holds}); give {UNDERSTOOD}")
    return _read_folder(match, images=images)


def _read_file(path: Path, platform: str | None, lazy: bool | None) -> AnnData:
    """Read a single file, by the end of its name."""
    if path.suffix == ".gef" and platform in (None, "stereoseq"):
        adata = read_gef(path)
        adata.uns[PLATFORM] |= {"platform": "stereoseq", "because": path.name}
        return adata
    if platform is not None:
        raise InputError(f"{path} is a file; platform={platform!r} is of the folder that the instrument wrote")
    if path.suffix == ".h5ad":
        return read_h5ad(path, lazy)
    if path.name.endswith(GEM):
        refuse_gem(path)
    raise InputError(f"{path} is a file of a kind stMFG does not read; give {UNDERSTOOD}")


def _read_folder(match: Match, *, images: bool) -> AnnData:
    """Read the folder of an instrument, and say what it was taken for and why."""
    readers: dict[str, Callable[..., AnnData]] = {
        "visium": lambda folder, *_: read_space_ranger(folder, images=images),
        "visiumhd": lambda folder, *_: read_visium_hd(folder, images=images),
        "xenium": read_xenium,
        "merscope": read_merscope,
        "cosmx": read_cosmx,
        "slideseq": read_slideseq,
        "stereoseq": read_stereoseq,
    }
    name, title = match.platform.name, match.platform.title
    because = " and ".join(match.because) or "platform"
    logger.info("%s: read as %s because of %s", match.folder, title, because)
    if match.others:
        others = " or ".join(match.others)
        logger.warning("%s was taken for %s; it could be %s, too, which platform chooses", match.folder, title, others)
    adata = readers[name](match.folder, *match.platform.markers)
    adata.uns[PLATFORM] = {"platform": name, "because": because} | adata.uns[PLATFORM]
    return adata

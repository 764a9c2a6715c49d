"""Domains for other programs: Loupe Browser, Xenium Explorer, and whatever reads SpatialData, such as napari."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from anndata import AnnData

from stmfg._core.files import replacing
from stmfg._core.labels import labels
from stmfg._keys import DOMAIN, PLATFORM, SLICE, SPATIAL, UNS
from stmfg.errors import InputError, flag
from stmfg.export._names import LOUPE, XENIUM_EXPLORER, Viewer, instrument_names
from stmfg.export._spatialdata import add_domains, from_spots
from stmfg.io.spatialdata_elements import quiet

__all__ = ["loupe", "spatialdata", "xenium_explorer"]

logger = logging.getLogger("stmfg")


def loupe(adata: AnnData, path: str | Path, *, key: str = DOMAIN, slice_name: str | None = None) -> None:
    """Write domains as a table of categories for Loupe Browser.

    The first column is ``Barcode``, the second is named like the categories: the form in which Space Ranger writes its
    own clusters (``analysis/clustering/*/clusters.csv``). Spots without a label are left out.

    Parameters
    ----------
    adata
        Result of :func:`stmfg.tl.domains`. Observations have their names from Space Ranger, also in ``obs["barcode"]``,
        or with the name of a sample before or behind.
    path
        File to write, ``.csv``.
    key
        Column of ``obs`` with the domains.
    slice_name
        Which slice to write, of a result that several inputs were put together for.

    Raises
    ------
    InputError
        If there are no domains, there are several slices and none is named, names are not those of the instrument, or
        the file cannot be written.

    References
    ----------
    10x Genomics, Space Ranger 3.0, Secondary Analysis CSV.
    """
    _write_table(adata, path, key, slice_name, LOUPE)


def xenium_explorer(adata: AnnData, path: str | Path, *, key: str = DOMAIN, slice_name: str | None = None) -> None:
    """Write domains as a table of cell groups for Xenium Explorer.

    The columns are ``cell_id`` and ``group``. Cells without a label are left out.

    Parameters
    ----------
    adata
        Result of :func:`stmfg.tl.domains`. Observations have their names from the Xenium run, also in
        ``obs["cell_id"]``, or with the name of a sample before or behind.
    path, key, slice_name
        As in :func:`loupe`.

    Raises
    ------
    InputError
        As in :func:`loupe`.

    References
    ----------
    10x Genomics, Xenium Explorer, cell groups; the form of the ``cell_types.csv`` that comes with its data sets.
    """
    _write_table(adata, path, key, slice_name, XENIUM_EXPLORER)


def spatialdata(
    adata: AnnData,
    path: str | Path,
    *,
    source: str | Path | None = None,
    table: str | None = None,
    key: str = DOMAIN,
    library_key: str | None = None,
    slice_name: str | None = None,
) -> None:
    """Write a SpatialData store in which the domains belong to the spots or cells, as spatialdata-plot and napari show.

    Parameters
    ----------
    adata
        Result of :func:`stmfg.tl.domains`.
    path
        Store to write, ``.zarr``; it must not exist yet.
    source
        SpatialData store that the result was made from, or one of the same spots. The new store has all its elements,
        and the table that annotates them has the domains. When not given, the new store has the spots as circles, or
        squares where they are bins, the image under them if there is one, and `adata` as the table, its keys without
        characters that SpatialData does not take, such as spaces.
    table
        Name of the table in `source`, where there are several.
    key
        Column of ``obs`` with the domains.
    library_key
        Column of ``obs`` that names the slice, where there are several and no `source`: each becomes an element in a
        coordinate system of its own. It need not be given where several inputs were put together.
    slice_name
        Which slice to write, of a result that several inputs were put together for; needed with `source`.

    Notes
    -----
    Rows of the table in `source` are found by their names, or by its ``instance_key``, and keep their link to the
    elements (``region_key``, ``instance_key``). Those that are not in `adata` have no domain. Written to it: domains
    with their confidence and colours, the embedding, the weights of the views, and ``uns["stmfg"]``.

    Raises
    ------
    InputError
        If there is something at `path`, or `source` is no SpatialData store or of other spots.
    MissingDependencyError
        If spatialdata is not installed.
    """
    path = Path(path).expanduser()
    if path.exists():
        raise InputError(f"{path} exists already; give the name of a new store, nothing is changed in place")
    labels(adata, key)
    if source is None and table is not None:
        raise InputError("table names a table of source; give source, too")
    if source is not None and library_key is not None:
        raise InputError("source has elements of its own, to which library_key does not apply; leave it out")
    if source is not None or slice_name is not None:
        adata = _choose_slice(adata, slice_name)
    elif library_key is None and SLICE in adata.obs:
        library_key = SLICE
    with quiet(), _replacing(path) as partial:
        store = from_spots(adata, library_key) if source is None else add_domains(adata, Path(source), table, key)
        try:
            store.write(partial)
        except ValueError as error:  # names and values that SpatialData does not take; the last line says which
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
            raise InputError(f"{path} cannot be written as SpatialData ({reason}); change it in the result") from error


def _choose_slice(adata: AnnData, name: str | None) -> AnnData:
    """Return one slice, its observations under the names they had before slices were put together."""
    column = SLICE if SLICE in adata.obs else adata.uns.get(UNS, {}).get("library_key")
    names = list(adata.obs[column].astype(str).unique()) if column in adata.obs else []
    if name is None and len(names) < 2:
        return _without_slice(adata, names[0]) if column == SLICE and names else adata
    if name not in names:
        known = ", ".join(names) or "it has none"
        given = f"{flag('slice_name')} is {name!r}" if name is not None else f"{flag('slice_name')} is needed"
        raise InputError(f"{given}; name one slice of the result ({known})")
    part = adata[(adata.obs[column].astype(str) == name).to_numpy()].copy()
    return _without_slice(part, str(name)) if column == SLICE else part


def _without_slice(adata: AnnData, name: str) -> AnnData:
    """Return the observations of a slice as they were before it was joined with others."""
    part = adata.copy()
    part.obs_names = part.obs_names.str.removesuffix(f"_{name}")
    if name in part.uns.get(PLATFORM, {}):
        part.uns[PLATFORM] = part.uns[PLATFORM][name]
    if name in part.uns.get(SPATIAL, {}):  # images and scale of each slice
        part.uns[SPATIAL] = {name: part.uns[SPATIAL][name]}
    return part


def _write_table(adata: AnnData, path: str | Path, key: str, slice_name: str | None, viewer: Viewer) -> None:
    """Write the instrument's name and the label of every observation that has one."""
    labels(adata, key)
    spots = pd.Series(adata.obs_names.astype(str))
    # Several capture areas that the instrument's software put together have names by which it knows them.
    of_one_run = spots.is_unique and spots.str.fullmatch(viewer.patterns[0]).all()
    if slice_name is not None or not of_one_run:
        adata = _choose_slice(adata, slice_name)
    names = instrument_names(adata, viewer)
    rows = pd.DataFrame({viewer.header[0]: names, viewer.header[1] or key: labels(adata, key)})
    platform = adata.uns.get(PLATFORM, {}).get("platform")
    if platform is not None and platform not in viewer.platforms:
        logger.warning("%s does not open data of the platform %s, which this is", viewer.title, platform)
    with _replacing(Path(path).expanduser()) as partial:
        rows.dropna().to_csv(partial, index=False)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Replace a file as :func:`replacing` does; errors name the file and the fix."""
    try:
        with replacing(path) as partial:
            yield partial
    except OSError as error:
        fix = "give another file" if path.parent.is_dir() else "give a file in an existing folder"
        raise InputError(f"{path} cannot be written ({error.strerror or error}); {fix}") from error

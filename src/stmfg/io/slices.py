"""Several inputs as one AnnData: a slice each, named after its file, on the genes they share."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stmfg._core.hints import RAW, genes_in_raw, look_like_counts
from stmfg._keys import COUNTS, PLATFORM, SLICE, SPATIAL
from stmfg.errors import InputError
from stmfg.io import sheet as _sheet
from stmfg.io._read import read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from stmfg.io.sheet import Sample

__all__ = ["join", "join_samples", "read_slices", "slice_names"]

logger = logging.getLogger("stmfg")

MIN_SHARED_GENES = 20
"""Slices that share fewer genes than this cannot be compared by their counts."""


def slice_names(paths: Sequence[str | Path]) -> list[str]:
    """Name slices after their files or folders.

    ``a/brain.h5ad`` is ``"brain"``; ``mouse1/outs`` is ``"mouse1"``, since Space Ranger calls every result ``outs``.
    Where names are the same, that of the folder is put in front, and where that does not help, they are numbered.
    """
    inputs = [Path(path).expanduser() for path in paths]
    where = [path.resolve() for path in inputs]
    for i, path in enumerate(where):
        if path in where[:i]:
            raise InputError(f"{inputs[i]} is given twice; give every slice once")
    names = []
    for path in where:
        path = path.parent if path.name == "outs" else path
        names.append((path.name if path.is_dir() and path.suffix != ".zarr" else path.stem, path.parent.name))
    often = Counter(name for name, _ in names)
    unique = [name if often[name] == 1 else f"{folder}_{name}" for name, folder in names]
    often = Counter(unique)
    return [name if often[name] == 1 else f"{name}_{i + 1}" for i, name in enumerate(unique)]


def read_slices(paths: Sequence[str | Path], *, platform: str | None = None, use_rep: str | None = None) -> AnnData:
    """Read several files or folders, a slice each, into one AnnData.

    Parameters
    ----------
    paths
        Files and folders, as :func:`stmfg.read` takes them.
    platform
        What wrote the folders, as in :func:`stmfg.read`.
    use_rep
        As in :func:`join`.

    Returns
    -------
    As :func:`join`; the slices are named by :func:`slice_names`.

    Raises
    ------
    InputError
        If a path cannot be read or is given twice, or the slices do not fit together.
    """
    names = slice_names(paths)
    return join({name: read(path, platform=platform) for name, path in zip(names, paths, strict=True)}, use_rep=use_rep)


def join_samples(samples: Sequence[Sample], *, platform: str | None = None, use_rep: str | None = None) -> AnnData:
    """Read the samples of a sheet into one AnnData, as :func:`read_slices`; of their options, ``platform`` counts.

    ``obs["donor"]``, ``obs["condition"]`` and the other columns of the sheet are NaN where a cell is empty.
    """
    columns = dict.fromkeys(column for sample in samples for column in sample.metadata)
    slices: dict[str, AnnData] = {}
    for sample in samples:
        slices[sample.name] = read(sample.source, platform=sample.options.get("platform", platform))
        metadata = {column: sample.metadata.get(column, np.nan) for column in columns}
        _sheet.describe_spots(slices[sample.name].obs, metadata, sample.name)
    joined = join(slices, use_rep=use_rep)
    for column in joined.obs.columns.intersection(list(columns)):
        joined.obs[column] = joined.obs[column].astype("category")  # text with gaps has no other form in a file
    return joined


def join(slices: dict[str, AnnData], *, use_rep: str | None = None) -> AnnData:
    """Put slices together, on the genes they share.

    Parameters
    ----------
    slices
        Annotated data by name of the slice, (n_i, genes_i). Not changed.
    use_rep
        Key of an embedding in ``obsm`` that takes the place of the counts: then no gene needs to be shared.

    Returns
    -------
    All observations, slice after slice, named ``spot_slice``, with what all slices have in ``obs``, ``obsm`` and
    ``layers``, and

    ``obs["stmfg_slice"]``
        Name of the slice, categories in the order given.
    ``uns["spatial"]``, ``uns["spatial_platform"]``
        By name of the slice, where there are any.

    Raises
    ------
    InputError
        If fewer than 20 genes are shared, or numbers of coordinates or columns of the embedding differ.
    """
    import anndata

    parts = {name: part.copy() for name, part in _apart(slices).items()}
    for name, part in parts.items():
        if part.n_obs == 0:
            raise InputError(f"slice {name!r} has no spots; leave it out")
        part.var_names = part.var_names.astype(str)
        part.var_names_make_unique()
    for key in (SPATIAL, *([use_rep] if use_rep else [])):
        _same_width(parts, key)
    if any(COUNTS in part.layers for part in parts.values()):
        for part in parts.values():  # in those without the layer, the counts are in X
            if COUNTS not in part.layers:
                part.layers[COUNTS] = part.X.copy()
    shared = set.intersection(*(set(part.var_names) for part in parts.values()))
    _say_what_is_shared(parts, len(shared), counts=use_rep is None)
    _warn_of_platforms(parts)
    if all(part.raw is not None and RAW not in part.layers for part in parts.values()):
        for part in parts.values():  # joining drops it
            columns = genes_in_raw(part)
            if columns is not None and not look_like_counts(part.X):
                part.layers[RAW] = part.raw.X[:, columns]
    first = next(iter(parts.values()))
    genes = [gene for gene in first.var_names if gene in shared]
    joined = anndata.concat(
        {name: part[:, genes] for name, part in parts.items()}, label=SLICE, index_unique="_", merge="same"
    )
    joined.obs[SLICE] = joined.obs[SLICE].astype("category").cat.set_categories(list(parts))
    for key in (SPATIAL, PLATFORM):
        entries = {name: _entry(part, key) for name, part in parts.items()}
        if any(entries.values()):
            joined.uns[key] = {name: entry for name, entry in entries.items() if entry}
    return joined


def _apart(slices: dict[str, AnnData]) -> dict[str, AnnData]:
    """Return the slices, those by themselves that reading has found in one input."""
    apart: dict[str, AnnData] = {}
    for name, adata in slices.items():
        inside = adata.obs[SLICE].astype(str) if SLICE in adata.obs and adata.obs[SLICE].nunique() > 1 else None
        for value in [] if inside is None else inside.unique():
            part = adata[(inside == value).to_numpy()].copy()
            if value in part.uns.get(SPATIAL, {}):
                part.uns[SPATIAL] = {value: part.uns[SPATIAL][value]}
            apart[f"{name}_{value}"] = part
        if inside is None:
            apart[name] = adata
    return apart


def _same_width(parts: dict[str, AnnData], key: str) -> None:
    """Check that ``obsm[key]`` has as many columns in all slices; that it is there is checked later."""
    widths = {name: np.shape(part.obsm[key])[1:] for name, part in parts.items() if key in part.obsm}
    missing = [name for name in parts if name not in widths]
    if missing:
        raise InputError(f"slice {missing[0]!r} has no obsm[{key!r}]; every slice needs one")
    one, width = next(iter(widths.items()))
    for other, its in widths.items():
        if its != width:
            shapes = [f"(n, {columns[0] if columns else 1})" for columns in (width, its)]
            shown = f"{shapes[0]} in slice {one!r} and {shapes[1]} in {other!r}"
            raise InputError(f"obsm[{key!r}] has shape {shown}; give all slices the same columns")


def _say_what_is_shared(parts: dict[str, AnnData], n_shared: int, *, counts: bool) -> None:
    """Refuse slices with next to no gene in common, and say where genes are left out."""
    n_genes = {name: part.n_vars for name, part in parts.items()}
    smallest, largest = min(n_genes, key=n_genes.__getitem__), max(n_genes, key=n_genes.__getitem__)
    if counts and n_shared < min(MIN_SHARED_GENES, max(1, n_genes[smallest])):
        sizes = ", ".join(f"{name} {n}" for name, n in list(n_genes.items())[:4])
        raise InputError(
            f"the slices share {n_shared} genes (of {sizes}); at least {MIN_SHARED_GENES} are needed: "
            "name genes alike on all slices, or leave a slice out"
        )
    if counts and n_shared < n_genes[largest]:
        sizes = f"{smallest} has {n_genes[smallest]:,} in all, {largest} {n_genes[largest]:,}"
        shared = f"the {len(parts)} slices share {n_shared:,} genes"
        logger.warning("%s; genes that one lacks are left out (%s)", shared, sizes)


def _warn_of_platforms(parts: dict[str, AnnData]) -> None:
    platforms = sorted({str(part.uns.get(PLATFORM, {}).get("platform", "")) for part in parts.values()} - {""})
    if len(platforms) > 1:
        logger.warning(
            "the slices are of several platforms (%s), whose spots differ in size and in the genes they detect; "
            "check that domains are not platforms",
            ", ".join(platforms),
        )


def _entry(part: AnnData, key: str) -> Any:
    """Return what ``uns[key]`` says about a slice: its one library, or its platform."""
    entry = part.uns.get(key) or {}
    if key == PLATFORM:
        return entry
    libraries = [library for library in entry.values() if isinstance(library, dict)]  # not the flags beside it
    return libraries[0] if len(libraries) == 1 else {}

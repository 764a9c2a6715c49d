"""Bringing an AnnData from a file into the form in which the folder of an instrument is read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stmfg._core.hints import beside_tissue, positions_elsewhere, slice_columns
from stmfg._keys import SPATIAL
from stmfg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmfg")


def settle(adata: AnnData, path: Path) -> AnnData:
    """Give positions their usual place, spots a name of their own, and leave out what lies beside the tissue."""
    if SPATIAL not in adata.obsm and (elsewhere := positions_elsewhere(adata)):
        logger.warning("%s: obsm['spatial'] is missing; positions are taken from %s", path, elsewhere[0])
        adata.obsm[SPATIAL] = np.asarray(elsewhere[1], dtype=np.float64)
    name_after_slices(adata, slice_columns(adata), path)
    beside = beside_tissue(adata)
    if beside is None or not beside.any():
        return adata
    if beside.all():
        raise InputError(f"{path}: obs['in_tissue'] is 0 for all {adata.n_obs} spots; correct that column or remove it")
    logger.warning(
        "%s: %d of %d spots are not in tissue (obs['in_tissue'] is 0) and are left out", path, beside.sum(), len(beside)
    )
    return adata[~beside].copy()


def name_after_slices(adata: AnnData, columns: list[str], path: Path) -> None:
    """Put the slice behind names of spots that repeat, where a column makes them unique."""
    for column in columns if adata.obs_names.has_duplicates else []:
        if column in adata.obs:
            names = adata.obs_names.astype(str) + "_" + adata.obs[column].astype(str)
            if names.is_unique:
                logger.warning("%s: names of spots repeat; obs[%r] is put behind each", path, column)
                adata.obs_names = pd.Index(names.to_numpy(dtype=object))
                return

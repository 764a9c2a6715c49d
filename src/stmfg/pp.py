"""Preprocessing, step by step: the network's input features, and those of the tissue image for a view of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from stmfg._core import spots as _spots
from stmfg._core.geometry import spacing
from stmfg._core.tissue import read_tissue
from stmfg._keys import FEATURES, HIGHLY_VARIABLE, IMAGE_FEATURES, SPATIAL_GRAPH
from stmfg.config import Config
from stmfg.errors import InputError, require
from stmfg.model import features as _features
from stmfg.model import image as _image

__all__ = ["features", "image"]


def features(
    adata: AnnData,
    *,
    use_rep: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    random_state: int = 0,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Compute what the network reads: components of spots (mixtures of cells), or spatial factors of single cells.

    Counts are scaled to the median depth, log-transformed, standardised and reduced to principal components. Of spots
    these are taken as they are and with rows of unit length; of cells they are rotated into the factors that agree
    most with their surroundings in tissue. ``features`` among the options decides which.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``, and the spatial graph. ``X`` and
        the layers stay as they are.
    use_rep
        Key of an embedding in ``obsm`` that takes the place of the counts.
    layer
        Layer with the raw counts.
    library_key
        Column of ``obs`` that names the slice; what slices differ in as wholes is taken off.
    random_state
        Seed.
    copy
        Return a changed copy instead of changing ``adata``.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    ``None``, or the copy. Written: ``obsm["X_stmfg_input"]`` float32 (n_obs, d); with counts also
    ``var["stmfg_highly_variable"]``, the genes used.

    Raises
    ------
    InputError
        If counts, embedding or graph are missing or unusable.
    """
    adata = adata.copy() if copy else adata
    graph = sparse.csr_matrix(require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first"))
    tissue = read_tissue(adata, use_rep=use_rep, layer=layer, library_key=library_key)
    config = Config().replace(**options)
    fitted = _features.fit(replace(tissue, spatial_graph=graph), config, random_state)
    adata.obsm[FEATURES] = fitted.factors
    if use_rep is None:
        adata.var[HIGHLY_VARIABLE] = np.isin(np.arange(adata.n_vars), fitted.maps["feature"].genes)
    return adata if copy else None


def image(adata: AnnData, *, width: float = 1.0, copy: bool = False) -> AnnData | None:
    """Describe the stained tissue image (H&E) around every spot, for a view of its own.

    Light and built in: amounts of the two stains and their texture, see :data:`stmfg.model.image.NAMES`. Features of a
    foundation model, stored in ``obsm``, take their place by their key.

    Parameters
    ----------
    adata
        Data with one tissue image in ``uns["spatial"]``, as :func:`stmfg.read` and scanpy store it, and positions in
        ``obsm["spatial"]``.
    width
        Side of the square around a spot, in spot spacings.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written: ``obsm["stmfg_image"]`` float32 (n_obs, 12).

    Raises
    ------
    InputError
        If there is no image, or more than one, or ``width`` is not positive.

    Examples
    --------
    >>> stmfg.pp.image(adata)  # doctest: +SKIP
    >>> stmfg.tl.domains(adata, n_domains=7, views=("spatial", "feature", "image=stmfg_image"))  # doctest: +SKIP
    """
    if not width > 0:
        raise InputError(f"width is {width!r}; it must be a positive number of spot spacings")
    adata = adata.copy() if copy else adata
    spots = _spots.spots(adata)
    if spots.image is None:
        raise InputError(
            "there is no single tissue image in uns['spatial']; read the folder with its image, or store features of "
            "the image in obsm and name their key"
        )
    left, right, _, top = spots.extent
    scale = spots.image.shape[1] / (right - left)  # pixels per unit; the first pixel's centre lies at half a pixel
    pixels = (spots.xy - [left, top]) * scale - 0.5
    adata.obsm[IMAGE_FEATURES] = _image.patch_features(spots.image, pixels, width * spacing(spots.xy) * scale)
    return adata if copy else None

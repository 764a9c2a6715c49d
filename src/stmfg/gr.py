"""Graphs of an AnnData, step by step: neighbours in tissue and neighbours in expression."""

from __future__ import annotations

import numpy as np
from anndata import AnnData
from scipy import sparse

from stmfg._core import checks
from stmfg._core.stored_graph import BY_HAND, RECORD, record
from stmfg._keys import FEATURE_GRAPH, FEATURES, SPATIAL_GRAPH, UNS
from stmfg.config import Config
from stmfg.errors import InputError, require
from stmfg.model import graphs

__all__ = ["features", "spatial"]


def spatial(
    adata: AnnData,
    *,
    n_neighbors: int = Config.spatial_neighbors,
    radius: float = Config.spatial_radius,
    library_key: str | None = None,
    stacked: bool = False,
    copy: bool = False,
) -> AnnData | None:
    """Build the spatial graph.

    Parameters
    ----------
    adata
        Needs ``obsm["spatial"]``.
    n_neighbors, radius
        Nearest neighbours, symmetrised with OR; or, where positive, a radius in spot spacings instead.
    library_key
        Column of ``obs`` that names the slice; slices are not linked.
    stacked
        Link slices after all, through their third coordinate: they are aligned, and z has the unit of x and y.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written: ``obsp["spatial_connectivities"]``, CSR float32, and how it was made, in
    ``uns["stmfg"]["graph"]``.

    Raises
    ------
    InputError
        If the coordinates are missing or unusable.
    """
    if not (radius > 0 if n_neighbors == 0 else n_neighbors > 0 and radius >= 0 and np.isfinite(radius)):
        raise InputError(f"n_neighbors must be positive, or radius instead; got {n_neighbors} and radius {radius}")
    adata = adata.copy() if copy else adata
    libraries = None if library_key is None else checks.library_names(adata, library_key)
    places = checks.coordinates(adata)
    apart = graphs.unlinked(places, libraries, stacked=stacked)
    graph = graphs.spatial_graph(places, n_neighbors=n_neighbors, radius=radius, libraries=apart)
    adata.obsp[SPATIAL_GRAPH] = graph
    codes = None if stacked or libraries is None or len(np.unique(libraries)) < 2 else libraries
    options = {"spatial_neighbors": n_neighbors, "spatial_radius": radius}
    adata.uns.setdefault(UNS, {})[RECORD] = record(graph, BY_HAND, places, codes, options)
    return adata if copy else None


def features(
    adata: AnnData,
    *,
    n_neighbors: int = Config.feature_neighbors,
    steps: int = Config.feature_steps,
    copy: bool = False,
) -> AnnData | None:
    """Build the expression graph on spatially smoothed features.

    Parameters
    ----------
    adata
        Needs ``obsm["X_stmfg_input"]`` and ``obsp["spatial_connectivities"]``.
    n_neighbors
        Nearest neighbours by cosine, symmetrised with OR.
    steps
        Random-walk steps of smoothing on the spatial graph; 0 links spots by their own features, which on
        single cells links cell types rather than regions.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written: ``obsp["stmfg_feature_connectivities"]``, CSR float32.

    Raises
    ------
    MissingKeyError
        If features or spatial graph are missing.
    """
    adata = adata.copy() if copy else adata
    x = np.asarray(require(adata, "obsm", FEATURES, "run stmfg.pp.features(adata) first"))
    graph = sparse.csr_matrix(require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first"))
    if steps < 0 or n_neighbors < 1:
        raise InputError(f"steps must be at least 0 and n_neighbors at least 1, got {steps} and {n_neighbors}")
    adata.obsp[FEATURE_GRAPH] = graphs.feature_graph(
        graphs.walk(graphs.walk_operator(graph), x, steps), n_neighbors=n_neighbors
    )
    return adata if copy else None

"""Preprocessing, step by step: the network's input features. ``stmfg.tl.domains`` does it by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmfg import _features, _validate, gr
from stmfg._blocks import Counts
from stmfg._errors import require
from stmfg._keys import FEATURES, HIGHLY_VARIABLE, SPATIAL_GRAPH
from stmfg.config import Config

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["features"]


def features(
    adata: AnnData,
    *,
    use_rep: str | None = None,
    layer: str | None = None,
    random_state: int = 0,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Compute what the network reads: spatial factors of the expression.

    Counts are scaled to the median depth, log-transformed, standardised, reduced to principal components
    and rotated into the factors that agree most with their surroundings in tissue.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``, and the spatial graph. ``X`` and
        the layers stay as they are.
    use_rep
        Key of an embedding in ``obsm`` that takes the place of the counts.
    layer
        Layer with the raw counts.
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
    counts = _validate.counts(adata, layer) if use_rep is None else None
    representation = None if use_rep is None else _validate.representation(adata, use_rep)
    config = Config().replace(**options)
    rows = None if counts is None else Counts(counts)
    fitted, adata.obsm[FEATURES] = _features.fit(rows, representation, gr.walk_operator(graph), config, random_state)
    if counts is not None:
        adata.var[HIGHLY_VARIABLE] = np.isin(np.arange(adata.n_vars), fitted.genes)
    return adata if copy else None

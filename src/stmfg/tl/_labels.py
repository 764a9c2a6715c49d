"""From posteriors to the columns of ``obs``, also for observations without a single count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from stmfg._core import checks
from stmfg._keys import CONFIDENCE, DOMAIN, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.errors import require

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray


def canonical(adata: AnnData, embedding: NDArray[np.float32], used: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Order observations by their values alone: permuted input gives permuted domains."""
    rows = np.flatnonzero(used)
    return rows[np.lexsort([*checks.coordinates(adata, SPATIAL)[rows].T, *embedding[rows].T[2::-1]])]


def write_domains(
    adata: AnnData,
    used: NDArray[np.int64],
    found: NDArray[np.int64],
    posterior: NDArray[np.float64],
    library_key: str | None,
    key_added: str,
) -> None:
    """Write domains and confidence; observations left out take the domain of their surroundings."""
    k = posterior.shape[1]
    labels, confidence = np.zeros(adata.n_obs, dtype=np.int64), np.zeros(adata.n_obs, dtype=np.float32)
    labels[used] = found
    confidence[used] = np.clip(posterior[np.arange(len(used)), found], 0, 1)
    left_out = ~np.isin(np.arange(adata.n_obs), used)
    if left_out.any():
        labels[left_out] = (surroundings(adata, left_out, library_key) @ np.eye(k)[labels]).argmax(axis=1)
    adata.obs[key_added] = pd.Categorical((labels + 1).astype(str), categories=[str(i + 1) for i in range(k)])
    adata.obs[CONFIDENCE if key_added == DOMAIN else f"{key_added}_confidence"] = confidence
    adata.uns[UNS]["n_domains"] = k


def surroundings(adata: AnnData, left_out: NDArray[np.bool_], library_key: str | None) -> sparse.csr_matrix:
    """Weights (n_left_out, n_obs) that average over the used spatial neighbours of each observation left out.

    One without a used neighbour takes the nearest used observation of its slice.
    """
    from scipy.spatial import cKDTree

    graph = require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first")
    weights = sparse.lil_matrix(sparse.csr_matrix(graph)[left_out] @ sparse.diags_array((~left_out).astype(float)))
    coordinates = checks.coordinates(adata, SPATIAL)
    slices = np.zeros(adata.n_obs) if library_key is None else checks.library_names(adata, library_key)
    rows = np.flatnonzero(left_out)
    alone = np.flatnonzero(np.asarray(weights.sum(axis=1)).ravel() == 0)
    for name in np.unique(slices[rows[alone]]):
        here = alone[slices[rows[alone]] == name]
        used = np.flatnonzero((slices == name) & ~left_out)
        if not len(used):  # a slice without a single count: any slice will do
            used = np.flatnonzero(~left_out)
        _, nearest = cKDTree(coordinates[used]).query(coordinates[rows[here]])
        weights[here, used[nearest]] = 1.0
    result = sparse.csr_matrix(weights)
    result.eliminate_zeros()
    return sparse.csr_matrix(sparse.diags_array(1 / np.asarray(result.sum(axis=1)).ravel()) @ result)

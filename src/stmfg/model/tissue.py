"""The observations of an AnnData that a model uses, as arrays, in an order that depends on their values alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmfg._core import checks
from stmfg._core.blocks import Counts, row_sums
from stmfg._keys import FEATURE_GRAPH, SPATIAL, SPATIAL_GRAPH
from stmfg.errors import InputError
from stmfg.model import graphs

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg.config import Config

logger = logging.getLogger("stmfg")

SORTED_BY_PLACE = 50_000
"""More observations than this are sorted by place first: what is close in tissue is then close in memory."""


@dataclass
class Slice:
    """The used observations of an AnnData as arrays, in canonical order."""

    order: NDArray[np.int64]
    """Positions of the used observations in the AnnData."""
    left_out: NDArray[np.int64]
    """Positions of the observations without a single count."""
    coordinates: NDArray[np.float64]
    counts: Counts | None
    depth: NDArray[np.float64] | None
    """Total counts, (n,)."""
    representation: NDArray[np.float32] | None
    graph: sparse.csr_matrix
    """Spatial graph."""
    feature_graph: sparse.csr_matrix | None
    """Expression graph, when the AnnData brings one."""
    extra: dict[str, NDArray[np.float32]]
    """What describes the observations in each further view, (n, d), by its name."""
    libraries: NDArray[np.int64] | None = None
    """Slice of each observation, codes from 0; None of a single slice."""

    @property
    def n_libraries(self) -> int:
        """Number of slices."""
        return 1 if self.libraries is None else int(self.libraries.max()) + 1

    def some(self, spots: NDArray[np.int64]) -> Slice:
        """Return some of the observations, given their positions; what links them in expression is left out."""
        return Slice(
            self.order[spots],
            self.left_out,
            self.coordinates[spots],
            None if self.counts is None else self.counts.some(spots),
            None if self.depth is None else self.depth[spots],
            None if self.representation is None else self.representation[spots],
            self.graph[spots][:, spots],
            None,
            {name: x[spots] for name, x in self.extra.items()},
            None if self.libraries is None else self.libraries[spots],
        )

    def scatter(self, values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
        """Return rows in the order of the AnnData, of n observations; NaN where one was left out."""
        result = np.full((n, values.shape[1]), np.nan, dtype=np.float32)
        result[self.order] = values
        return result

    def spatial_graph(self, n: int) -> sparse.csr_matrix:
        """Return the spatial graph in the order of the AnnData, of n observations, all used."""
        rank = np.empty(n, dtype=np.int64)
        rank[self.order] = np.arange(n)
        return sparse.csr_matrix(self.graph[rank][:, rank])


def take(adata: AnnData, config: Config, use_rep: str | None, layer: str | None, library_key: str | None) -> Slice:
    """Check the input and bring its used observations into canonical order.

    The order depends on the values alone, so that permuting the observations of the input permutes
    every result and changes nothing else.

    Parameters
    ----------
    adata
        Annotated data; not changed.
    config
        How the spatial graph is built, where ``adata`` brings none.
    use_rep, layer, library_key
        As in :meth:`stmfg.STMFG.fit`.

    Raises
    ------
    InputError
        If the data cannot be used; says why in one line.
    """
    checks.observations(adata)
    coordinates = checks.coordinates(adata, SPATIAL)
    counts = depth = representation = None
    if use_rep is None:
        counts = checks.counts(adata, layer)
        entries, depth, square = row_sums(counts)
        keys = [entries, square, depth]
        used = depth > 0
    else:
        representation = checks.representation(adata, use_rep)
        keys = [*representation.T[2::-1]]
        used = np.ones(len(representation), dtype=bool)
    order = np.lexsort([*coordinates.T, *keys] if len(coordinates) <= SORTED_BY_PLACE else [*keys, *coordinates.T])
    left_out = np.flatnonzero(~used)
    order = order[used[order]]
    if len(order) < checks.MIN_OBSERVATIONS:
        raise InputError(f"only {len(order)} spots have counts; at least {checks.MIN_OBSERVATIONS} are needed")
    extra = {name: checks.representation(adata, key)[order] for name, key in config.extra_views.items()}
    libraries = None
    if library_key is not None:
        names, codes = np.unique(checks.library_names(adata, library_key)[order], return_inverse=True)
        libraries = codes if len(names) > 1 else None
    if SPATIAL_GRAPH in adata.obsp:
        logger.info("using the spatial graph in obsp[%r]", SPATIAL_GRAPH)
        graph = _reused(adata.obsp[SPATIAL_GRAPH], order)
    else:
        graph = graphs.spatial_graph(
            coordinates[order],
            n_neighbors=config.spatial_neighbors,
            radius=config.spatial_radius,
            libraries=graphs.apart(coordinates, libraries, stacked=config.stacked),
        )
    return Slice(
        order,
        left_out,
        coordinates[order],
        None if counts is None else Counts(counts, order),
        None if depth is None else depth[order],
        None if representation is None else representation[order],
        graph,
        _reused(adata.obsp[FEATURE_GRAPH], order) if FEATURE_GRAPH in adata.obsp else None,
        extra,
        libraries,
    )


def warn_left_out(adata: AnnData, left_out: NDArray[np.int64]) -> None:
    """Say which observations the model cannot use, and what becomes of them."""
    if len(left_out):
        names = ", ".join(map(str, adata.obs_names[left_out[:5]])) + (", ..." if len(left_out) > 5 else "")
        logger.warning(
            "%d spots without a single count are left out of the model and take their neighbourhood's domain: %s",
            len(left_out),
            names,
        )


def _reused(graph: Any, order: NDArray[np.int64]) -> sparse.csr_matrix:
    """Bring a user's graph into our order and form: symmetric, ones, no diagonal."""
    matrix = sparse.csr_matrix(graph)[order][:, order]
    matrix = sparse.csr_matrix(matrix.maximum(matrix.T) != 0, dtype=np.float32)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix

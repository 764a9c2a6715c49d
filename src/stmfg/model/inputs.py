"""The observations a model uses, in an order that depends on their values alone, and the graph of their places."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmfg._core.blocks import Counts
from stmfg._core.checks import MIN_OBSERVATIONS
from stmfg.errors import InputError
from stmfg.model import graphs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config

logger = logging.getLogger("stmfg")

SORTED_BY_PLACE = 50_000
"""More observations than this are sorted by place first: what is close in tissue is then close in memory."""


@dataclass(frozen=True)
class Inputs:
    """The observations with counts, or all of a given embedding, in canonical order."""

    order: NDArray[np.int64]
    """Their positions in the AnnData, (n,)."""
    coordinates: NDArray[np.float64]
    counts: Counts | None
    depth: NDArray[np.float64] | None
    """Total counts, (n,)."""
    representation: NDArray[np.float32] | None
    extra: dict[str, NDArray[np.float32]]
    """What describes the observations in each further view, (n, d), by its name."""
    graph: sparse.csr_matrix
    """Spatial graph."""
    feature_graph: sparse.csr_matrix | None
    """Expression graph, when the AnnData brings one."""
    libraries: NDArray[np.int64] | None = None
    """Slice of each observation, codes from 0 without gaps; None of a single slice."""

    @property
    def n_libraries(self) -> int:
        """Number of slices."""
        return 1 if self.libraries is None else int(self.libraries.max()) + 1

    def subset(self, rows: NDArray[np.int64]) -> Inputs:
        """Return some of the observations; a given expression graph is left out, it is found anew among them."""
        return Inputs(
            order=self.order[rows],
            coordinates=self.coordinates[rows],
            counts=None if self.counts is None else self.counts.subset(rows),
            depth=None if self.depth is None else self.depth[rows],
            representation=None if self.representation is None else self.representation[rows],
            extra={name: x[rows] for name, x in self.extra.items()},
            graph=self.graph[rows][:, rows],
            feature_graph=None,
            libraries=None if self.libraries is None else self.libraries[rows],
        )


def prepare(tissue: Tissue, config: Config) -> Inputs:
    """Bring the observations that can be used into canonical order.

    The order depends on the values alone, so that permuting the observations of the input permutes every result and
    changes nothing else.

    Parameters
    ----------
    tissue
        What was read of the AnnData.
    config
        How the spatial graph is built, where the AnnData brings none.

    Raises
    ------
    InputError
        If there are too few observations with counts.
    """
    if tissue.sums is not None:
        entries, depth, square = tissue.sums
        keys = [entries, square, depth]
    else:
        depth = None
        keys = [] if tissue.representation is None else [*tissue.representation.T[2::-1]]
    places = [*tissue.coordinates.T]
    order = np.lexsort([*places, *keys] if len(places[0]) <= SORTED_BY_PLACE else [*keys, *places])
    order = order[~tissue.left_out[order]]
    if len(order) < MIN_OBSERVATIONS:
        raise InputError(f"only {len(order)} spots have counts; at least {MIN_OBSERVATIONS} are needed")
    libraries = None
    if tissue.libraries is not None:
        codes, libraries = np.unique(tissue.libraries[order], return_inverse=True)
        libraries = libraries if len(codes) > 1 else None
    if tissue.spatial_graph is None:
        graph = build_spatial_graph(tissue.coordinates[order], libraries, config)
    else:
        logger.info("using the spatial graph that the data bring")
        graph = _clean_graph(tissue.spatial_graph, order)
    return Inputs(
        order=order,
        coordinates=tissue.coordinates[order],
        counts=None if tissue.counts is None else Counts(tissue.counts, order),
        depth=None if depth is None else depth[order],
        representation=None if tissue.representation is None else tissue.representation[order],
        extra={name: x[order] for name, x in tissue.extra.items()},
        graph=graph,
        feature_graph=None if tissue.feature_graph is None else _clean_graph(tissue.feature_graph, order),
        libraries=libraries,
    )


def build_spatial_graph(
    coordinates: NDArray[np.float64], libraries: NDArray[np.int64] | None, config: Config
) -> sparse.csr_matrix:
    """Link observations (n,) in tissue as the options say."""
    return graphs.spatial_graph(
        coordinates,
        n_neighbors=config.spatial_neighbors,
        radius=config.spatial_radius,
        libraries=graphs.unlinked(coordinates, libraries, stacked=config.stacked),
    )


def warn_left_out(tissue: Tissue) -> None:
    """Warn of the observations that the model cannot use, and say what becomes of them."""
    rows = np.flatnonzero(tissue.left_out)
    if len(rows):
        names = ", ".join(map(str, tissue.names[rows[:5]])) + (", ..." if len(rows) > 5 else "")
        logger.warning(
            "%d spots without a single count are left out of the model and take their neighbourhood's domain: %s",
            len(rows),
            names,
        )


def _clean_graph(graph: Any, order: NDArray[np.int64]) -> sparse.csr_matrix:
    """Bring a user's graph into our order and form: symmetric, ones, no diagonal."""
    matrix = sparse.csr_matrix(graph)[order][:, order]
    matrix = sparse.csr_matrix(matrix.maximum(matrix.T) != 0, dtype=np.float32)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix

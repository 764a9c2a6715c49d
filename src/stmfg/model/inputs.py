"""The observations a model uses, in an order that depends on their values alone, and the graphs between them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmfg._core.checks import MIN_OBSERVATIONS
from stmfg._core.geometry import sort_by
from stmfg.errors import InputError
from stmfg.model import graphs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config
    from stmfg.model.features import FeatureMap

logger = logging.getLogger("stmfg")

LITTLE_WEIGHT = 0.1
"""A further view with less weight than this does next to nothing."""
SORTED_BY_PLACE = 50_000
"""More observations than this are sorted by place first: what is close in tissue is then close in memory."""


def prepare(tissue: Tissue, config: Config) -> tuple[Tissue, NDArray[np.int64]]:
    """Bring the observations that have counts into an order of their values, and build their spatial graph.

    Permuting the observations of the input then permutes every result and changes nothing else.

    Returns
    -------
    The observations, with the graphs in our form, and their positions in the AnnData.
    """
    keys = [] if tissue.representation is None else [*tissue.representation.T[2::-1]]
    if tissue.sums is not None:
        keys = [tissue.sums[0], tissue.sums[2], tissue.sums[1]]
    places = [*tissue.coordinates.T]
    order = sort_by([*places, *keys] if len(places[0]) <= SORTED_BY_PLACE else [*keys, *places])
    order = order[~tissue.left_out[order]]
    if len(order) < MIN_OBSERVATIONS:
        raise InputError(f"only {len(order)} spots have counts; at least {MIN_OBSERVATIONS} are needed")
    used, graph = tissue.subset(order), tissue.spatial_graph
    if used.libraries is not None:  # a slice may have lost all its spots
        codes, libraries = np.unique(used.libraries, return_inverse=True)
        used = replace(used, libraries=libraries if len(codes) > 1 else None)
    near = None
    if graph is None and config.spatial_radius and config.spatial_neighbors:
        near = build_spatial_graph(used, config.replace(spatial_radius=0.0))
    return replace(
        used,
        spatial_graph=build_spatial_graph(used, config) if graph is None else _clean_graph(graph, order),
        near_graph=near,
        feature_graph=None if used.feature_graph is None else _clean_graph(used.feature_graph, order),
    ), order


def build_spatial_graph(tissue: Tissue, config: Config) -> sparse.csr_matrix:
    """Link observations in tissue as the options say."""
    return graphs.spatial_graph(
        tissue.coordinates,
        n_neighbors=config.n_linked,
        radius=config.spatial_radius,
        libraries=graphs.unlinked(tissue.coordinates, tissue.libraries, stacked=config.stacked),
    )


def _clean_graph(graph: Any, order: NDArray[np.int64]) -> sparse.csr_matrix:
    """Bring a user's graph into our order and form: symmetric, ones, no diagonal."""
    matrix = sparse.csr_matrix(graph)[order][:, order]
    matrix = sparse.csr_matrix(matrix.maximum(matrix.T) != 0, dtype=np.float32)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def build_graphs(
    spots: Tissue, factors: NDArray[np.float32], maps: dict[str, FeatureMap], config: Config
) -> dict[str, sparse.csr_matrix]:
    """Return the graph of every view, (n, n), between prepared observations.

    A further view whose factors join the features links what is alike in expression and view together: neighbours in
    the view alone mix what differs in expression. Any other links what is alike in the view, and the attention finds
    out whether that helps. ``maps`` say which columns of the factors (n, d) belong to which view.
    """
    view_graphs = {"spatial": spots.spatial_graph}
    operator, expression, end = graphs.walk_operator(spots.surroundings), maps["feature"], 0
    for name, feature_map in maps.items():
        start, end = end, end + feature_map.width
        columns, weights = np.arange(start, end), feature_map.autocorrelation
        if name == "feature":
            if name not in config.views:
                continue
            if spots.feature_graph is not None:
                view_graphs[name] = spots.feature_graph
                continue
        elif feature_map.joining.any():
            columns = np.concatenate([np.arange(expression.width), columns[feature_map.joining]])
            weights = np.concatenate([expression.autocorrelation, weights[feature_map.joining]])
        # Smoothed in tissue, and the more spatial ones counting more.
        x = graphs.walk(operator, factors[:, columns], config.feature_steps)
        x = x * np.sqrt(np.maximum(weights, 0)).astype(np.float32)
        view_graphs[name] = graphs.feature_graph(x, n_neighbors=config.feature_neighbors)
    return view_graphs


def report_views(weights: NDArray[np.float32], columns: list[str], maps: dict[str, FeatureMap], config: Config) -> None:
    """Warn of further views that do not help to predict expression, and say which join the features.

    Given the weights (n, layers * views), the names of their columns, and the map of every view.
    """
    for name in config.extra_views:
        weight = float(weights[:, [column.endswith(f": {name}") for column in columns]].mean())
        if maps[name].joining.any():
            logger.info("the view %r shows separate groups of spots, which join the features", name)
        elif config.epochs and weight < LITTLE_WEIGHT:
            logger.warning("the view %r does not help to predict expression: its weight is %.2f", name, weight)


def warn_left_out(tissue: Tissue) -> None:
    """Warn of the observations that the model cannot use, and say what becomes of them."""
    names = tissue.names[tissue.left_out]
    if len(names):
        logger.warning(
            "%d spots without a single count are left out of the model and take their neighbourhood's domain: %s",
            len(names),
            ", ".join(map(str, names[:5])) + (", ..." if len(names) > 5 else ""),
        )

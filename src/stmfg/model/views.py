"""Views besides tissue and expression: what any other measurement of the same spots adds. Arrays only.

A view described by a matrix, such as features of the tissue image or protein, gives the network two things: its
spatial factors, found as those of the expression and put beside them, and a graph of neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmfg.model import features as _features
from stmfg.model import graphs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stmfg.config import Config
    from stmfg.model.features import FeatureMap
    from stmfg.model.inputs import Inputs


def fit(
    inputs: Inputs, operator: csr_matrix, config: Config, random_state: int
) -> tuple[dict[str, FeatureMap], list[NDArray[np.float32]]]:
    """Fit the map of every further view from its matrix (n, d), whose columns may differ in unit, and apply it."""
    fitted = {
        name: _features.fit(None, x, operator, config, random_state, alike=False, libraries=inputs.libraries)
        for name, x in inputs.extra.items()
    }
    return {name: feature_map for name, (feature_map, _) in fitted.items()}, [x for _, x in fitted.values()]


def build_view_graphs(
    expression: FeatureMap,
    maps: dict[str, FeatureMap],
    features: NDArray[np.float32],
    spatial: csr_matrix,
    config: Config,
) -> dict[str, csr_matrix]:
    """Return the graph of every further view: neighbours in expression and in the view together.

    Neighbours in the view alone mix what differs in expression: where the image tells two halves of one domain apart
    it is the same in all others.

    Parameters
    ----------
    expression, maps
        What the columns of the features came from: first the expression, then each view.
    features
        Input of the network, (n, d).
    spatial
        Spatial graph, (n, n).
    config
        ``feature_steps``, ``feature_neighbors``.
    """
    view_graphs: dict[str, csr_matrix] = {}
    ours, end = np.arange(expression.width), expression.width
    for name, feature_map in maps.items():
        columns = np.concatenate([ours, np.arange(end, end + feature_map.width)])
        weights = np.concatenate([expression.autocorrelation, feature_map.autocorrelation])
        view_graphs[name] = neighbors(features[:, columns], weights, spatial, config)
        end += feature_map.width
    return view_graphs


def neighbors(
    features: NDArray[np.float32], autocorrelation: NDArray[np.float64], spatial: csr_matrix, config: Config
) -> csr_matrix:
    """Return the graph of nearest neighbours among features smoothed in tissue, the more spatial ones counting more."""
    x = graphs.walk(graphs.walk_operator(spatial), features, config.feature_steps)
    if autocorrelation.size:
        x = x * np.sqrt(np.maximum(autocorrelation, 0)).astype(np.float32)
    return graphs.feature_graph(x, n_neighbors=config.feature_neighbors)

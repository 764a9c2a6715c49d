"""How wide neighbourhoods are: no wider than a domain, and narrow where surroundings do not show what spots do.

Averaging over neighbours takes away noise, and with it what is narrower than the neighbourhood: layers a spot or two
wide, as in an olfactory bulb on a coarse array. Two halves of the molecules tell which it is, as they share the tissue
but not the noise: how much of one half's components do those of the other explain, as they are and averaged?
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stmfg.config import Config
from stmfg.model import graphs
from stmfg.model.features import Fitted, fit, fit_counts
from stmfg.model.inputs import build_spatial_graph
from stmfg.model.offsets import centred
from stmfg.model.thinning import take_half

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.tissue import Tissue

logger = logging.getLogger("stmfg")

WIDTHS_OF_SPOTS = (6, 18, 50)
"""Nearest neighbours averaged over on a grid of spots: one ring of a hexagonal grid, two, nearly four."""
WIDTHS_OF_CELLS = (6, 18, 50, 120)
"""The same of cells, of which a spot of an array holds several."""
NARROW_WIDTHS = (0, 4)
"""The same of spots in narrow neighbourhoods: a spot alone, and the nearest of a square grid."""
PART_OF_DOMAIN = 6
"""A neighbourhood holds at most that part of an average domain: small tissue gets narrow ones."""
LEAST_WIDTH = 6
LEAST_RATIO = 1.25
"""Widths that are closer than that are one."""
N_COMPARED = 5
"""Leading components whose held-out molecules are explained."""
COMPARED_AT_MOST = 20_000
"""Observations, in whole patches of tissue, that are looked at."""
COMPARED_WIDTH = 18
LEAST_KEPT = 0.75
"""Neighbourhoods are narrow where averages explain less than that share of what spots alone explain."""


def choose_widths(n: float, n_domains: int, *, mixtures: bool, narrow: bool = False) -> list[int]:
    """Return the widths to average over, in neighbours, of slices of n observations: a small part of a domain."""
    if narrow:
        return list(NARROW_WIDTHS)
    widest = max(LEAST_WIDTH, int(n / n_domains / PART_OF_DOMAIN))
    widths: list[int] = []
    for width in WIDTHS_OF_SPOTS if mixtures else WIDTHS_OF_CELLS:
        narrowed = min(width, widest)
        if all(narrowed >= LEAST_RATIO * other for other in widths):
            widths.append(narrowed)
    return widths


def describe(
    spots: Tissue, config: Config, random_state: int, given_graph: Any = None
) -> tuple[Tissue, Fitted, Config]:
    """Fit the features, and decide how wide neighbourhoods are where ``config.neighborhoods`` is ``"auto"``.

    Only spots that are mixtures of cells, and have counts, can be narrow: cells differ from their neighbours by type,
    which is not what domains are, and what is noise in an embedding is not known.

    Parameters
    ----------
    spots
        Prepared observations, see :func:`stmfg.model.inputs.prepare`.
    config
        Hyperparameters.
    random_state
        Seed.
    given_graph
        The spatial graph, where the data brought it: it is then left as it is.

    Returns
    -------
    The observations, their features, and the hyperparameters, all with what was decided.
    """
    fitted = fit(spots, config, random_state)
    if config.neighborhoods == "auto":
        kept = 1.0
        if fitted.maps["feature"].mixtures and spots.counts is not None:
            kept = measure_kept(spots, fitted.components)
        config = config.replace(neighborhoods="narrow" if kept < LEAST_KEPT else "wide")
        if kept < LEAST_KEPT:
            percent = 100 * kept
            logger.info("averages over tissue keep %.0f %% of what spots show, so neighbourhoods are narrow", percent)
        if given_graph is None and config.n_linked < config.spatial_neighbors:
            spots = replace(spots, spatial_graph=build_spatial_graph(spots, config))
            fitted = fit(spots, config, random_state)
    return spots, fitted, config


def measure_kept(spots: Tissue, components: NDArray[np.float32]) -> float:
    """Return what averages over neighbours explain of held-out molecules, as a share of what spots alone explain.

    Each half of the molecules has principal components of its own, those of the other half are regressed on them, and
    the explained variance is adjusted for the number of columns. It hangs on no seed of a run. Where averages explain
    the ``components`` (n, d) of all molecules well enough, noise included, that share is returned, which costs less.
    """
    rows = graphs.patches(spots.coordinates, COMPARED_AT_MOST, spots.libraries)
    spots, whole = spots.subset(rows), components[rows, :N_COMPARED].astype(np.float64)
    graph = graphs.spatial_graph(spots.coordinates, n_neighbors=COMPARED_WIDTH, libraries=spots.libraries)
    average = graphs.walk_operator(graph)
    if (share := _explain(average @ whole, whole)) >= LEAST_KEPT:
        return share
    few, parts = Config(n_components=N_COMPARED), []
    for is_other in (False, True):
        counts = take_half(spots, 0, other=is_other).counts
        if counts is None:
            raise ValueError("there are no molecules to take half of")
        parts.append(centred(fit_counts(counts, few, 0, spots.libraries)[0], spots.libraries))
    one, other = (part.astype(np.float64) for part in parts)
    averaged = _explain(average @ one, other) + _explain(average @ other, one)
    return float(averaged / max(_explain(one, other) + _explain(other, one), 1e-12))


def _explain(x: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the share of the variance of y (n, d) that a linear regression on x (n, d) explains, adjusted."""
    n, d = x.shape
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    residual = y - x @ np.linalg.lstsq(x, y)[0]
    unexplained = float(np.square(residual).sum()) / max(float(np.square(y).sum()), 1e-12)
    return float(1 - unexplained * (n - 1) / max(n - d - 1, 1))

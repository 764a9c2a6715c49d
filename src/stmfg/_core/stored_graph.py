"""Whether the spatial graph that data bring is one to use: who made it, from which positions, and whether it fits.

``uns["stmfg"]["graph"]`` records how a graph of ours was made. One without a record, or that is not the one recorded,
is of another tool.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pandas.util import hash_array
from scipy import sparse

from stmfg._keys import EMBEDDING, SPATIAL_GRAPH, UNS, VIEW_WEIGHTS
from stmfg.errors import InputError, flag, in_words

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated
    from stmfg.config import Config

logger = logging.getLogger("stmfg")

RECORD: Final = "graph"
"""In ``uns["stmfg"]``: the record."""
TRAINING, BY_HAND, DATA = "training", "stmfg.gr.spatial", "another tool"
"""Who made a graph."""
OPTIONS: Final[dict[str, type[int] | type[float]]] = {"spatial_neighbors": int, "spatial_radius": float}
"""Hyperparameters that say how a graph is built."""
_FAR: Final = 0.7
"""Length of links in that of links between any spots from which on they are not those of neighbours."""
_ALONE: Final = 0.2
"""Share of spots without a link from which on a graph is not that of the tissue."""
_WHERE: Final = f"obsp[{SPATIAL_GRAPH!r}]"


@dataclass(frozen=True)
class StoredGraph:
    """A spatial graph to use; none where one is to be built."""

    matrix: Any | None = None
    made_by: str = TRAINING
    options: dict[str, Any] = field(default_factory=dict)
    """Hyperparameters that it was made with, where these are not those of the model."""


def record(
    graph: Any, made_by: str, coordinates: NDArray[np.float64], libraries: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of a graph: who made it, with which options, and digests of what it was made from and of it."""
    marks = _marks(coordinates, libraries)
    about = {"made_by": made_by, "n_obs": len(marks), "positions": _total(marks), "links": _of_links(graph, marks)}
    return about | options


def _marks(coordinates: NDArray[np.float64], libraries: Any) -> NDArray[np.uint64]:
    """Return a number for each observation that its place and slice determine, (n,)."""
    marks = np.zeros(len(coordinates), dtype=np.uint64)
    if libraries is not None:
        marks = np.unique(np.asarray(libraries), return_inverse=True)[1].astype(np.uint64) + np.uint64(1)
    for column in np.asarray(coordinates, dtype=np.float64).T:
        marks = hash_array(marks + np.ascontiguousarray(column).view(np.uint64))
    return marks


def _total(marks: NDArray[np.uint64]) -> str:
    """Return a digest of numbers that does not depend on their order."""
    return f"{int(hash_array(marks).sum(dtype=np.uint64)):016x}"


def _of_links(graph: Any, marks: NDArray[np.uint64]) -> str:
    links = sparse.coo_matrix(graph)
    return _total(marks[links.row] * np.uint64(3) + marks[links.col])


def _made(adata: Annotated) -> dict[str, Any] | None:
    """Return the record of the graph; None where there is none, or what a file has in its place is none."""
    trained = adata.uns.get(UNS)
    if not isinstance(trained, Mapping):
        return None
    made = trained.get(RECORD)
    if not isinstance(made, Mapping):
        # Versions before the record left the graph of their training.
        return {"made_by": TRAINING, "n_obs": -1, "positions": "", "links": ""} if "params" in trained else None
    try:
        made = (
            {"n_obs": int(made["n_obs"])}
            | {name: str(made[name]) for name in ("made_by", "positions", "links")}
            | {name: kind(made[name]) for name, kind in OPTIONS.items() if name in made}
        )
    except (KeyError, TypeError, ValueError):
        return None
    return made if made["made_by"] == DATA or set(OPTIONS) <= set(made) else None


def forget_training(adata: Annotated) -> None:
    """Remove what an earlier training wrote, its spatial graph too, so that it is all made anew."""
    made = _made(adata)
    for key, slot in ((UNS, adata.uns), (EMBEDDING, adata.obsm), (VIEW_WEIGHTS, adata.obsm)):
        slot.pop(key, None)
    if made is not None and made["made_by"] == TRAINING:
        adata.obsp.pop(SPATIAL_GRAPH, None)
    elif made is not None and made["made_by"] == BY_HAND:
        adata.uns[UNS] = {RECORD: made}


def graph_options(adata: Annotated) -> dict[str, Any]:
    """Return the hyperparameters that the graph in use was made with; none where another tool made it."""
    made = _made(adata) or {}
    return {name: made[name] for name in OPTIONS if name in made}


def moved(adata: Annotated, coordinates: NDArray[np.float64], libraries: Any) -> bool:
    """Whether as many positions or slices are others than those the recorded graph was made from."""
    made = _made(adata)
    if made is None or made["n_obs"] != len(coordinates):
        return False
    return str(made["positions"]) != _total(_marks(coordinates, libraries))


def stored_graph(
    adata: Annotated,
    coordinates: NDArray[np.float64],
    libraries: NDArray[np.int64] | None,
    config: Config,
    given: Collection[str] = (),
) -> StoredGraph:
    """Return the graph that the data bring, if it is one to use.

    `libraries` is the slice of each observation, None where slices are linked; `given` names the hyperparameters that
    the user gave, which must not contradict a graph that is used.
    """
    if SPATIAL_GRAPH not in adata.obsp:
        return StoredGraph()
    graph, made = adata.obsp[SPATIAL_GRAPH], _made(adata)
    if made is None or made["made_by"] == DATA:
        return _foreign(graph, coordinates, libraries, given)
    marks = _marks(coordinates, libraries)
    if made["positions"] != _total(marks):
        if made["made_by"] == BY_HAND:
            logger.warning("%s was made from other positions or slices; it is built anew", _WHERE)
        return StoredGraph()
    if made["links"] != _of_links(graph, marks):
        return _foreign(graph, coordinates, libraries, given)
    wanted = {name: getattr(config, name) for name in OPTIONS}
    options = {name: made[name] for name in OPTIONS}
    if made["made_by"] != BY_HAND:
        return StoredGraph(graph) if options == wanted else StoredGraph()
    for name in OPTIONS:
        if name in given and wanted[name] != options[name]:
            raise InputError(
                f"{_WHERE} was made by stmfg.gr.spatial with {name}={options[name]}, not {wanted[name]}; "
                f"call it again with that, or leave {flag(name)} out"
            )
    return StoredGraph(graph, BY_HAND, options)


def _foreign(
    graph: Any, coordinates: NDArray[np.float64], libraries: NDArray[np.int64] | None, given: Collection[str]
) -> StoredGraph:
    """Return the graph of another tool if it can be used, and say so."""
    links = sparse.coo_matrix(graph)
    apart = (links.data != 0) & (links.row != links.col)
    rows, columns = links.row[apart], links.col[apart]

    def length(ends: NDArray[Any]) -> float:
        """Return the median length of links, of up to 100,000 of them."""
        chosen = slice(None, None, max(1, len(rows) // 100_000))
        return float(np.median(np.linalg.norm(coordinates[rows[chosen]] - coordinates[ends[chosen]], axis=1)))

    problem = ""
    if not len(rows):
        problem = "has no links"
    elif not np.isfinite(links.data).all():
        problem = "holds NaN or infinity"
    elif (links.data < 0).any():
        problem = "has negative weights"
    elif (alone := graph.shape[0] - len(np.unique(np.concatenate([rows, columns])))) > _ALONE * graph.shape[0]:
        problem = f"leaves {alone} of {graph.shape[0]} spots without a link"
    elif libraries is not None and (across := int((libraries[rows] != libraries[columns]).sum())):
        problem = f"has {across} links from slice to slice"
    elif length(columns) > _FAR * length(np.random.default_rng(0).permutation(columns)):
        problem = "links spots that are no nearer than any others, as if they were in another order"
    if problem:
        logger.warning("%s %s; the spatial graph is built anew", _WHERE, problem)
        return StoredGraph()
    for name in OPTIONS:
        if name in given:
            fix = in_words(f"leave it out, or remove the graph: del adata.{_WHERE}", "leave it out")
            raise InputError(f"{_WHERE} is of another tool and would be used, so {flag(name)} has no effect; {fix}")
    what, links_a_spot = f"the spatial graph in {_WHERE}, of another tool,", len(rows) / graph.shape[0]
    logger.warning("%s is used (%.1f links a spot); remove it to have one built", what, links_a_spot)
    return StoredGraph(graph, DATA)

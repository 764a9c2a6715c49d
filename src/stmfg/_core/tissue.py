"""The arrays that a model reads of an AnnData, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stmfg._core import checks
from stmfg._core.blocks import Counts, row_sums
from stmfg._core.stored_graph import StoredGraph, stored_graph
from stmfg._keys import FEATURE_GRAPH

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated
    from stmfg.config import Config


@dataclass(frozen=True)
class Tissue:
    """What a model reads of n observations, in the order of the AnnData."""

    names: Any  # names of the observations, (n,)
    genes: list[str]
    coordinates: NDArray[np.float64]  # (n, 2) or (n, 3)
    counts: Counts | None
    sums: NDArray[np.float64] | None  # entries, sum and sum of squares of the counts of each observation, (3, n)
    representation: NDArray[np.float32] | None  # embedding that takes the place of the counts, (n, d)
    extra: dict[str, NDArray[np.float32]]
    """What describes the observations in each further view, (n, d), by the view's name."""
    libraries: NDArray[np.int64] | None  # slice of each observation, codes from 0; None of a single slice
    slices: list[str]  # names of the slices; empty where no column names them
    spatial_graph: Any | None  # spatial graph (n, n), where the AnnData brings one to use
    graph_made_by: str  # who made that, or will make one
    graph_options: dict[str, Any]  # hyperparameters it was made with, where that was not with those of the model
    feature_graph: Any | None  # expression graph (n, n), where the AnnData brings one
    near_graph: Any | None = None
    """Surroundings over which features must agree, where these are not the spatial graph, (n, n)."""

    @property
    def surroundings(self) -> Any:
        """Graph of the surroundings over which features must agree and held-out molecules are counted."""
        return self.spatial_graph if self.near_graph is None else self.near_graph

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """Which observations have no count at all, (n,)."""
        return np.zeros(len(self.coordinates), dtype=bool) if self.sums is None else np.asarray(self.sums[1] == 0)

    def subset(self, rows: NDArray[np.int64]) -> Tissue:
        """Return some observations, in this order; graphs stay as they are."""

        def take(x: Any) -> Any:
            return None if x is None else x[rows]

        return replace(
            self,
            names=self.names[rows],
            coordinates=self.coordinates[rows],
            counts=None if self.counts is None else self.counts.subset(rows),
            sums=None if self.sums is None else self.sums[:, rows],
            representation=take(self.representation),
            extra={name: x[rows] for name, x in self.extra.items()},
            libraries=take(self.libraries),
        )


def read_tissue(
    adata: Annotated,
    *,
    use_rep: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    config: Config | None = None,
    given: Collection[str] = (),
) -> Tissue:
    """Check and read what a model needs; ``adata`` is not changed.

    `config` says which further views to read and how the spatial graph is built, neither when not given; `given` names
    the hyperparameters that the user gave. The other options are those of :meth:`stmfg.STMFG.fit`.
    """
    checks.observations(adata)
    coordinates = checks.coordinates(adata)
    checks.tissue(adata, coordinates, library_key)
    counts = None if use_rep is not None else checks.counts(adata, layer)
    representation = None if use_rep is None else checks.representation(adata, use_rep)
    libraries, slices = None, []
    extra = {name: checks.representation(adata, key) for name, key in (config.extra_views if config else {}).items()}
    if library_key is not None:
        names, codes = np.unique(checks.library_names(adata, library_key), return_inverse=True)
        libraries, slices = codes if len(names) > 1 else None, names.tolist()
    graph = StoredGraph()
    if config is not None:
        graph = stored_graph(adata, coordinates, None if config.stacked else libraries, config, given)
    return Tissue(
        names=adata.obs_names,
        genes=list(map(str, adata.var_names)),
        coordinates=coordinates,
        counts=None if counts is None else Counts(counts),
        sums=None if counts is None else row_sums(counts),
        representation=representation,
        extra=extra,
        libraries=libraries,
        slices=slices,
        spatial_graph=graph.matrix,
        graph_made_by=graph.made_by,
        graph_options=graph.options,
        feature_graph=adata.obsp.get(FEATURE_GRAPH),
    )

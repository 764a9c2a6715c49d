"""Plain averages over neighbourhoods: members of the vote beside the layers of the network. Arrays only.

What varies most between the spots of an array, each of them a mixture of cells, already varies by region: there the
principal components are averaged, once as they are and once with rows of unit length (what a spot expresses, without
how much). A single cell differs from its neighbour by its type first: there the spatial factors are averaged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg._core.timing import release_memory
from stmfg.model import graphs
from stmfg.model.features import select_inputs
from stmfg.model.network import Operator
from stmfg.model.widths import choose_widths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from stmfg.config import Config
    from stmfg.model.features import Fitted

STEPS = 2
"""Averages are taken over, and over again."""
WIDEST_LINKED = 18
"""Wider averages are taken over so many neighbours several times: as wide, for a tenth of time and memory."""
N_COMPONENTS = (15, 30)
"""Leading components that are averaged; two numbers, as none is best."""


@dataclass(frozen=True)
class Base:
    """What is averaged: leading components of spots, or spatial factors of cells."""

    values: NDArray[np.float32]
    """(n, d); the last ``n_joined`` columns are factors of further views that join the features."""
    mixtures: bool
    """Whether observations are mixtures of cells."""
    n_joined: int = 0
    narrow: bool = False
    """Whether neighbourhoods are narrow, see :mod:`stmfg.model.widths`."""

    def subset(self, rows: NDArray[Any]) -> Base:
        """Return the same of some observations."""
        return replace(self, values=self.values[rows])

    def with_values(self, values: NDArray[np.float32]) -> Base:
        """Return the same with other components or factors of the expression, (n, any number)."""
        joined = self.values[:, self.values.shape[1] - self.n_joined :]
        if joined.size:  # k-means, from which a mixture starts, sees the variance of each column
            joined = joined * (values[:, :1].std() / np.maximum(joined.std(axis=0), 1e-12))
        return replace(self, values=np.hstack([values, joined.astype(np.float32)]))


def choose_base(fitted: Fitted, config: Config) -> Base:
    """Choose what to average: the components of spots or the factors of cells, and what further views add."""
    expression = fitted.maps["feature"]
    values = fitted.components if expression.mixtures else fitted.factors[:, : expression.width]
    joined = select_inputs(fitted.factors, fitted.maps)[:, expression.width :]
    narrow = config.neighborhoods == "narrow"
    return Base(joined, expression.mixtures, joined.shape[1], narrow).with_values(values)


def average(
    base: Base,
    coordinates: NDArray[np.float64],
    n_domains: int,
    libraries: NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
    *,
    slice_size: float | None = None,
) -> Iterator[Tensor]:
    """Yield the averages that vote, each float32 (n, d), one at a time: a million cells fill 100 MB with each.

    Parameters
    ----------
    base
        What is averaged.
    coordinates
        Positions, (n, 2) or (n, 3).
    n_domains
        Number of domains.
    libraries
        Slice of each observation, codes (n,): no average is taken across slices.
    device
        Where they are computed, and stay.
    slice_size
        Mean number of observations of a slice; of those given when not given.
    """
    for average_once in list_averages(base, coordinates, n_domains, libraries, device, slice_size=slice_size):
        for x in prepare_inputs(base, plain=libraries is None):
            averaged = torch.from_numpy(x).to(device)
            del x
            release_memory()
            for _ in range(STEPS):
                averaged = average_once(averaged)
                yield averaged


def list_averages(
    base: Base,
    coordinates: NDArray[np.float64],
    n_domains: int,
    libraries: NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
    *,
    slice_size: float | None = None,
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function for each width, from narrow to wide, that averages values (n, d) over neighbourhoods so wide.

    The neighbours of a width are looked up when its turn comes. Parameters as of :func:`average`.
    """
    n = slice_size or len(coordinates) / (1 if libraries is None else len(np.unique(libraries)))
    linked = 0
    for width in choose_widths(n, n_domains, mixtures=base.mixtures, narrow=base.narrow):
        if not width:
            yield lambda x: x
            continue
        if linked < min(width, WIDEST_LINKED):
            linked = min(width, WIDEST_LINKED)
            graph: csr_matrix = graphs.spatial_graph(coordinates, n_neighbors=linked, libraries=libraries)
            operator = Operator(graphs.walk_operator(graph), torch.device(device))
        yield partial(_repeat, operator, math.ceil((width + 1) / (linked + 1)))


def _repeat(operator: Operator, times: int, x: Tensor) -> Tensor:
    for _ in range(times):
        x = operator(x)
    return x


def prepare_inputs(base: Base, *, plain: bool) -> Iterator[NDArray[np.float32]]:
    """Yield what is averaged, each (n, d): one for cells; for spots a few components, of unit rows and also plain.

    Slices differ in depth, which unit rows leave out: of several slices these alone are averaged.
    """
    values = base.values
    if not base.mixtures:
        yield values
        return
    n_components = values.shape[1] - base.n_joined
    components, joined = values[:, :n_components], values[:, n_components:]
    numbers = sorted({min(number, n_components) for number in N_COMPONENTS})
    unit = max(values[:, :1].std(), 1e-12)

    def beside_joined(x: NDArray[np.float32], weight: float = 1.0) -> NDArray[np.float32]:
        return np.hstack([x, joined * weight]) if joined.size else np.ascontiguousarray(x)

    def take_rows_of_unit_length(number: int) -> NDArray[np.float32]:
        x = components[:, :number]
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
        return beside_joined(x, x[:, :1].std() / unit)

    yield from map(take_rows_of_unit_length, numbers)
    if plain:
        yield from (beside_joined(components[:, :number]) for number in numbers)

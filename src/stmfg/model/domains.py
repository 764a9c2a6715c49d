"""From an embedding to domains: those of the vote, or those of another slice. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core import checks
from stmfg._core.geometry import sort_by
from stmfg._core.timing import stage
from stmfg.errors import InputError
from stmfg.model import number, transfer
from stmfg.model.averages import average
from stmfg.model.cluster import fill_empty, refine
from stmfg.model.graphs import walk_operator
from stmfg.model.inputs import SORTED_BY_PLACE
from stmfg.model.number import MOST, Choice, choose_number
from stmfg.model.survey import N_CLUSTERINGS, survey
from stmfg.model.threads import one_thread
from stmfg.model.tree import Tree, grow_tree
from stmfg.model.vote import list_members, vote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from stmfg.config import Config
    from stmfg.model.averages import Base
    from stmfg.model.plugins import Clusterer


@dataclass(frozen=True)
class Result:
    """What a model makes of n observations, in the order of the AnnData.

    Observations without a single count take the embedding, and the domain, of their surroundings.
    """

    embedding: NDArray[np.float32]
    """(n, d)."""
    view_weights: NDArray[np.float32]
    """Attention per layer and view, (n, layers * views)."""
    widths: list[int]
    """Columns of the embedding that belong to each layer, in order."""
    coordinates: NDArray[np.float64]
    graph: sparse.csr_matrix
    """Spatial graph, (n, n)."""
    graph_made_by: str
    """Who built it: this model, :func:`stmfg.gr.spatial`, or another tool."""
    left_out: NDArray[np.bool_]
    """Which observations have no count, (n,)."""
    base: Base | None = None
    """What is averaged over neighbourhoods, for members of the vote beside the network; None without them."""
    libraries: NDArray[np.int64] | None = None
    """Slice of each observation, codes from 0; None of a single slice."""
    slices: list[str] = field(default_factory=list)
    """Names of the slices; empty where no column names them."""
    labels: NDArray[np.str_] | None = None
    """Domain of each observation: ``"1"``, the largest where they were found, to ``str(n_domains)``."""
    confidence: NDArray[np.float32] | None = None
    """Share of the vote for that domain, in 0..1; 0 where an observation has no count."""
    domain_map: transfer.DomainMap | None = None
    """The domains, for labelling other slices."""
    tree: Tree | None = None
    """Coarser and finer domains around them; None where it was not asked for."""
    leaves: NDArray[np.int64] | None = None
    """Finest domain of each observation, a row of the names of the tree."""
    choice: Choice | None = None
    """How the number of domains was chosen; None where it was given."""
    unlike: NDArray[np.float32] | None = None
    """Of applied models: share of the spots it was trained on that are more typical than each observation, 0..1."""
    far: dict[str, float] = field(default_factory=dict)
    """Of applied models: share of each slice's spots beyond 99 % of those it was trained on."""
    genes_shared: float = 1.0
    """Of applied models: share of the genes the model uses that the data have."""

    @property
    def n_domains(self) -> int:
        """Number of domains; 0 where none were looked for."""
        return 0 if self.domain_map is None else len(self.domain_map.categories)

    def cut(self, n_domains: int) -> NDArray[Any]:
        """Return the domains at a level of the tree, names (n,)."""
        if self.tree is None or self.leaves is None:
            raise InputError("there is no tree of domains; fit the model with finest_level=15")
        return self.tree.names_at(n_domains)[self.leaves]

    def subset(self, rows: NDArray[Any]) -> Result:
        """Return the embedding of some observations, without domains."""
        return Result(
            embedding=self.embedding[rows],
            view_weights=self.view_weights[rows],
            widths=self.widths,
            coordinates=self.coordinates[rows],
            graph=self.graph[rows][:, rows],
            graph_made_by=self.graph_made_by,
            left_out=self.left_out[rows],
            base=None if self.base is None else self.base.subset(rows),
            libraries=None if self.libraries is None else self.libraries[rows],
            slices=self.slices,
        )


@one_thread()
def find_domains(
    result: Result,
    n_domains: int | str | Sequence[int],
    config: Config,
    random_state: int,
    clusterer: Clusterer | None = None,
    device: torch.device | str = "cpu",
) -> Result:
    """Cluster an embedding: choose how many domains, let clusterings vote, name the domains by their size.

    Exactly so many come out, none empty; ``"auto"`` chooses the number, see
    :func:`stmfg.model.number.choose_number`. A user's ``clusterer`` takes the place of ``config.clusterer``. Of
    several numbers the smallest is found; around it grows a tree, from 2 domains to ``config.finest_level`` or the
    largest. Averages and mixtures are computed on ``device``.

    Raises
    ------
    InputError
        If there are fewer observations with counts than domains.
    """
    used = _order_by_value(result)
    embedding, coordinates = result.embedding[used], result.coordinates[used]
    apart = None if result.libraries is None or config.stacked else result.libraries[used]
    libraries = None if apart is None else np.unique(apart, return_inverse=True)[1]
    base = result.base.subset(used) if config.averages and result.base is not None else None
    levels, choice = checks.levels(n_domains, len(used)), None
    needed = max(levels) if isinstance(levels, tuple) else 0
    known = 2 if isinstance(levels, str) else int(np.min(levels))
    surveyed = None
    if levels == "auto" or config.finest_level or needed:
        with stage("number of domains" if levels == "auto" else "tree"):
            numbers = range(2, max(MOST if levels == "auto" else known, config.finest_level, needed) + 1)
            often = number.N_CLUSTERINGS if levels == "auto" else N_CLUSTERINGS
            surveyed = survey(base, embedding, coordinates, libraries, numbers, often)
            if levels == "auto":
                choice = choose_number(surveyed)
                levels = choice.chosen
    k = levels[0] if isinstance(levels, tuple) else int(levels)
    with stage("domains"):
        averages: Iterable[Tensor] = [] if base is None else average(base, coordinates, k, libraries, device)
        members = list_members(embedding, result.widths, averages, config)
        posterior = vote(members, k, config, random_state, libraries=libraries, clusterer=clusterer, device=device)
        if config.refine:
            posterior = refine(posterior, walk_operator(result.graph[used][:, used]), config.refine)
    labels = fill_empty(posterior)
    # Of equally large domains the one with the first place comes first: rounding decides on the order of clusters.
    codes = [] if result.libraries is None else [result.libraries[used]]
    first = np.full(k, len(used))
    np.minimum.at(first, labels[np.lexsort([*result.coordinates[used].T, *codes])], np.arange(len(used)))
    by_size = np.lexsort([first, -np.bincount(labels, minlength=k)])
    labels, posterior = np.argsort(by_size)[labels], posterior[:, by_size]
    widths = result.widths if config.scales == "every" and len(result.widths) > 1 else []
    around = 1 + result.graph.nnz / len(result.embedding)
    domain_map = transfer.fit(embedding, posterior, widths, coordinates, around)
    labelled = replace(_label_all(result, used, labels, posterior), domain_map=domain_map, choice=choice)
    if surveyed is None or not (config.finest_level or needed):
        return labelled
    with stage("tree"):
        tree, leaves = grow_tree(surveyed.first(N_CLUSTERINGS), labels, embedding, config.finest_level, needed)
    return replace(labelled, tree=tree, leaves=_place_all(labelled, used, tree, leaves))


def _place_all(result: Result, used: NDArray[np.int64], tree: Tree, leaves: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the leaf of every observation: of those left out, the one that most of their domain nearby are in."""
    placed = np.zeros(len(result.embedding), dtype=np.int64)
    placed[used] = leaves
    if result.left_out.any():
        weights = surroundings(result.graph, result.coordinates, result.left_out, result.libraries)
        share = weights @ np.eye(len(tree.names))[placed]
        fits = np.asarray(result.labels)[result.left_out][:, None] == tree.names_at(tree.anchor)
        placed[result.left_out] = np.where(fits, share, -1.0).argmax(axis=1)
    return placed


def assign_domains(
    result: Result, domain_map: transfer.DomainMap, *, adapt: bool = True, genes_shared: float = 1.0
) -> Result:
    """Give every observation the domain of another slice that it lies closest to.

    ``adapt`` estimates what each slice differs in as a whole, see :meth:`stmfg.model.transfer.DomainMap.posterior`.
    """
    used = _order_by_value(result)
    codes = np.zeros(len(result.embedding), dtype=np.int64) if result.libraries is None else result.libraries
    unlike = domain_map.unlike(result.embedding)
    posterior, far = np.zeros((len(used), len(domain_map.shares))), {}
    with stage("domains"), one_thread():
        for code in np.unique(codes[used]):
            rows = np.flatnonzero(codes[used] == code)
            posterior[rows] = domain_map.posterior(result.embedding[used[rows]], adapt=adapt)
            name = result.slices[code] if result.slices else ""
            far[name] = float((unlike[used[rows]] > transfer.FAR).mean())
    posterior = domain_map.join(posterior)
    return replace(
        _label_all(result, used, posterior.argmax(axis=1), posterior, domain_map.categories),
        domain_map=domain_map,
        unlike=unlike.astype(np.float32),
        far=far,
        genes_shared=genes_shared,
    )


def _order_by_value(result: Result) -> NDArray[np.int64]:
    """Order the observations with counts by their values alone: permuted input gives permuted domains."""
    rows = np.flatnonzero(~result.left_out)
    places, values = [*result.coordinates[rows].T], [*result.embedding[rows, :3].T[::-1]]
    return rows[sort_by([*places, *values] if len(rows) <= SORTED_BY_PLACE else [*values, *places])]


def _label_all(
    result: Result,
    used: NDArray[np.int64],
    codes: NDArray[np.int64],
    posterior: NDArray[np.float64],
    names: Sequence[str] = (),
) -> Result:
    """Label the used observations, and those left out by their surroundings."""
    n, k = len(result.embedding), posterior.shape[1]
    labels, confidence = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.float32)
    labels[used] = codes
    confidence[used] = np.clip(posterior[np.arange(len(used)), codes], 0, 1)
    if result.left_out.any():
        weights = surroundings(result.graph, result.coordinates, result.left_out, result.libraries)
        labels[result.left_out] = (weights @ np.eye(k)[labels]).argmax(axis=1)
    return replace(result, labels=np.array(names or [str(i + 1) for i in range(k)])[labels], confidence=confidence)


def surroundings(
    graph: sparse.csr_matrix,
    coordinates: NDArray[np.float64],
    left_out: NDArray[np.bool_],
    libraries: NDArray[np.int64] | None,
) -> sparse.csr_matrix:
    """Weights (n_left_out, n) that average over the used spatial neighbours of each observation left out.

    One without a used neighbour takes the nearest used observation of its slice.
    """
    weights = sparse.lil_matrix(graph[left_out] @ sparse.diags_array((~left_out).astype(float)))
    slices = np.zeros(len(left_out)) if libraries is None else libraries
    rows = np.flatnonzero(left_out)
    alone = np.flatnonzero(np.asarray(weights.sum(axis=1)).ravel() == 0)
    for name in np.unique(slices[rows[alone]]):
        of_slice = alone[slices[rows[alone]] == name]
        used = np.flatnonzero((slices == name) & ~left_out)
        if not len(used):  # a slice without a single count: any slice will do
            used = np.flatnonzero(~left_out)
        _, nearest = cKDTree(coordinates[used]).query(coordinates[rows[of_slice]])
        weights[of_slice, used[nearest]] = 1.0
    result = sparse.csr_matrix(weights)
    result.eliminate_zeros()
    return sparse.csr_matrix(sparse.diags_array(1 / np.asarray(result.sum(axis=1)).ravel()) @ result)

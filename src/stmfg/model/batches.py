"""What one training run works on: half of the molecules to read, the other half to predict; the spots of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg._core.blocks import Counts
from stmfg.model.features import FeatureMap, apply_map, select_inputs
from stmfg.model.genes import most_variable, sort_genes, take_genes
from stmfg.model.graphs import patches, walk_operator
from stmfg.model.inputs import build_graphs
from stmfg.model.kind import describe_spots
from stmfg.model.network import Operator
from stmfg.model.offsets import match_slice_means
from stmfg.model.thinning import split_embedding, thin_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config

__all__ = ["Batch", "HeldOut", "TrainingData", "gather_training_data", "operators"]

TRAIN_AT_MOST = 20_000
"""Spots the network is trained on: patches of tissue that hold about so many. It is applied to all."""
DECODED_ALONE = 0.25
"""Share of the spots of a step whose counts are decoded where they train nothing but the decoder: as good, for less."""
LEAST_DECODED = 32


@dataclass
class Batch:
    """The spots whose loss one step measures; the encoder always sees the whole graph."""

    spots: Tensor  # indices, (b,)
    target: Tensor  # held-out counts around the first c spots (c, genes), or without counts their factors (c, d)
    size: Tensor  # size factors, (c, 1): the target's depth over the median spot's; ones without counts
    library: Tensor  # slice of each of these spots, (c,)
    neighbors: Tensor  # index pairs linked in the spatial graph, (2, b)
    strangers: Tensor  # random index pairs, (2, b)


@dataclass(frozen=True)
class HeldOut:
    """What is to be predicted: the other half of the molecules."""

    features: NDArray[np.float32]
    """Their factors around each spot, or in narrow neighbourhoods its own, (n, d)."""
    autocorrelation: NDArray[np.float64]
    """How spatial each factor is: its weight in the error, (d,)."""
    counts: csr_matrix | None = None
    """Their counts of the decoded genes, (n, genes); None where only an embedding is given."""
    depth: NDArray[np.float64] | None = None
    """Their total over all genes, (n,); needed with counts."""


def operators(graphs: dict[str, csr_matrix], config: Config, device: torch.device) -> list[Operator]:
    """Return the mean over neighbours along the graph of every view."""
    return [Operator(walk_operator(graphs[view]), device) for view in config.view_names]


def build_part(graph: Any, rows: NDArray[np.int64]) -> csr_matrix:
    """Return the links between some of the spots."""
    return graph[rows][:, rows]


def gather_training_data(
    spots: Tissue,
    factors: NDArray[np.float32],
    maps: dict[str, FeatureMap],
    config: Config,
    device: torch.device,
    random_state: int,
) -> tuple[TrainingData, NDArray[np.int64]]:
    """Return both halves of what the network is trained on, and the genes to be decoded.

    Everything is trained on, or patches of a large tissue.
    """
    rows = patches(spots.coordinates, TRAIN_AT_MOST, spots.libraries)
    n_libraries = 1 if spots.libraries is None else int(spots.libraries.max()) + 1  # those without a patch, too
    if len(rows) < len(factors):
        near = None if spots.near_graph is None else build_part(spots.near_graph, rows)
        parts = {"near_graph": near, "spatial_graph": build_part(spots.spatial_graph, rows), "feature_graph": None}
        spots = replace(spots.subset(rows), **parts)
        factors = factors[rows]
    libraries = np.zeros(len(factors), dtype=np.int64) if spots.libraries is None else spots.libraries
    expression, counts, depth, decoded = maps["feature"], None, None, np.zeros(0, dtype=np.int64)
    if spots.counts is not None:
        whole = spots.counts.rows(slice(None))
        # In an order of the genes' values: permuted genes are then dealt the same molecules.
        genes = sort_genes(whole, np.arange(whole.shape[1]))
        whole, place = take_genes(whole, genes), np.argsort(genes)
        sorted_map = replace(expression.restricted(place), mixtures=False)
        halves = thin_counts(whole, random_state)
        read, held_out = (apply_map(sorted_map, Counts(half), log1p=config.log1p) for half in halves)
        if expression.mixtures:
            read, held_out = (_describe_half(half, factors, expression, libraries) for half in (read, held_out))
        decoded = expression.genes
        if config.decoder_genes:
            decoded = decoded[most_variable(whole[:, place[decoded]], config.decoder_genes)]
        counts, depth = halves[1][:, place[decoded]], np.asarray(halves[1].sum(axis=1, dtype=np.float64)).ravel()
    else:
        read, held_out = split_embedding(factors[:, : expression.width], spots.surroundings, random_state)
    # What slices differ in was found on all molecules: each half is given the slice means of the whole.
    views = factors[:, expression.width :]
    read, held_out = (
        np.hstack([match_slice_means(half, factors[:, : expression.width], libraries), views])
        for half in (read, held_out)
    )
    autocorrelation = np.concatenate([m.autocorrelation[m.joining] for m in maps.values()])
    graphs = build_graphs(spots, read, maps, config)
    held_out = select_inputs(held_out, maps)
    # Where surroundings do not show what a spot does, they are not what is to be predicted.
    target = held_out if config.neighborhoods == "narrow" else walk_operator(spots.surroundings) @ held_out
    if spots.libraries is not None and not config.stacked and "feature" in graphs:
        # Tissue does not link slices, expression does: what lies around a spot in tissue alone would be predicted best
        # by tissue alone, and slices would no longer mix.
        target = target + walk_operator(graphs["feature"]) @ held_out
    held = HeldOut(target, autocorrelation, counts, depth)
    data = TrainingData(select_inputs(read, maps), graphs, spots.surroundings, held, config, device)
    data.set_slices(spots.libraries, n_libraries)
    return data, decoded


def _describe_half(
    components: NDArray[np.float32], factors: NDArray[np.float32], expression: FeatureMap, libraries: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the components of half of the molecules, plain and with rows of unit length, as of the whole.

    What a slice differs in as a whole is taken off first: a row's direction is the one from the mean of its slice.
    """
    n_plain = expression.width // 2
    plain = factors[:, :n_plain] * np.float32(expression.spread[0])
    return describe_spots(match_slice_means(components[:, :n_plain], plain, libraries), np.zeros(0))


class TrainingData:
    """Everything a training run reads, on its device.

    Parameters
    ----------
    features
        Input of the network, (n, d), of the first half.
    graphs
        Symmetric graphs by view name, each (n, n), of the first half.
    near
        Graph of the surroundings over which the other half is counted, (n, n).
    held_out
        The other half.
    config
        Hyperparameters.
    device
        Where the tensors live.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        graphs: dict[str, csr_matrix],
        near: csr_matrix,
        held_out: HeldOut,
        config: Config,
        device: torch.device,
    ) -> None:
        self.device = device
        self.n = len(features)
        self.set_slices(None, 1)
        self.features = torch.from_numpy(features).to(device)
        self.operators = operators(graphs, config, device)
        target = held_out.features
        target = (target - target.mean(axis=0)) / np.maximum(target.std(axis=0), 1e-6)
        self.target = torch.from_numpy(np.asarray(target, dtype=np.float32)).to(device)
        """Held-out factors, columns of unit variance, (n, d)."""
        weight = np.maximum(held_out.autocorrelation, 0) + 1e-6
        self.share = torch.from_numpy((weight / weight.sum()).astype(np.float32)).to(device)
        spatial = graphs["spatial"]
        self._edges = np.stack([np.repeat(np.arange(self.n), np.diff(spatial.indptr)), spatial.indices])
        self._links = [graph.indices for graph in graphs.values()]
        self._batch_size = min(config.batch_size or self.n, self.n)
        few = max(int(self._batch_size * DECODED_ALONE), min(self._batch_size, LEAST_DECODED))
        self._n_decoded = few if config.decodes_apart else self._batch_size
        self.counts = held_out.counts
        self._around, self._own_depth = (
            walk_operator(near),
            np.ones(self.n) if held_out.depth is None else held_out.depth,
        )
        self._around.data[:] = 1.0  # sums over the surroundings: they stay counts
        self._depth = self._around @ self._own_depth
        self._middle = max(float(np.median(self._depth)), 1e-12)
        self.spot_size = 2 * float(np.median(self._own_depth)) / self._middle
        """Size factor of the median spot alone, at the depth of both halves together."""

    def set_slices(self, libraries: NDArray[np.int64] | None, n_libraries: int) -> None:
        """Say which slice each spot is of, codes (n,), and how many there are, also without a spot here."""
        self._libraries = np.zeros(self.n, dtype=np.int64) if libraries is None else libraries
        self.n_libraries = n_libraries

    def list_arrays(self) -> list[NDArray[Any]]:
        """Return what identifies the data: whoever continues from a checkpoint must have the same."""
        arrays = [self.features.cpu().numpy(), self.target.cpu().numpy(), self._edges, self._own_depth, *self._links]
        return arrays if self.counts is None else [*arrays, self.counts.indptr, self.counts.indices, self.counts.data]

    def mean_target(self) -> NDArray[np.float64]:
        """Return the mean count of each decoded gene at size factor one on each slice, (n_libraries, genes)."""
        if self.counts is None:
            raise ValueError("there are no counts to decode")
        degree = np.asarray(self._around.sum(axis=0)).ravel()
        means = []
        for code in range(self.n_libraries):
            weight = degree * (self._libraries == code)
            weight = weight if weight.any() else degree  # none of the slice's spots is trained on
            depth = max(float(weight @ self._own_depth), 1e-12)
            means.append(np.asarray(weight @ self.counts).ravel() * self._middle / depth)
        return np.stack(means)

    def batch(self, generator: torch.Generator) -> Batch:
        """Draw the spots and pairs of one step."""
        spots = torch.randperm(self.n, generator=generator)[: self._batch_size]
        decoded = spots[: self._n_decoded]
        rows = decoded.numpy()
        if self.counts is not None:
            target = torch.from_numpy((self._around[rows] @ self.counts).toarray().astype(np.float32))
            size = torch.from_numpy((self._depth[rows] / self._middle).astype(np.float32)).unsqueeze(1)
        else:
            target, size = self.target[decoded.to(self.device)], torch.ones(len(rows), 1)
        n_edges = self._edges.shape[1]
        chosen = torch.randint(max(n_edges, 1), (len(spots),), generator=generator).numpy()
        neighbors = self._edges[:, chosen] if n_edges else np.zeros((2, len(spots)), dtype=np.int64)
        strangers = torch.randint(self.n, (2, len(spots)), generator=generator)
        library, linked = torch.from_numpy(self._libraries[rows]), torch.from_numpy(neighbors.astype(np.int64))
        return Batch(*(x.to(self.device) for x in (spots, target, size, library, linked, strangers)))

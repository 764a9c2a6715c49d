"""What one training run works on: features, graphs and counts as tensors, and the spots of each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse

from stmfg.model.features import FeatureMap, most_variable
from stmfg.model.graphs import patches, symmetric_operator, walk_operator
from stmfg.model.inputs import build_graphs
from stmfg.model.network import Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config

__all__ = ["Batch", "TrainingData", "gather_training_data", "operators"]

TRAIN_AT_MOST = 20_000
"""Spots the network is trained on: patches of tissue that hold about so many. It is applied to all."""


@dataclass
class Batch:
    """The spots whose loss one step measures; the encoder always sees the whole graph."""

    spots: Tensor  # indices, (b,)
    target: Tensor  # counts (b, genes) or features (b, d) to reconstruct
    size: Tensor  # size factors, (b, 1): the target's depth over the median spot's; ones without counts
    library: Tensor  # slice of each spot, (b,)
    neighbors: Tensor  # index pairs linked in the spatial graph, (2, b)
    strangers: Tensor  # random index pairs, (2, b)


def operators(graphs: dict[str, csr_matrix], config: Config, device: torch.device) -> list[Operator]:
    """Return the propagation along the graph of every view, as its convolutions take it."""
    normalised = walk_operator if config.convolution == "linear" else symmetric_operator
    return [Operator(normalised(graphs[view]), device) for view in config.view_names]


def gather_training_data(
    spots: Tissue,
    features: NDArray[np.float32],
    graphs: dict[str, csr_matrix],
    maps: dict[str, FeatureMap],
    config: Config,
    device: torch.device,
) -> tuple[TrainingData, NDArray[np.int64]]:
    """Return what the network is trained on, everything or patches of a large tissue, and the genes to be decoded."""
    rows = patches(spots.coordinates, TRAIN_AT_MOST, spots.libraries)
    n_libraries = 1 if spots.libraries is None else int(spots.libraries.max()) + 1  # those without a patch, too
    if len(rows) < len(features):
        # A spot's neighbours in expression are everywhere: among the patches they are looked for anew.
        graph, features = graphs["spatial"][rows][:, rows], features[rows]
        spots = replace(spots.subset(rows), spatial_graph=graph, feature_graph=None)
        graphs = build_graphs(spots, features, maps, config)
    counts, depth, decoded = None, None, np.zeros(0, dtype=np.int64)
    if spots.counts is not None and spots.sums is not None and config.reconstruction == "zinb":
        counts, depth, decoded = spots.counts.rows(slice(None)), spots.sums[1], maps["feature"].genes
        if config.decoder_genes:
            decoded = decoded[most_variable(counts[:, decoded], config.decoder_genes)]
        counts = counts[:, decoded]
    return TrainingData(features, graphs, counts, depth, config, device, spots.libraries, n_libraries), decoded


class TrainingData:
    """Everything a training run reads, on its device.

    Features (n, d) and graphs by view, each (n, n); raw counts of the decoded genes (n, genes) with the depth over all
    genes (n,), or ``None`` to reconstruct the features; slices as codes (n,), and how many, also those without a spot.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        graphs: dict[str, csr_matrix],
        counts: csr_matrix | None,
        depth: NDArray[np.float64] | None,
        config: Config,
        device: torch.device,
        libraries: NDArray[np.int64] | None = None,
        n_libraries: int = 1,
    ) -> None:
        self.device = device
        self.n = len(features)
        self._libraries = np.zeros(self.n, dtype=np.int64) if libraries is None else libraries
        self.n_libraries = n_libraries
        self.features = torch.from_numpy(features).to(device)
        self.operators = operators(graphs, config, device)
        spatial = graphs["spatial"]
        self._edges = np.stack([np.repeat(np.arange(self.n), np.diff(spatial.indptr)), spatial.indices])
        pooled = sparse.identity(self.n, dtype=np.float32, format="csr")
        self._pool = pooled + spatial if config.target == "neighbourhood" else pooled  # sums, so that they stay counts
        self.counts = counts
        self._depth = depth
        self._batch_size = min(config.batch_size or self.n, self.n)
        self._middle = self.spot_size = 1.0
        if depth is not None:
            self._middle = float(np.median(self._pool @ depth))
            self.spot_size = float(np.median(depth)) / self._middle
            """Size factor of the median spot alone: 1 unless counts are pooled over neighbours."""

    def mean_target(self) -> NDArray[np.float64]:
        """Return the mean count of each decoded gene at size factor one on each slice, (n_libraries, genes)."""
        if self.counts is None or self._depth is None:
            raise ValueError("there are no counts to decode")
        weight = np.asarray(self._pool.sum(axis=0)).ravel()
        means = []
        for code in range(self.n_libraries):
            w = weight * (self._libraries == code)
            w = w if w.any() else weight  # none of the slice's spots is trained on
            means.append(np.asarray(w @ self.counts).ravel() * self._middle / max(float(w @ self._depth), 1e-12))
        return np.stack(means)

    def batch(self, generator: torch.Generator) -> Batch:
        """Draw the spots and pairs of one step."""
        spots = torch.randperm(self.n, generator=generator)[: self._batch_size]
        rows = spots.numpy()
        if self.counts is not None and self._depth is not None:
            pool = self._pool[rows]
            target, depth = torch.from_numpy((pool @ self.counts).toarray().astype(np.float32)), pool @ self._depth
            size = torch.from_numpy((depth / self._middle).astype(np.float32)).unsqueeze(1)
        else:
            target = self.features[spots.to(self.device)]
            size = torch.ones(len(rows), 1)
        pairs = max(self._batch_size, 1)
        n_edges = self._edges.shape[1]
        chosen = torch.randint(max(n_edges, 1), (pairs,), generator=generator).numpy()
        neighbors = self._edges[:, chosen] if n_edges else np.zeros((2, pairs), dtype=np.int64)
        strangers = torch.randint(self.n, (2, pairs), generator=generator)
        library, linked = torch.from_numpy(self._libraries[rows]), torch.from_numpy(neighbors.astype(np.int64))
        return Batch(*(x.to(self.device) for x in (spots, target, size, library, linked, strangers)))

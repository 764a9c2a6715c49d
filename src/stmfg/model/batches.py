"""What one training run works on: features, graphs and counts as tensors, and the spots of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from stmfg.model.graphs import symmetric_operator, walk_operator
from stmfg.model.network import Operator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix
    from torch import Tensor

    from stmfg.config import Config

__all__ = ["Batch", "TrainingData", "operators"]


@dataclass
class Batch:
    """The spots whose loss one step measures; the encoder always sees the whole graph."""

    spots: Tensor
    """Indices, (b,)."""
    target: Tensor
    """Counts (b, genes) or features (b, d) to reconstruct."""
    size: Tensor
    """Size factors, (b, 1): the target's depth over the median spot's; ones without counts."""
    library: Tensor
    """Slice of each spot, (b,)."""
    neighbors: Tensor
    """Index pairs linked in the spatial graph, (2, b)."""
    strangers: Tensor
    """Random index pairs, (2, b)."""


def operators(graphs: dict[str, csr_matrix], config: Config, device: torch.device) -> list[Operator]:
    """Return the propagation along the graph of every view, as its convolutions take it."""
    normalised = walk_operator if config.convolution == "linear" else symmetric_operator
    return [Operator(normalised(graphs[view]), device) for view in config.view_names]


class TrainingData:
    """Everything a training run reads, on its device.

    Parameters
    ----------
    features
        Input of the network, (n, d).
    graphs
        Symmetric graphs by view name, each (n, n).
    counts
        Raw counts of the decoded genes, (n, genes); ``None`` reconstructs the features instead.
    depth
        Total counts of each spot over all genes, (n,); needed with counts.
    config
        Hyperparameters.
    device
        Where the tensors live.
    libraries
        Slice of each spot, codes (n,); ``None`` of a single slice.
    n_libraries
        Number of slices, also of those that have no spot here.
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
        self._pool = walk_operator(spatial) if config.target == "neighbourhood" else None
        if self._pool is not None:  # sums, not means: they stay counts
            self._pool.data[:] = 1.0
        self.counts = counts
        self._depth = depth
        self._batch_size = min(config.batch_size or self.n, self.n)
        self._middle = self.spot_size = 1.0
        if depth is not None:
            self._middle = float(np.median(depth if self._pool is None else self._pool @ depth))
            self.spot_size = float(np.median(depth)) / self._middle
            """Size factor of the median spot alone: 1 unless counts are pooled over neighbours."""

    def mean_target(self) -> NDArray[np.float64]:
        """Return the mean count of each decoded gene at size factor one on each slice, (n_libraries, genes)."""
        if self.counts is None or self._depth is None:
            raise ValueError("there are no counts to decode")
        weight = np.ones(self.n) if self._pool is None else np.asarray(self._pool.sum(axis=0)).ravel()
        found = []
        for code in range(self.n_libraries):
            here = weight * (self._libraries == code)
            here = here if here.any() else weight  # none of the slice's spots is trained on
            found.append(np.asarray(here @ self.counts).ravel() * self._middle / max(float(here @ self._depth), 1e-12))
        return np.stack(found)

    def batch(self, generator: torch.Generator) -> Batch:
        """Draw the spots and pairs of one step."""
        spots = torch.randperm(self.n, generator=generator)[: self._batch_size]
        rows = spots.numpy()
        if self.counts is not None and self._depth is not None:
            pooled = self.counts[rows] if self._pool is None else self._pool[rows] @ self.counts
            depth = self._depth[rows] if self._pool is None else self._pool[rows] @ self._depth
            target = torch.from_numpy(pooled.toarray().astype(np.float32))
            size = torch.from_numpy((depth / self._middle).astype(np.float32)).unsqueeze(1)
        else:
            target = self.features[spots.to(self.device)]
            size = torch.ones(len(rows), 1)
        pairs = max(self._batch_size, 1)
        n_edges = self._edges.shape[1]
        chosen = torch.randint(max(n_edges, 1), (pairs,), generator=generator).numpy()
        neighbors = self._edges[:, chosen] if n_edges else np.zeros((2, pairs), dtype=np.int64)
        strangers = torch.randint(self.n, (2, pairs), generator=generator)
        device = self.device
        return Batch(
            spots.to(device),
            target.to(device),
            size.to(device),
            torch.from_numpy(self._libraries[rows]).to(device),
            torch.from_numpy(neighbors.astype(np.int64)).to(device),
            strangers.to(device),
        )

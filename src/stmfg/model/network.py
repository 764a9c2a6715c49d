"""The network: graph convolutions over several views, fused by attention after every layer.

``x -> [GraphConv per view -> ViewFusion] per layer -> embedding -> decoder``. The same class serves
every preset; what differs is in :class:`stmfg.config.Config`.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy.sparse import csr_matrix

    from stmfg.config import Config

__all__ = ["CountDecoder", "Encoded", "GraphConv", "Operator", "STMFGNet", "ViewFusion", "build_network"]

ATTENTION_WIDTH = 16
"""Hidden width of the view attention."""


class _SparseProduct(torch.autograd.Function):
    """Sparse times dense with a sparse backward pass; autograd's own would build the gradient of the matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, x: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ grad


class Operator:
    """A fixed sparse propagation matrix, (n, n), with its transpose for the backward pass."""

    def __init__(self, matrix: csr_matrix, device: torch.device) -> None:
        self._matrix = _to_torch(matrix, device)
        self._source: csr_matrix | None = matrix
        self._transposed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Propagate features x (n, d) along the edges."""
        if not x.requires_grad:
            return self._matrix @ x
        if self._transposed is None and self._source is not None:  # made once, and only for training
            self._transposed, self._source = _to_torch(self._source.T.tocsr(), self._matrix.device), None
        return _SparseProduct.apply(self._matrix, self._transposed, x)  # type: ignore[no-any-return,no-untyped-call]


def _to_torch(matrix: csr_matrix, device: torch.device) -> Tensor:
    with warnings.catch_warnings():
        # torch calls its CSR support beta; the one operation used here, the product with a dense matrix, is tested.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),  # 32 bit below 2^31 edges: half the memory of torch's usual 64
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data.astype(np.float32)),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


class GraphConv(nn.Module):
    r"""Graph convolution of one view.

    ``relu``: :math:`H' = \mathrm{ReLU}(\hat A H W + b)` (Kipf and Welling 2017, eq. 2, :math:`\hat A` with
    symmetric normalisation). ``linear``: :math:`H' = \hat A H`, without weights while the width stays the
    same (as Wu et al. 2019, SGC, and He et al. 2020, LightGCN): the layer is plain diffusion along its
    graph, and all that is learned is where to look. Trained weights in its place measured worse, see
    ``docs/experiments.md``.

    Shapes: H (n, n_in) -> H' (n, n_out).
    """

    def __init__(self, n_in: int, n_out: int, *, linear: bool) -> None:
        super().__init__()
        self.bias = None if linear else nn.Parameter(torch.zeros(n_out))
        self.linear: nn.Module = nn.Identity()
        if not linear or n_in != n_out:
            self.linear = nn.Linear(n_in, n_out, bias=False)
            nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, operator: Operator, h: Tensor) -> Tensor:
        """Convolve features along one graph."""
        h = operator(self.linear(h))  # W first: the product with the graph is then the narrow one
        return h if self.bias is None else F.relu(h + self.bias)


class ViewFusion(nn.Module):
    r"""Attention of a spot over its views (Wang et al. 2023, Spatial-MGCN, eqs. 6-8).

    :math:`w_v = q \cdot \tanh(W h_v + b)`, softmax over the views v, weighted sum. q starts at zero:
    every view counts the same until training finds a reason.

    Shapes: views (n, v, d) -> fused (n, d), weights (n, v).
    """

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_in, width)
        self.query = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.query.weight)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse views."""
        weights = torch.softmax(self.query(torch.tanh(self.hidden(views))).squeeze(-1), dim=1)
        return (weights.unsqueeze(-1) * views).sum(1), weights


class CountDecoder(nn.Module):
    """Embedding -> parameters of a zero-inflated negative binomial (Eraslan et al. 2019, DCA).

    Of several slices, the log mean of every gene has an offset on each (as scVI, Lopez et al. 2018, conditions its
    decoder on the batch): what a slice detects differently is not left for the embedding to explain.

    Shapes: z (n, d), size factors (n, 1), slices (n,) -> mu, theta, pi logits, each (n, genes). mu is in
    [1e-5, 1e6] times the size factor, theta in [1e-4, 1e4].
    """

    def __init__(self, n_in: int, width: int, n_genes: int, n_libraries: int = 1) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(n_in, width), nn.BatchNorm1d(width), nn.ReLU())
        self.mean = nn.Linear(width, n_genes)
        self.dispersion = nn.Linear(width, n_genes)
        self.dropout = nn.Linear(width, n_genes)
        self.library = nn.Embedding(n_libraries, n_genes) if n_libraries > 1 else None

    def start_at(self, mean: Tensor) -> None:
        """Let the mean of every gene start where the data have it, (n_libraries, genes): too far for the steps."""
        log = mean.clamp(1e-4).log()
        self.mean.bias.data.copy_(log.mean(dim=0))
        if self.library is not None:
            self.library.weight.data.copy_(log - log.mean(dim=0))

    def forward(self, z: Tensor, size: Tensor, library: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Decode embeddings of spots on their slices or, without, on the average one."""
        h = self.hidden(z)
        log_mean = self.mean(h)
        if self.library is not None and library is not None:
            log_mean = log_mean + self.library(library)
        # exp of a clamped input: the same range as clamping exp, with no overflow on the way.
        mu = size * torch.exp(log_mean.clamp(-11.5, 13.8))
        theta = F.softplus(self.dispersion(h)).clamp(1e-4, 1e4)
        return mu, theta, self.dropout(h)


@dataclass
class Encoded:
    """What the encoder makes of the spots."""

    embedding: Tensor  # (n, d)
    layers: list[Tensor]  # fused features after each layer, each (n, d_l)
    views: list[Tensor]  # features per view of each layer, each (n, v, d_l)
    weights: list[Tensor]  # attention over views of each fusion, each (n, v)


def build_network(config: Config, n_in: int, n_out: int, *, random_state: int, **options: Any) -> STMFGNet:
    """Return the untrained network; its first weights depend on the seed alone. Options as of :class:`STMFGNet`."""
    # Layers draw their first weights from the global generator; forking leaves the user's as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(random_state)  # torch.manual_seed would reseed every GPU too
        return STMFGNet(n_in, n_out, config, **options)


class STMFGNet(nn.Module):
    """Encoder over the views and the decoder of its embedding.

    Parameters
    ----------
    n_in, n_out
        Input features, and genes decoded, or features reconstructed with ``counts=False``.
    config
        Hyperparameters.
    counts
        Whether the decoder is a count likelihood.
    n_libraries
        Number of slices.
    fusion
        Makes the fusion of a layer from its width, in place of :class:`ViewFusion`.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        config: Config,
        *,
        counts: bool,
        n_libraries: int = 1,
        fusion: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        widths = [n_in, *(width or n_in for width in config.widths)]
        linear = config.convolution == "linear"
        self.convolutions = nn.ModuleList(
            nn.ModuleList(GraphConv(a, b, linear=linear) for _ in config.views) for a, b in itertools.pairwise(widths)
        )
        fused = widths[-1:] if config.fusion == "late" else widths[1:]
        self.fusions = nn.ModuleList(fusion(width) if fusion else ViewFusion(width, ATTENTION_WIDTH) for width in fused)
        self.n_in = n_in
        self.scales = fused if config.embedding == "concat" else fused[-1:]
        n_embedding = sum(self.scales)
        self.decoder: nn.Module = (
            CountDecoder(n_embedding, config.decoder_width, n_out, n_libraries)
            if counts
            else nn.Linear(n_embedding, n_out)
        )

    def encode(self, x: Tensor, operators: list[Operator]) -> Encoded:
        """Encode features x (n, n_in) given one operator per view."""
        late = self.config.fusion == "late"
        inputs = [x] * len(operators)
        layers: list[Tensor] = []
        views: list[Tensor] = []
        weights: list[Tensor] = []
        for depth, layer in enumerate(self.convolutions):
            convolutions = cast("nn.ModuleList", layer)
            per_view = [conv(op, h) for conv, op, h in zip(convolutions, operators, inputs, strict=True)]
            stacked = torch.stack(per_view, dim=1)
            views.append(stacked)
            if late and depth + 1 < len(self.convolutions):
                inputs = per_view  # each view goes its own way until the end
                continue
            fused, weight = self.fusions[0 if late else depth](stacked)
            layers.append(fused)
            weights.append(weight)
            inputs = [fused] * len(operators)
        embedding = torch.cat(layers, dim=1) if self.config.embedding == "concat" else layers[-1]
        return Encoded(embedding, layers, views, weights)

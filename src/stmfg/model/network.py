"""The network: graph convolutions over several views, fused by attention after every layer.

``x -> [GraphConv per view -> ViewFusion] per layer -> embedding -> decoder``. The same class serves
every preset; what differs is in :class:`stmfg.config.Config`.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scipy.sparse import csr_matrix

    from stmfg.config import Config

__all__ = [
    "CountDecoder",
    "Encoded",
    "GraphConv",
    "Operator",
    "STMFGNet",
    "ViewFusion",
    "build_network",
    "project_to_simplex",
]

ATTENTION_WIDTH = 16
"""Hidden width of the view attention."""
FUSED_AT_ONCE = 100_000
"""Spots whose attention is computed at a time outside training: of a million it would fill 400 MB."""
BIAS_RATE = 3.0
"""How much faster the bias of a view is stepped than the rest of the attention."""
WEIGHT_RATE = 0.1
"""How much slower the weights of convolutions are stepped than the attention."""
JITTER = 0.02
"""Standard deviation of what two networks differ in at their start."""


_filtering = threading.Lock()
"""Filters of warnings are those of all threads."""


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
    with _filtering, warnings.catch_warnings():
        # torch calls its CSR support beta; the one operation used here, the product with a dense matrix, is tested.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr),  # 32 bit below 2^31 edges: half the memory of torch's usual 64
            torch.from_numpy(matrix.indices),
            torch.from_numpy(matrix.data.astype(np.float32, copy=False)),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


class GraphConv(nn.Module):
    r"""Graph convolution of one view.

    ``start=None``: :math:`H' = \hat A H`, plain diffusion along the graph (as Wu et al. 2019, SGC): all that is
    learned is where to look. With first weights :math:`W_0`: :math:`H' = \mathrm{ReLU}(\hat A H (W_0 + r D) + b)` (Kipf
    and Welling 2017, eq. 2), D starting at zero. r makes the steps of D smaller than those of the attention.

    Shapes: H (n, n_in) -> H' (n, n_out).
    """

    def __init__(self, start: Tensor | None, *, relu: bool) -> None:
        super().__init__()
        self.relu = relu
        self.start: Tensor | None
        if start is None:
            self.start = None
            return
        self.register_buffer("start", start.clone())
        self.change = nn.Parameter(torch.zeros_like(start))
        self.bias = nn.Parameter(torch.zeros(start.shape[1]))

    def forward(self, operator: Operator, h: Tensor) -> Tensor:
        """Convolve features h (n, n_in) along one graph."""
        if self.start is None:
            return operator(h)
        h = (operator(h) @ (self.start + WEIGHT_RATE * self.change)).add_(self.bias)
        return h.relu_() if self.relu else h


def mirrored_starts(n_in: int, depth: int) -> list[Tensor]:
    """First weights of ReLU layers that let everything through: every feature as the pair x, -x.

    ReLU(x) - ReLU(-x) = x (Shang et al. 2016, CReLU), so that layers of width 2 n_in and a last one of width n_in
    without ReLU begin as plain diffusion, which random weights do not find back to in a few hundred steps.

    Returns
    -------
    One matrix (n_in or 2 n_in, 2 n_in or n_in) a layer.
    """
    one = torch.eye(n_in)
    out, back = torch.cat([one, -one], dim=1), torch.cat([one, -one], dim=0)
    starts = []
    for layer in range(depth):
        first, last = layer == 0, layer == depth - 1
        start = one if first and last else out if first else back if last else back @ out
        starts.append(start + JITTER * torch.randn(start.shape))
    return starts


def project_to_simplex(logits: Tensor) -> Tensor:
    """Sparsemax over the columns (Martins and Astudillo 2016, algorithm 1): as softmax, but weights reach zero.

    Shapes: (n, v) -> (n, v), rows add up to one.
    """
    logits = logits - logits.max(dim=1, keepdim=True).values
    ordered = logits.sort(dim=1, descending=True).values
    total = ordered.cumsum(dim=1)
    rank = torch.arange(1, logits.shape[1] + 1, dtype=logits.dtype, device=logits.device)
    support = (1 + rank * ordered > total).sum(dim=1, keepdim=True).clamp(min=1)
    return (logits - (total.gather(1, support - 1) - 1) / support).clamp(min=0)


class ViewFusion(nn.Module):
    r"""Attention of a spot over its views: :math:`w_v = q \cdot \tanh(W h_v + b) + c_v`, sparsemax, weighted sum.

    After Wang et al. 2023, Spatial-MGCN, eqs. 6-8, with two changes: :math:`c_v` says what holds of a view in all
    spots, and sparsemax takes the place of softmax, so that a useless view ends at zero. q and c start at zero: every
    view counts the same until held-out molecules give a reason.

    Shapes: views (n, v, d) -> fused (n, d), weights (n, v).
    """

    def __init__(self, n_in: int, n_views: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(ATTENTION_WIDTH, n_in) / n_in**0.5)
        self.offset = nn.Parameter(torch.zeros(ATTENTION_WIDTH))
        self.query = nn.Parameter(torch.zeros(ATTENTION_WIDTH))
        self.bias = nn.Parameter(torch.zeros(n_views))

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse views (n, v, d)."""
        logits = torch.tanh(views @ self.hidden.T + self.offset) @ self.query + BIAS_RATE * self.bias
        weights = project_to_simplex(logits)
        return (weights.unsqueeze(-1) * views).sum(1), weights


FEW_LEFT_OUT = -4.0
"""Logit of the share of counts that zero inflation leaves out at first."""


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

    def start_at(self, mean: Tensor, alone: bool) -> None:
        """Let the mean of every gene start where the data have it, (n_libraries, genes): too far for the steps.

        A decoder that learns ``alone`` takes small steps: too small for the half of all counts that would be left out.
        """
        if alone:
            self.dropout.bias.data.fill_(FEW_LEFT_OUT)
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
    layers: list[Tensor]  # fused features after each layer, each (n, d_l); kept for training alone
    views: list[Tensor]  # features per view of each layer, each (n, v, d_l); kept for training alone
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
        starts: list[Tensor | None] = [None] * config.n_layers
        if config.convolution == "relu":
            starts = [*mirrored_starts(n_in, config.n_layers)]
        widths = [n_in if start is None else start.shape[1] for start in starts]
        # The views of a layer start alike, so that their features can be compared.
        self.convolutions = nn.ModuleList(
            nn.ModuleList(GraphConv(start, relu=depth + 1 < config.n_layers) for _ in config.views)
            for depth, start in enumerate(starts)
        )
        fused = widths[-1:] if config.fusion == "late" else widths
        self.fusions = nn.ModuleList(
            fusion(width) if fusion else ViewFusion(width, len(config.views)) for width in fused
        )
        self.n_in = n_in
        self.scales = [n_in] * (len(fused) if config.embedding == "concat" else 1)
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
            if torch.is_inference_mode_enabled():  # side by side the views of a million cells fill half a gigabyte
                split = zip(*(h.split(FUSED_AT_ONCE) for h in per_view), strict=True)
                stacked: Iterable[Tensor] = (torch.stack(part, dim=1) for part in split)
            else:
                views.append(torch.stack(per_view, dim=1))
                stacked = torch.split(views[-1], max(len(x), 1))
            if late and depth + 1 < len(self.convolutions):
                inputs = per_view  # each view goes its own way until the end
                continue
            parts = [self.fusions[0 if late else depth](part) for part in stacked]
            per_view, inputs, stacked = [], [], []  # as large as all that follows
            fused, weight = (torch.cat(column) for column in zip(*parts, strict=True))
            del parts
            # What a pair x, -x says together: the features that a layer of plain diffusion would have.
            paired = fused.shape[1] == 2 * self.n_in
            layers.append(fused[:, : self.n_in] - fused[:, self.n_in :] if paired else fused)
            weights.append(weight)
            inputs = [fused] * len(operators)
        embedding = torch.cat(layers, dim=1) if self.config.embedding == "concat" else layers[-1]
        return Encoded(embedding, [] if torch.is_inference_mode_enabled() else layers, views, weights)

"""The network on graphs small enough to compute by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from stmfg.config import Config
from stmfg.model.graphs import symmetric_operator, walk_operator
from stmfg.model.network import CountDecoder, Encoded, GraphConv, Operator, STMFGNet, ViewFusion

CPU = torch.device("cpu")
LINKS = sparse.csr_matrix(np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
"""0 - 1 - 2, and 3 alone."""
WALK = np.array([[1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [0, 1 / 2, 1 / 2, 0], [0, 0, 0, 1]])
SYMMETRIC = np.array(
    [
        [1 / 2, 1 / np.sqrt(6), 0, 0],
        [1 / np.sqrt(6), 1 / 3, 1 / np.sqrt(6), 0],
        [0, 1 / np.sqrt(6), 1 / 2, 0],
        [0, 0, 0, 1],
    ]
)
H = torch.tensor([[1.0, 2.0], [0.0, -1.0], [4.0, 0.5], [-2.0, 3.0]])


def random_graph(n: int, seed: int) -> sparse.csr_matrix:
    links = sparse.random(n, n, 0.1, format="csr", random_state=np.random.default_rng(seed), dtype=np.float32)
    links = ((links + links.T) != 0).astype(np.float32).tocsr()
    links.setdiag(0)
    links.eliminate_zeros()
    return links


def network(n_in: int = 6, n_out: int = 9, *, counts: bool = True, **options: Any) -> STMFGNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return STMFGNet(n_in, n_out, Config().replace(**options), counts=counts).eval()


def encode(net: STMFGNet, x: Tensor, *graphs: sparse.csr_matrix) -> Encoded:
    with torch.no_grad():
        return net.encode(x, [Operator(walk_operator(graph), CPU) for graph in graphs])


def attend(net: STMFGNet) -> STMFGNet:
    """Give the attention a preference, as training would."""
    for i, fusion in enumerate(net.fusions):
        torch.nn.init.normal_(fusion.query.weight, generator=torch.Generator().manual_seed(i))
    return net


@pytest.fixture
def x() -> Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(3))


def test_linear_convolution_by_hand() -> None:
    conv = GraphConv(2, 3, linear=True)
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    conv.linear.weight.data = weight
    expected = WALK @ H.numpy() @ weight.numpy().T
    assert (expected < 0).any()  # nothing is cut off
    out = conv(Operator(walk_operator(LINKS), CPU), H)
    np.testing.assert_allclose(out.detach(), expected, rtol=1e-6, atol=1e-6)


def test_relu_convolution_by_hand() -> None:
    torch.manual_seed(0)
    conv = GraphConv(2, 3, linear=False)
    state = conv.state_dict()
    weight = next(v for k, v in state.items() if k.endswith("weight")).numpy().copy()
    bias = next(v for k, v in state.items() if k.endswith("bias"))
    bias.copy_(torch.tensor([0.3, -0.2, 1.0]))  # shares memory with the parameter
    expected = SYMMETRIC @ H.numpy() @ weight.T + np.array([0.3, -0.2, 1.0])
    assert (expected < 0).any()
    out = conv(Operator(symmetric_operator(LINKS), CPU), H)
    np.testing.assert_allclose(out.detach(), np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalise", [walk_operator, symmetric_operator])
def test_sparse_product_equals_dense_forward_and_backward(normalise: Any, x: Tensor) -> None:
    matrix = normalise(random_graph(40, 0))
    dense = torch.from_numpy(matrix.toarray())
    seen = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    results = []
    for product in (Operator(matrix, CPU), lambda h: dense @ h):
        h = x.clone().requires_grad_()
        out = product(product(h).tanh())
        (out * seen).sum().backward()
        results.append((out.detach(), h.grad))
    for ours, expected in zip(*results, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_fusion_starts_as_the_mean_and_its_weights_sum_to_one() -> None:
    views = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    fusion = ViewFusion(3, 4)
    fused, weights = fusion(views)
    torch.testing.assert_close(weights, torch.full((5, 2), 0.5))
    torch.testing.assert_close(fused, views.mean(1))

    torch.nn.init.normal_(fusion.query.weight, std=5.0, generator=torch.Generator().manual_seed(1))
    fused, weights = fusion(views)
    assert weights.std() > 0.05
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(fused, weights[:, :1] * views[:, 0] + weights[:, 1:] * views[:, 1])


def test_fusion_by_hand() -> None:
    fusion = ViewFusion(1, 1)
    fusion.hidden.weight.data, fusion.hidden.bias.data = torch.tensor([[2.0]]), torch.tensor([-1.0])
    fusion.query.weight.data = torch.tensor([[3.0]])
    _, weights = fusion(torch.tensor([[[1.0], [0.0]]]))
    scores = np.exp(3 * np.tanh([1.0, -1.0]))
    np.testing.assert_allclose(weights.detach()[0], scores / scores.sum(), rtol=1e-6)


def test_untrained_linear_network_is_diffusion(x: Tensor) -> None:
    graph = random_graph(40, 0)
    walk = torch.from_numpy(walk_operator(graph).toarray())
    net = network(views=("spatial",), widths=(0, 0, 0), convolution="linear", embedding="concat")
    once, twice = walk @ x, walk @ walk @ x
    torch.testing.assert_close(encode(net, x, graph).embedding, torch.cat([once, twice, walk @ twice], 1))


@pytest.mark.parametrize("convolution", ["linear", "relu"])
@pytest.mark.parametrize(
    ("fusion", "embedding", "fused", "d"),
    [
        ("layer", "concat", [5, 3], 8),
        ("layer", "last", [5, 3], 3),
        ("late", "concat", [3], 3),
        ("late", "last", [3], 3),
    ],
)
def test_shapes(convolution: str, fusion: str, embedding: str, fused: list[int], d: int, x: Tensor) -> None:
    net = network(convolution=convolution, fusion=fusion, embedding=embedding, widths=(5, 3))
    encoded = encode(net, x, random_graph(40, 0), random_graph(40, 1))
    assert encoded.embedding.shape == (40, d)
    assert [tuple(h.shape) for h in encoded.layers] == [(40, width) for width in fused]
    assert [tuple(v.shape) for v in encoded.views] == [(40, 2, 5), (40, 2, 3)]
    assert [tuple(w.shape) for w in encoded.weights] == [(40, 2)] * len(fused)
    assert [tuple(p.shape) for p in net.decoder(encoded.embedding, torch.ones(40, 1))] == [(40, 9)] * 3


@pytest.mark.parametrize("convolution", ["linear", "relu"])
@pytest.mark.parametrize("fusion", ["layer", "late"])
def test_encoding_follows_a_permutation_of_the_spots(convolution: str, fusion: str, x: Tensor) -> None:
    net = attend(network(convolution=convolution, fusion=fusion, widths=(5, 4)))
    graphs = random_graph(40, 0), random_graph(40, 1)
    order = np.random.default_rng(0).permutation(40)
    straight = encode(net, x, *graphs)
    permuted = encode(net, x[order], *(graph[order][:, order] for graph in graphs))
    torch.testing.assert_close(permuted.embedding, straight.embedding[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(permuted.weights, 1), torch.cat(straight.weights, 1)[order])


@pytest.mark.parametrize("convolution", ["linear", "relu"])
def test_what_is_fused_feeds_the_next_layer_unless_fusion_is_late(convolution: str, x: Tensor) -> None:
    def spatial_view(fusion: str, feature_seed: int, depth: int) -> Tensor:
        net = attend(network(convolution=convolution, fusion=fusion, widths=(6, 6)))
        return encode(net, x, random_graph(40, 0), random_graph(40, feature_seed)).views[depth][:, 0]

    for fusion in ("layer", "late"):
        torch.testing.assert_close(spatial_view(fusion, 1, 0), spatial_view(fusion, 2, 0), rtol=0, atol=0)
    torch.testing.assert_close(spatial_view("late", 1, 1), spatial_view("late", 2, 1), rtol=0, atol=0)
    assert (spatial_view("layer", 1, 1) - spatial_view("layer", 2, 1)).abs().max() > 0.01


def test_decoder_stays_in_range_and_follows_the_size_factor() -> None:
    decoder = CountDecoder(4, 8, 6).eval()
    z = 1e6 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    size = torch.linspace(0.1, 4, 50).unsqueeze(1)
    with torch.no_grad():
        mu, theta, logits = decoder(z, size)
        mu_of_one, _, _ = decoder(z, torch.ones(50, 1))
    torch.testing.assert_close(mu, mu_of_one * size)
    assert mu_of_one.min() == pytest.approx(1e-5, rel=0.05)
    assert mu_of_one.max() == pytest.approx(1e6, rel=0.05)
    assert theta.min() == pytest.approx(1e-4)
    assert theta.max() == pytest.approx(1e4)
    assert torch.isfinite(logits).all()

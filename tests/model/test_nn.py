"""The network on graphs small enough to compute by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from stmfg.config import Config
from stmfg.model.graphs import walk_operator
from stmfg.model.network import (
    CountDecoder,
    Encoded,
    GraphConv,
    Operator,
    STMFGNet,
    ViewFusion,
    build_network,
    project_to_simplex,
)

CPU = torch.device("cpu")
LINKS = sparse.csr_matrix(np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
"""0 - 1 - 2, and 3 alone."""
WALK = np.array([[1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [0, 1 / 2, 1 / 2, 0], [0, 0, 0, 1]])
H = torch.tensor([[1.0, 2.0], [0.0, -1.0], [4.0, 0.5], [-2.0, 3.0]])


def random_graph(n: int, seed: int) -> sparse.csr_matrix:
    links = sparse.random(n, n, 0.1, format="csr", random_state=np.random.default_rng(seed), dtype=np.float32)
    links = ((links + links.T) != 0).astype(np.float32).tocsr()
    links.setdiag(0)
    links.eliminate_zeros()
    return links


def network(n_in: int = 6, n_out: int = 9, *, counts: bool = True, **options: Any) -> STMFGNet:
    return build_network(Config().replace(**options), n_in, n_out, random_state=0, counts=counts).eval()


def encode(net: STMFGNet, x: Tensor, *graphs: sparse.csr_matrix) -> Encoded:
    with torch.no_grad():
        return net.encode(x, [Operator(walk_operator(graph), CPU) for graph in graphs])


def attend(net: STMFGNet) -> STMFGNet:
    """Give the attention a preference, as training would."""
    for i, fusion in enumerate(net.fusions):
        torch.nn.init.normal_(fusion.query, std=0.3, generator=torch.Generator().manual_seed(i))
    return net


@pytest.fixture
def x() -> Tensor:
    return torch.randn(40, 6, generator=torch.Generator().manual_seed(3))


def test_convolution_by_hand() -> None:
    walk = Operator(walk_operator(LINKS), CPU)
    np.testing.assert_allclose(GraphConv(None, relu=False)(walk, H), WALK @ H.numpy(), rtol=1e-6, atol=1e-6)
    weight = torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 1.0]])
    conv = GraphConv(weight, relu=True)
    conv.bias.data = torch.tensor([0.3, -0.2, 1.0])
    expected = WALK @ H.numpy() @ weight.numpy() + np.array([0.3, -0.2, 1.0])
    assert (expected < 0).any()
    np.testing.assert_allclose(conv(walk, H).detach(), np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_sparse_product_equals_dense_forward_and_backward(x: Tensor) -> None:
    matrix = walk_operator(random_graph(40, 0))
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
    fusion = ViewFusion(3, 2)
    fused, weights = fusion(views)
    torch.testing.assert_close(weights, torch.full((5, 2), 0.5))
    torch.testing.assert_close(fused, views.mean(1))

    torch.nn.init.normal_(fusion.query, std=0.3, generator=torch.Generator().manual_seed(1))
    fused, weights = fusion(views)
    assert weights.std() > 0.05
    torch.testing.assert_close(weights.sum(1), torch.ones(5))
    torch.testing.assert_close(fused, weights[:, :1] * views[:, 0] + weights[:, 1:] * views[:, 1])


def test_fusion_by_hand() -> None:
    fusion = ViewFusion(1, 2)
    fusion.hidden.data, fusion.offset.data = torch.zeros(16, 1), torch.zeros(16)
    fusion.hidden.data[0], fusion.offset.data[0] = 2.0, -1.0
    fusion.query.data[0] = 0.4
    views = torch.tensor([[[1.0], [0.0]]])
    difference = 0.4 * (np.tanh(1.0) - np.tanh(-1.0))
    np.testing.assert_allclose(fusion(views)[1].detach()[0], [(1 + difference) / 2, (1 - difference) / 2], rtol=1e-5)
    fusion.bias.data = torch.tensor([0.0, 9.0])  # so much better in all spots that nothing else counts
    np.testing.assert_array_equal(fusion(views)[1].detach()[0], [0, 1])


def test_projection_to_the_simplex() -> None:
    logits = 2 * torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    two = ((1 + logits[:, 0] - logits[:, 1]) / 2).clamp(0, 1)  # of two views, as far as their difference goes
    torch.testing.assert_close(project_to_simplex(logits), torch.stack([two, 1 - two], dim=1))
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    weights = project_to_simplex(logits)
    torch.testing.assert_close(weights.sum(1), torch.ones(200))
    torch.testing.assert_close(project_to_simplex(logits + 7), weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(project_to_simplex(weights), weights)  # it is a projection
    assert ((weights == 0).sum(1) > 0).any()
    # No point of the simplex is closer.
    others = torch.distributions.Dirichlet(torch.ones(5)).sample((1000,))
    distance = (logits - weights).square().sum(1)
    assert (torch.cdist(logits, others).square().min(1).values >= distance - 1e-4).all()


def test_untrained_linear_network_is_diffusion(x: Tensor) -> None:
    graph = random_graph(40, 0)
    walk = torch.from_numpy(walk_operator(graph).toarray())
    net = network(views=("spatial",), n_layers=3, convolution="linear", embedding="concat")
    once, twice = walk @ x, walk @ walk @ x
    torch.testing.assert_close(encode(net, x, graph).embedding, torch.cat([once, twice, walk @ twice], 1))


def test_untrained_relu_network_is_nearly_diffusion(x: Tensor) -> None:
    graphs = random_graph(40, 0), random_graph(40, 1)
    options: dict[str, Any] = {"n_layers": 3, "embedding": "concat"}
    linear = encode(network(convolution="linear", **options), x, *graphs)
    mirrored = encode(network(convolution="relu", **options), x, *graphs)
    assert mirrored.embedding.shape == linear.embedding.shape
    for ours, plain in zip(mirrored.layers, linear.layers, strict=True):
        cosine = torch.nn.functional.cosine_similarity(ours.flatten(), plain.flatten(), dim=0)
        assert cosine > 0.98  # apart from the small random part of the first weights


@pytest.mark.parametrize(("convolution", "hidden"), [("linear", 6), ("relu", 12)])
@pytest.mark.parametrize("fusion", ["layer", "late"])
@pytest.mark.parametrize("embedding", ["concat", "last"])
def test_shapes(convolution: str, hidden: int, fusion: str, embedding: str, x: Tensor) -> None:
    net = network(convolution=convolution, fusion=fusion, embedding=embedding, n_layers=2)
    encoded = encode(net, x, random_graph(40, 0), random_graph(40, 1))
    n_fused = 2 if fusion == "layer" else 1
    d = 6 * (n_fused if embedding == "concat" else 1)
    assert encoded.embedding.shape == (40, d)
    assert sum(net.scales) == d
    assert [tuple(h.shape) for h in encoded.layers] == [(40, 6)] * n_fused
    assert [tuple(v.shape) for v in encoded.views] == [(40, 2, hidden), (40, 2, 6)]
    assert [tuple(w.shape) for w in encoded.weights] == [(40, 2)] * n_fused
    assert [tuple(p.shape) for p in net.decoder(encoded.embedding, torch.ones(40, 1))] == [(40, 9)] * 3


@pytest.mark.parametrize("convolution", ["linear", "relu"])
@pytest.mark.parametrize("fusion", ["layer", "late"])
def test_encoding_follows_a_permutation_of_the_spots(convolution: str, fusion: str, x: Tensor) -> None:
    net = attend(network(convolution=convolution, fusion=fusion, n_layers=2))
    graphs = random_graph(40, 0), random_graph(40, 1)
    order = np.random.default_rng(0).permutation(40)
    straight = encode(net, x, *graphs)
    permuted = encode(net, x[order], *(graph[order][:, order] for graph in graphs))
    torch.testing.assert_close(permuted.embedding, straight.embedding[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat(permuted.weights, 1), torch.cat(straight.weights, 1)[order])


@pytest.mark.parametrize("convolution", ["linear", "relu"])
def test_what_is_fused_feeds_the_next_layer_unless_fusion_is_late(convolution: str, x: Tensor) -> None:
    def spatial_view(fusion: str, feature_seed: int, depth: int) -> Tensor:
        net = attend(network(convolution=convolution, fusion=fusion, n_layers=2))
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

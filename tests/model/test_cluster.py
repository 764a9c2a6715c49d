"""Clusterings of data whose clusters are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from stmfg.errors import InputError
from stmfg.metrics import ari
from stmfg.model import cluster
from stmfg.model.graphs import walk_operator

TRUTH = np.repeat(np.arange(3), 150)


def long_clusters() -> NDArray[np.float64]:
    """Three clusters side by side, each long across the direction that tells them apart, (450, 2)."""
    noise = np.random.default_rng(0).normal(size=(len(TRUTH), 2)) * [2.5, 0.25]
    return noise + np.column_stack([np.zeros(len(TRUTH)), 2.0 * TRUTH])


def round_clusters(n: int = 150, k: int = 3) -> NDArray[np.float64]:
    """Clusters far apart, (n * k, 4)."""
    rng = np.random.default_rng(0)
    return np.repeat(10 * np.eye(4)[:k], n, axis=0) + rng.normal(size=(n * k, 4))


def one_hot(labels: NDArray[np.int64], k: int, sure: float = 0.9) -> NDArray[np.float64]:
    return np.where(np.eye(k, dtype=bool)[labels], sure, (1 - sure) / (k - 1))


@pytest.fixture(params=["mixture", "kmeans", "leiden"])
def method(request: pytest.FixtureRequest) -> Callable[..., NDArray[np.float64]]:
    if request.param == "leiden":
        pytest.importorskip("igraph", reason="Leiden needs igraph, an optional dependency")
    found: Callable[..., NDArray[np.float64]] = getattr(cluster, request.param)
    return found


def test_every_method_finds_clear_clusters(method: Callable[..., NDArray[np.float64]]) -> None:
    posterior = method(round_clusters(), 3, random_state=0)
    assert posterior.shape == (450, 3)
    assert (posterior >= 0).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    assert ari(TRUTH, posterior.argmax(axis=1)) == 1


def test_the_seed_decides_and_global_generators_stay(
    method: Callable[..., NDArray[np.float64]], global_generators: Callable[[], Any]
) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))  # no clusters: what is found depends on the start
    before = global_generators()
    # Leiden finds no number of communities at will.
    k = 5 if method is not cluster.leiden else method_k(x)
    first, again = (method(x, k, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert global_generators() == before


def method_k(x: NDArray[np.float64]) -> int:
    """Return a number of communities that Leiden finds."""
    for k in range(4, 12):
        try:
            cluster.leiden(x, k, random_state=3)
        except InputError:
            continue
        return k
    raise AssertionError("Leiden found no number of communities between 4 and 11")


def test_mixture_finds_long_clusters_where_kmeans_fails() -> None:
    x = long_clusters()
    assert ari(TRUTH, cluster.kmeans(x, 3, random_state=0).argmax(axis=1)) < 0.5
    assert ari(TRUTH, cluster.mixture(x, 3, n_starts=10, random_state=0).argmax(axis=1)) > 0.95


@pytest.mark.parametrize("stretch", [0.01, 1.0, 100.0])
def test_mixture_does_not_depend_on_a_linear_map(stretch: float) -> None:
    x = round_clusters()
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    mapped = x @ turned * [stretch, 1.0, 1.0, 1.0] @ turned.T + 1000.0
    straight, through = (cluster.mixture(y, 3, random_state=0) for y in (x, mapped))
    assert ari(straight.argmax(axis=1), through.argmax(axis=1)) == 1
    np.testing.assert_allclose(through.max(axis=1), straight.max(axis=1), atol=1e-3)


def test_mixture_of_more_points_than_it_is_fitted_on() -> None:
    n = 11_000
    labels = cluster.mixture(round_clusters(n, 2), 2, n_starts=1, random_state=0).argmax(axis=1)
    assert ari(np.repeat([0, 1], n), labels) == 1


def test_kmeans_is_less_sure_between_two_centres() -> None:
    x = np.vstack([round_clusters(k=2), [[5.0, 5.0, 0.0, 0.0]]])
    posterior = cluster.kmeans(x, 2, random_state=0)
    assert posterior[-1].max() < posterior[:-1].max(axis=1).min()
    centres = np.array([x[posterior.argmax(axis=1) == i].mean(axis=0) for i in range(2)])
    nearest = np.linalg.norm(x[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(posterior.argmax(axis=1)[:-1], nearest[:-1])


def test_leiden_gives_exactly_the_number_asked() -> None:
    pytest.importorskip("igraph", reason="Leiden needs igraph, an optional dependency")
    for k in (2, 4):
        labels = cluster.leiden(round_clusters(60, 4)[: 60 * k], k, random_state=0).argmax(axis=1)
        assert len(set(labels)) == k
    # More than there are clusters: one is cut.
    assert len(set(cluster.leiden(round_clusters(60, 3), 5, random_state=0).argmax(axis=1))) == 5


def test_leiden_says_when_there_is_no_such_number(refused: Callable[..., str]) -> None:
    pytest.importorskip("igraph", reason="Leiden needs igraph, an optional dependency")
    # Clusters that no edge joins are apart at every resolution.
    said = refused(cluster.leiden, round_clusters(), 2, random_state=0)
    assert "exactly 2" in said
    assert "mixture" in said


def test_agreement_is_the_adjusted_rand_index() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=(5, 60))
    labels[1] = (labels[0] + 1) % 4
    found = cluster.agreement([np.eye(4)[row] for row in labels])
    np.testing.assert_allclose(found, [[adjusted_rand_score(a, b) for a in labels] for b in labels], atol=1e-12)
    assert found[0, 1] == 1


def test_consensus_of_renamed_copies_is_the_clustering_itself() -> None:
    posterior = one_hot(TRUTH, 3)
    copies = [posterior[:, order] for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2], [2, 1, 0])]
    vote = cluster.consensus(copies)
    np.testing.assert_allclose(np.sort(vote, axis=1), np.sort(posterior, axis=1))
    assert ari(TRUTH, vote.argmax(axis=1)) == 1
    np.testing.assert_array_equal(cluster.consensus(copies[:1]).argmax(axis=1), TRUTH)


def test_mapping_counts_a_split_cluster_as_one() -> None:
    finer = np.eye(6)[2 * TRUTH + np.arange(len(TRUTH)) % 2]
    np.testing.assert_array_equal(cluster.map_clusters([finer], np.eye(3)[TRUTH]), np.eye(3)[TRUTH])


def test_consensus_outvotes_a_bad_clustering() -> None:
    rng = np.random.default_rng(0)
    good = [one_hot(rng.permutation(3)[TRUTH], 3) for _ in range(3)]
    bad = one_hot(rng.integers(3, size=len(TRUTH)), 3)
    for position in (0, 3):
        vote = cluster.consensus([*good[:position], bad, *good[position:]])
        np.testing.assert_allclose(vote.sum(axis=1), 1)
        assert ari(TRUTH, vote.argmax(axis=1)) == 1
    # Where the bad one disagrees the vote is less sure.
    agrees = np.isclose(vote.max(axis=1), 0.9)
    assert 0.2 < agrees.mean() < 0.6


def grid(side: int = 16) -> tuple[sparse.csr_matrix, NDArray[np.int64]]:
    """Return the random walk on a square grid, and the half each point is in."""
    line = sparse.diags_array([1.0, 1.0], offsets=[-1, 1], shape=(side, side))
    graph = sparse.csr_matrix(sparse.kron(line, np.eye(side)) + sparse.kron(np.eye(side), line), dtype=np.float32)
    return walk_operator(graph), np.repeat([0, 1], side * side // 2)


def test_refinement_removes_lone_spots() -> None:
    operator, half = grid()
    flipped = half.copy()
    lone = np.array([35, 40, 90, 165, 200, 219])  # none touches another
    flipped[lone] = 1 - flipped[lone]
    posterior = one_hot(flipped, 2)
    kept = posterior.copy()
    refined = cluster.refine(posterior, operator, 6.0)
    np.testing.assert_array_equal(refined.argmax(axis=1), half)
    np.testing.assert_allclose(refined.sum(axis=1), 1)
    np.testing.assert_array_equal(posterior, kept)


def test_refinement_spares_what_is_sure_and_strength_zero_changes_nothing() -> None:
    operator, half = grid()
    rng = np.random.default_rng(0)
    noisy = rng.dirichlet([1.0, 1.0], len(half))
    np.testing.assert_array_equal(cluster.refine(noisy, operator, 0.0), noisy)
    sure = one_hot(half, 2, 1 - 1e-9)
    sure[40] = sure[40, ::-1]
    np.testing.assert_array_equal(cluster.refine(sure, operator, 1.0).argmax(axis=1), sure.argmax(axis=1))


def test_no_cluster_is_left_empty() -> None:
    posterior = np.random.default_rng(0).dirichlet([9.0, 9.0, 0.5, 0.1, 0.1], 40)
    preferred = posterior.argmax(axis=1)
    assert len(set(preferred)) < 5
    labels = cluster.fill_empty(posterior)
    assert set(labels) == set(range(5))
    moved = np.flatnonzero(labels != preferred)
    assert len(moved) == 5 - len(set(preferred))
    for spot in moved:  # it is the spot that wants the empty cluster most
        assert posterior[spot, labels[spot]] == posterior[:, labels[spot]].max()

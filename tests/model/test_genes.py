"""Genes of a new slice and those of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from stmfg.model import genes as _genes
from stmfg.model.features import Counts, FeatureMap, apply_map

KNOWN = ["a", "b", "c", "d"]


def feature_map(genes: list[int]) -> FeatureMap:
    """A map that reads some genes of four; two factors."""
    n = len(genes)
    loadings = np.arange(2.0 * n).reshape(n, 2) + 1
    none = np.zeros((0, 0))
    return FeatureMap(
        np.array(genes), 12.0, np.full(n, 0.5), np.full(n, 2.0), loadings, none, np.ones(2), np.ones(2, bool)
    )


def counts() -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(0).poisson(3.0, (6, 4)).astype(np.float32))


def test_columns() -> None:
    assert _genes.columns(KNOWN, ["d", "x", "a"]).tolist() == [2, -1, -1, 0]
    assert _genes.columns(["a", "a", "b"], ["a", "a", "b"]).tolist() == [0, 1, 2]  # the same list, repeats and all
    assert _genes.columns(["b", "a"], ["a", "a", "b"]).tolist() == [2, 0]


def test_other_order_and_other_genes_change_nothing() -> None:
    x, read = counts(), feature_map([0, 2, 3])
    expected = apply_map(read, Counts(x))
    mixed = sparse.hstack([x[:, [3, 1]], 9 * x[:, [0]], x[:, [0, 2]]], format="csr")
    found, moved = _genes.matched(Counts(mixed), ["d", "b", "new", "a", "c"], KNOWN, read)
    np.testing.assert_allclose(apply_map(moved, found), expected, rtol=1e-5)


def test_a_missing_gene_counts_as_its_mean() -> None:
    read = feature_map([0, 1, 2, 3])
    # A spot in which every gene is at its mean, but for the one that is missing.
    rate = np.expm1(0.5)
    x = sparse.csr_matrix(np.full((1, 4), rate), dtype=np.float32)
    found, moved = _genes.matched(Counts(x[:, :3]), KNOWN[:3], KNOWN, read)
    assert moved.target_sum == 12
    flat = FeatureMap(**vars(moved) | {"target_sum": 3 * rate})
    np.testing.assert_allclose(apply_map(flat, found), 0, atol=1e-6)


def test_too_few_genes_are_refused(refused: Callable[..., str]) -> None:
    said = refused(_genes.matched, Counts(counts()), ["a", "B", "C", "D"], KNOWN, feature_map([0, 1, 2, 3]))
    assert "1 of the 4 genes the model uses, 2 are needed" in said
    assert "B" in said
    _genes.matched(Counts(counts()), ["a", "b", "C", "D"], KNOWN, feature_map([0, 1, 2, 3]))

"""Large data in parts give what they give as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from stmfg._core import blocks as _blocks
from stmfg._core.blocks import Counts, row_sums


@pytest.fixture(params=[7, 1000])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(_blocks, "READ", request.param)
    return int(request.param)


def test_sums_of_rows(section: AnnData, block: int) -> None:
    dense = section.X.toarray().astype(np.float64)
    entries, total, square = row_sums(section.X)
    np.testing.assert_array_equal(entries, (dense > 0).sum(axis=1))
    np.testing.assert_array_equal(total, dense.sum(axis=1))
    np.testing.assert_array_equal(square, (dense**2).sum(axis=1))


def test_blocks_are_the_rows_in_order(section: AnnData, block: int) -> None:
    order = np.random.default_rng(0).permutation(section.n_obs)[:100]
    counts = Counts(section.X, order)
    assert counts.shape == (100, section.n_vars)
    parts = list(counts.blocks())
    assert all(rows.shape[0] <= block for _, rows in parts)
    positions = np.concatenate([rows for rows, _ in parts])
    np.testing.assert_array_equal(np.sort(positions), np.arange(100))
    values = sparse.vstack([rows for _, rows in parts]).toarray()
    np.testing.assert_array_equal(values, section.X[order].toarray()[positions])
    np.testing.assert_array_equal(counts.rows(np.array([3, 1])).toarray(), section.X[order[[3, 1]]].toarray())

"""Marker genes: equal to scipy's Welch test, sparse throughout, and sane at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats

from stmfg import tl


def tissue(n: int = 120, genes: int = 12, k: int = 3, seed: int = 0) -> tuple[Any, Any, list[str]]:
    """Counts in which gene i marks domain i."""
    rng = np.random.default_rng(seed)
    domains = np.array([str(i % k + 1) for i in range(n)])
    rate = np.ones((n, genes)) * rng.gamma(2, 1, size=genes)
    for i in range(k):
        rate[domains == str(i + 1), i] += 6
    return sparse.csr_matrix(rng.poisson(rate)), domains, [f"g{i}" for i in range(genes)]


def marker_genes(counts: Any, domains: Any, names: list[str], n_genes: int = 5) -> pd.DataFrame:
    """Return the table that ``tl.markers`` writes."""
    adata = AnnData(counts, obs=pd.DataFrame({"domain": domains}, index=map(str, range(len(domains)))))
    adata.var_names = names
    tl.markers(adata, key="domain", n_genes=n_genes)
    table: pd.DataFrame = adata.uns["stmfg_markers"]
    return table


def test_the_planted_genes_come_first() -> None:
    table = marker_genes(*tissue(), n_genes=2)
    assert list(table.columns) == [
        "domain", "gene", "log2_fold_change", "score", "share_in", "share_out", "p_adjusted",
    ]  # fmt: skip
    best = table.groupby("domain").first()
    assert list(best["gene"]) == ["g0", "g1", "g2"]
    assert (best["log2_fold_change"] > 1).all()
    assert (best["share_in"] > best["share_out"]).all()
    assert (best["p_adjusted"] < 1e-6).all()


def test_it_is_welchs_test_on_log_normalised_counts() -> None:
    counts, domains, names = tissue()
    table = marker_genes(counts, domains, names, n_genes=12).set_index(["domain", "gene"])
    dense = counts.toarray()
    depth = dense.sum(axis=1, keepdims=True)
    logs = np.log1p(dense / depth * np.median(depth))
    t, p = stats.ttest_ind(logs[domains == "2"], logs[domains != "2"], equal_var=False)
    adjusted = stats.false_discovery_control(p)
    for i in np.flatnonzero(t > 0):
        row: Any = table.loc[("2", f"g{i}")]
        assert row["score"] == pytest.approx(t[i])
        assert row["p_adjusted"] == pytest.approx(adjusted[i])
        assert row["share_in"] == pytest.approx((dense[domains == "2", i] > 0).mean())
    assert len(table.loc["2"]) == (t > 0).sum()


@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_array, np.asarray, lambda m: m.astype(np.float32)])
def test_other_containers_give_the_same(kind: Any) -> None:
    counts, domains, names = tissue()
    other = kind(counts.toarray())
    pd.testing.assert_frame_equal(marker_genes(other, domains, names), marker_genes(counts, domains, names))


def test_a_domain_of_one_spot_is_ranked_with_finite_numbers() -> None:
    counts, domains, names = tissue()
    domains = np.where(np.arange(len(domains)) == 0, "alone", domains)
    dense = counts.toarray()
    dense[0, 5] += 50
    table = marker_genes(sparse.csr_matrix(dense), domains, names)
    alone = table[table["domain"] == "alone"]
    assert alone["gene"].iloc[0] == "g5"
    assert np.isfinite(table[["log2_fold_change", "score", "p_adjusted"]]).all(axis=None)


def test_two_spots_in_two_domains() -> None:
    table = marker_genes(sparse.csr_matrix([[3, 0], [0, 4]]), ["a", "b"], ["x", "y"])
    assert list(table["gene"]) == ["x", "y"]
    assert (table["p_adjusted"] == 1).all()


def test_genes_without_counts_and_empty_spots_are_ignored() -> None:
    counts, domains, names = tissue()
    dense = counts.toarray()
    dense[:, 3] = 0
    dense[4] = 0
    table = marker_genes(sparse.csr_matrix(dense), domains, names, n_genes=12)
    assert "g3" not in set(table["gene"])
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)


def test_nothing_to_compare_gives_no_rows() -> None:
    counts, domains, names = tissue()
    table = marker_genes(counts, np.full(len(domains), "1"), names)
    assert table.empty
    assert "gene" in table


def test_the_order_of_categories_is_kept() -> None:
    counts, domains, names = tissue()
    labels = pd.Categorical(domains, categories=["3", "2", "1", "unused"])
    assert list(dict.fromkeys(marker_genes(counts, labels, names)["domain"])) == ["3", "2", "1"]

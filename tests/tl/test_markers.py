"""Marker genes: equal to scipy's Welch test, sparse throughout, and sane at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats

from stmfg import compare, datasets, tl


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
        "domain", "gene", "specific", "log2_fold_change", "share_in", "share_out", "score", "p_adjusted",
        "next_domain", "log2_fold_change_next", "share_next", "p_adjusted_next",
    ]  # fmt: skip
    best = table.groupby("domain").first()
    assert list(best["gene"]) == ["g0", "g1", "g2"]
    assert (best["log2_fold_change"] > 1).all()
    assert (best["share_in"] > best["share_out"]).all()
    assert (best["p_adjusted"] < 1e-6).all()
    assert best["specific"].all()


def test_it_is_welchs_test_on_log_normalised_counts() -> None:
    counts, domains, names = tissue()
    table = marker_genes(counts, domains, names, n_genes=12).set_index(["domain", "gene"])
    dense = counts.toarray()
    depth = dense.sum(axis=1, keepdims=True)
    logs = np.log1p(dense / depth * np.median(depth))
    t, p = stats.ttest_ind(logs[domains == "2"], logs[domains != "2"], equal_var=False, alternative="greater")
    p_next = np.max(
        [stats.ttest_ind(logs[domains == "2"], logs[domains == other], equal_var=False, alternative="greater").pvalue
         for other in ("1", "3")], axis=0,
    )  # fmt: skip
    adjusted_next = stats.false_discovery_control(p_next)
    adjusted = stats.false_discovery_control(p)
    for i in np.flatnonzero(t > 0):
        row: Any = table.loc[("2", f"g{i}")]
        assert row["score"] == pytest.approx(t[i])
        assert row["p_adjusted"] == pytest.approx(adjusted[i])
        assert row["p_adjusted_next"] == pytest.approx(adjusted_next[i], rel=0.05)
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


def test_one_domain_has_no_markers_and_two_spots_no_test() -> None:
    table = marker_genes(sparse.csr_matrix([[3, 0], [0, 4]]), ["a", "b"], ["x", "y"])
    assert list(table["gene"]) == ["x", "y"]
    assert (table["p_adjusted"] == 1).all()
    counts, domains, names = tissue()
    none = marker_genes(counts, np.full(len(domains), "1"), names)
    assert none.empty
    assert list(none) == list(table)


def test_genes_without_counts_and_empty_spots_are_ignored_and_the_order_of_categories_is_kept() -> None:
    counts, domains, names = tissue()
    dense = counts.toarray()
    dense[:, 3] = 0
    dense[4] = 0
    labels = pd.Categorical(domains, categories=["3", "2", "1", "unused"])
    table = marker_genes(sparse.csr_matrix(dense), labels, names, n_genes=12)
    assert "g3" not in set(table["gene"])
    assert np.isfinite(table.select_dtypes("number")).all(axis=None)
    assert list(dict.fromkeys(table["domain"])) == ["3", "2", "1"]


def without_domains(seed: int, n: int = 400, genes: int = 60) -> AnnData:
    """Simulate cells that are the same all over the tissue, with more than Poisson noise."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(2, 0.5, size=genes) * rng.gamma(20, 0.05, size=(n, 1)) * rng.gamma(2, 0.5, size=(n, genes))
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
    return AnnData(counts, obsm={"spatial": rng.uniform(0, np.sqrt(n), (n, 2))})


def test_tissue_without_domains_has_markers_at_the_nominal_rate_only() -> None:
    tables: dict[str, list[pd.DataFrame]] = {"stmfg_domain": [], "same counts": []}
    for seed in range(3):
        adata = without_domains(seed, n=1500)
        tl.domains(adata, n_domains=3, epochs=0, n_votes=1, redraws=1, random_state=seed)
        adata.obs["same counts"] = adata.obs["stmfg_domain"]
        for key, found in tables.items():
            tl.markers(adata, key=key, n_genes=adata.n_vars)
            found.append(adata.uns["stmfg_markers"])
    table, naive = (pd.concat(found) for found in tables.values())
    tests = 3 * 3 * 60
    assert 0.01 < (stats.norm.sf(table["score"]) < 0.05).sum() / tests < 0.06
    assert (table["p_adjusted"] < 0.05).sum() <= 2
    assert not table["specific"].any()
    assert (stats.norm.sf(naive["score"]) < 0.05).sum() / tests > 0.09  # testing domains on the counts they came from


def test_a_domain_without_a_gene_of_its_own_says_with_which_it_shares() -> None:
    counts, domains, names = tissue(n=300)
    dense = counts.toarray()
    dense[domains == "3"] = np.random.default_rng(1).poisson(dense[domains == "2"].mean(axis=0), (100, 12))
    table = marker_genes(sparse.csr_matrix(dense), domains, names, n_genes=12)
    assert not table.loc[table["domain"].isin(["2", "3"]), "specific"].any()
    shared: Any = table[(table["domain"] == "3") & (table["gene"] == "g1")].iloc[0]
    assert shared["next_domain"] == "2"
    assert shared["p_adjusted"] < 1e-6


def test_which_half_a_molecule_is_in_depends_on_names_alone_and_without_halves_nothing_is_tested() -> None:
    adata = without_domains(0)
    tl.domains(adata, n_domains=3, epochs=0, redraws=0)
    assert "stmfg_half" not in adata.obs
    tl.markers(adata)
    assert adata.uns["stmfg_markers"][["p_adjusted", "p_adjusted_next"]].isna().all(axis=None)
    adata = without_domains(0)
    tl.domains(adata, n_domains=3, epochs=0)
    rng = np.random.default_rng(1)
    other = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    tl.markers(adata, n_genes=20)
    tl.markers(other, n_genes=20)
    columns = ["domain", "gene", "score", "p_adjusted"]
    one, two = (x.uns["stmfg_markers"][columns].sort_values(columns[:2]) for x in (adata, other))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


def test_confidence_is_how_often_a_spot_keeps_its_domain_on_half_of_the_molecules() -> None:
    adata = datasets.simulate(600, 150, n_domains=4, difficulty=1.3, random_state=1)
    options: dict[str, Any] = {"n_domains": 4, "epochs": 0, "finest_level": 0}
    tl.domains(adata, **options)
    kept, rng = np.zeros(adata.n_obs), np.random.default_rng(0)
    for seed in (1, 2, 3, 4):
        half = AnnData(adata.X.copy(), obs=adata.obs[[]].copy(), obsm={"spatial": adata.obsm["spatial"]})
        half.X.data = rng.binomial(half.X.data.astype(int), 0.5).astype(np.float32)
        tl.domains(half, random_state=seed, redraws=0, **options)
        comparison = compare(adata.obs["stmfg_domain"], half.obs["stmfg_domain"])
        kept += comparison.spots["same"].reindex(adata.obs_names).to_numpy(bool) / 4
    confidence = adata.obs["stmfg_confidence"].to_numpy()
    assert abs(confidence.mean() - kept.mean()) < 0.08
    sure = confidence > np.median(confidence)
    assert kept[sure].mean() > kept[~sure].mean() + 0.05
    again = adata.uns["stmfg"]["halves"]["stmfg_domain"]
    assert again["domains"].tolist() == ["1", "2", "3", "4"]
    assert ((again["found_again"] > 0) & (again["found_again"] <= 1)).all()

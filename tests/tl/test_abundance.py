"""Composition of samples and its comparison: areas against geometry, tests against scipy, calibration and power."""

from __future__ import annotations

import re
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stmfg.tl import abundance, composition


def cohort(shares: np.ndarray[Any, Any], spots: int, **columns: list[str]) -> ad.AnnData:
    """Samples of a square grid of spots each, with domains in the given shares (samples, domains)."""
    side = int(np.sqrt(spots))
    grid = np.column_stack(np.divmod(np.arange(side * side), side)).astype(float)
    labels = [np.searchsorted(np.cumsum(s)[:-1], (np.arange(side * side) + 0.5) / side**2) + 1 for s in shares]
    obs = pd.DataFrame({"domain": np.concatenate(labels).astype(str)})
    obs["sample"] = np.repeat([f"s{i}" for i in range(len(shares))], side * side)
    for name, values in columns.items():
        obs[name] = np.repeat(values, side * side)
    adata = ad.AnnData(obs=obs.set_axis(obs.index.astype(str)))
    adata.obsm["spatial"] = np.tile(grid, (len(shares), 1)) * 50
    return adata


def shares(samples: int, domains: int, spread: float, seed: int) -> np.ndarray[Any, Any]:
    """Shares that vary between samples, as those of real ones do."""
    rng = np.random.default_rng(seed)
    odds = np.exp(np.linspace(0, 1.2, domains) + spread * rng.normal(size=(samples, domains)))
    return odds / odds.sum(axis=1, keepdims=True)


def compare(adata: ad.AnnData, **options: Any) -> pd.DataFrame:
    return abundance(adata, sample_key="sample", condition_key="condition", key="domain", **options)


TWO = ["a"] * 4 + ["b"] * 4


def test_composition_counts_every_domain_of_every_sample() -> None:
    adata = cohort(np.array([[0.25, 0.75], [1.0, 0.0]]), 400)
    adata.obs["domain"] = adata.obs["domain"].astype(pd.CategoricalDtype(["1", "2"]))
    table = composition(adata, sample_key="sample", key="domain")
    assert table[["sample", "domain"]].to_numpy().tolist() == [["s0", "1"], ["s0", "2"], ["s1", "1"], ["s1", "2"]]
    assert table["spots"].tolist() == [100, 300, 400, 0]
    assert table["proportion"].tolist() == [0.25, 0.75, 1.0, 0.0]


@pytest.mark.parametrize(("layout", "one"), [("square", 1.0), ("hex", np.sqrt(3) / 2)])
def test_area_is_that_of_the_tissue(layout: str, one: float) -> None:
    side, adata = 30, cohort(np.ones((1, 1)), 900)
    row, column = adata.obsm["spatial"].T / 50
    if layout == "hex":
        row, column = row * np.sqrt(0.75), column + 0.5 * (row % 2)
    adata.obsm["spatial"] = np.column_stack([column, row]) * 7
    in_spacings = composition(adata, sample_key="sample", key="domain")["area"].item()
    assert in_spacings == pytest.approx((side - 1) ** 2 * one, rel=0.02)
    in_microns = composition(adata, sample_key="sample", key="domain", microns_per_unit=2.0)["area"].item()
    assert in_microns == pytest.approx(in_spacings * 14**2, rel=1e-9)


def test_crowded_cells_have_no_more_area() -> None:
    rng = np.random.default_rng(0)
    xy = np.concatenate([rng.uniform((0, 0), (1, 1), (4000, 2)), rng.uniform((1, 0), (2, 1), (1000, 2))])
    adata = ad.AnnData(
        obs=pd.DataFrame({"domain": ["1"] * 4000 + ["2"] * 1000, "sample": "a"}, index=map(str, range(5000)))
    )
    adata.obsm["spatial"] = xy * 1000
    table = composition(adata, sample_key="sample", key="domain", microns_per_unit=1.0)
    assert table["proportion"].tolist() == [0.8, 0.2]
    np.testing.assert_allclose(table["area"], 1e6, rtol=0.06)


def test_holes_and_lines_have_no_area() -> None:
    adata = cohort(np.ones((2, 1)), 100)
    adata.obsm["spatial"][:100] = np.column_stack([np.zeros(100), np.arange(100)])
    assert composition(adata, sample_key="sample", key="domain")["area"].isna().tolist() == [True, False]
    adata = cohort(np.ones((1, 1)), 1600)
    middle = np.abs(adata.obsm["spatial"] / 50 - 19.5).max(axis=1) < 10
    whole, pierced = (
        composition(part, sample_key="sample", key="domain")["area"].item() for part in (adata, adata[~middle].copy())
    )
    assert whole == pytest.approx(39**2)
    assert pierced == pytest.approx(39**2 - 21**2, rel=0.03)  # the corners of the hole are rounded off


def test_spots_without_a_domain_are_left_out(refused: Any) -> None:
    adata = cohort(np.array([[0.5, 0.5], [0.5, 0.5]]), 100)
    adata.obs.loc[adata.obs_names[:30], "domain"] = None
    table = composition(adata, sample_key="sample", key="domain")
    assert table["spots"].tolist() == [20, 50, 50, 50]
    assert table["proportion"].tolist() == [20 / 70, 50 / 70, 0.5, 0.5]
    assert table["area"].iloc[0] < table["area"].iloc[1]
    adata.obs.loc[adata.obs_names[:100], "domain"] = None
    assert "sample 's0' has no spot with a domain" in refused(composition, adata, sample_key="sample", key="domain")


def log_odds(adata: ad.AnnData) -> np.ndarray[Any, Any]:
    table = composition(adata, sample_key="sample", key="domain")
    spots = table.set_index(["sample", "domain"])["spots"].unstack()
    return np.log((spots["1"] + 0.5) / (spots["2"] + 0.5)).to_numpy()


def test_two_domains_are_a_t_test_of_samples() -> None:
    adata = cohort(shares(8, 2, 0.4, 1), 900, condition=TWO)
    table, y = compare(adata), log_odds(adata)
    expected = stats.ttest_ind(y[4:], y[:4])
    interval = expected.confidence_interval(0.95)
    first = table.iloc[0]
    assert (first["condition"], first["reference"], first["domain"]) == ("b", "a", "1")
    assert (first["n"], first["n_reference"], first["df"]) == (4, 4, 6)
    np.testing.assert_allclose(
        first[["effect", "ci_low", "ci_high", "t", "p"]].astype(float),
        [y[4:].mean() - y[:4].mean(), interval.low, interval.high, expected.statistic, expected.pvalue],
    )
    np.testing.assert_allclose(table["effect"].sum(), 0, atol=1e-12)  # what one gains the other loses
    np.testing.assert_allclose(table["p_adjusted"], expected.pvalue)


def test_donors_with_both_conditions_are_compared_within() -> None:
    adata = cohort(shares(8, 2, 0.4, 2), 900, condition=TWO, donor=["p", "q", "r", "s"] * 2)
    y = log_odds(adata)
    expected = stats.ttest_rel(y[4:], y[:4])
    first = compare(adata, donor_key="donor").iloc[0]
    np.testing.assert_allclose([first["t"], first["p"]], [expected.statistic, expected.pvalue])


def test_slices_of_one_donor_are_no_new_evidence() -> None:
    own = shares(6, 3, 0.4, 3)
    once = cohort(own, 900, condition=["a"] * 3 + ["b"] * 3)
    repeated = cohort(
        np.repeat(own, 4, axis=0), 900, condition=["a"] * 12 + ["b"] * 12, donor=np.repeat(list("pqrstu"), 4).tolist()
    )
    same = compare(repeated, donor_key="donor")
    pd.testing.assert_frame_equal(same, compare(once))
    assert compare(repeated)["p"].min() < same["p"].min()  # what taking slices as samples would have claimed


def test_the_reference_is_the_first_category_or_as_given() -> None:
    adata = cohort(shares(8, 3, 0.3, 4), 900, condition=["late"] * 4 + ["early"] * 4)
    late = compare(adata)
    assert set(late["reference"]) == {"early"}
    adata.obs["condition"] = adata.obs["condition"].astype(pd.CategoricalDtype(["late", "early"]))
    early = compare(adata)
    assert set(early["reference"]) == {"late"}
    np.testing.assert_allclose(early["effect"], -late["effect"])
    pd.testing.assert_frame_equal(compare(adata, reference="early"), late)


def test_several_conditions_share_one_estimate_of_chance() -> None:
    adata = cohort(shares(9, 3, 0.3, 5), 900, condition=["a"] * 3 + ["b"] * 3 + ["c"] * 3)
    table = compare(adata)
    assert table[["condition", "domain"]].to_numpy().tolist() == [[c, d] for c in "bc" for d in "123"]
    assert (table["df"] >= 6).all()


def test_area_tells_what_grew_from_what_became_less_of_the_rest() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for i in range(8):
        rows = [int(20 * np.exp(0.05 * rng.normal())) for _ in range(2)]
        rows[0] *= 1 + 2 * (i >= 4)  # domain 1 is three times as large in b, domain 2 as it was
        part = cohort(np.ones((1, 1)), 14400)[: 60 * sum(rows)].copy()
        part.obs["domain"] = np.repeat(["1", "2"], 60 * np.array(rows))
        part.obs["sample"], part.obs["condition"] = f"s{i}", TWO[i]
        parts.append(part)
    adata = ad.concat(parts, index_unique="-", keys=map(str, range(8)))
    area = compare(adata, measure="area").set_index("domain")
    assert area.loc["1", "effect"] == pytest.approx(np.log(3), abs=0.15)
    assert area.loc["1", "p_adjusted"] < 1e-4
    assert area.loc["2", "p_adjusted"] > 0.05
    assert (compare(adata)["p_adjusted"] < 1e-3).all()  # of shares both change


def simulated(effect: float, seeds: range, spread: float = 0.35) -> pd.DataFrame:
    """Tests of simulated cohorts whose samples vary by themselves; domain 1 has other odds in condition b."""
    tables = []
    for seed in seeds:
        odds = np.log(shares(8, 5, spread, 1000 + seed))
        odds[4:, 0] += effect
        own = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
        tables.append(compare(cohort(own, 400, condition=TWO)))
    return pd.concat(tables)


def test_without_an_effect_p_values_are_uniform() -> None:
    table = simulated(0.0, range(120))
    for domain in ("1", "5"):
        assert stats.kstest(table.loc[table["domain"] == domain, "p"], "uniform").pvalue > 0.01
    assert (table["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_an_effect_is_found_and_its_size_told() -> None:
    table = simulated(1.5, range(30)).query("domain == '1'")
    assert (table["p_adjusted"] < 0.05).mean() > 0.9
    assert ((table["ci_low"] < 1.5) & (table["ci_high"] > 1.5)).mean() > 0.8
    assert table["effect"].mean() == pytest.approx(1.5, abs=0.15)


@pytest.mark.parametrize(
    ("condition", "options", "said"),
    [
        (["a"] * 3 + ["b"], {}, "condition 'b' has 1 sample; at least 2"),
        (["a"] * 4, {}, "has one condition only"),
        (["a", "a", "b", "b"], {"reference": "c"}, "the conditions in obs.* are a, b"),
        (["a", "a", "b", "b"], {"measure": "weight"}, "must be one of proportion, area"),
        (["a", "a", "b", "b"], {"donor_key": "donor"}, "obs.'donor'. is missing"),
        (["a", "a", "b", "b"], {"donor_key": "domain"}, "has more than one donor"),
    ],
)
def test_refused(refused: Any, condition: list[str], options: dict[str, Any], said: str) -> None:
    adata = cohort(shares(4, 3, 0.3, 0), 100, condition=condition)
    assert re.search(said, refused(compare, adata, **options))


def test_refused_where_samples_are_not_whole(refused: Any) -> None:
    adata = cohort(shares(4, 3, 0.3, 0), 100, condition=["a", "a", "b", "b"])
    adata.obs.loc[adata.obs_names[:5], "condition"] = "b"
    assert "sample 's0' has more than one condition" in refused(compare, adata)
    adata.obs.loc[adata.obs_names[:5], "condition"] = None
    assert "missing for 5 of 400 spots; give every spot its condition" in refused(compare, adata)

"""Comparing conditions on simulated cohorts: how often chance is taken for an effect, and how often an effect is found.

usage: abundance.py [-o TABLE.tsv] [--cohorts N]

Shares of five domains vary between samples as logistic normals (standard deviation 0.35 of the log odds, about a factor
of 1.4); in one condition the odds of the first domain are multiplied. `chi-square` takes spots for
independent, which is what a sample as the unit avoids.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import stats

from stmfg import tl

HERE = Path(__file__).resolve().parent
DOMAINS, SPOTS, SPREAD, LEVEL = 5, 225, 0.35, 0.05


def cohort(samples: int, odds_ratio: float, rng: np.random.Generator) -> AnnData:
    """Return the spots of so many samples of each of two conditions, on square grids."""
    log_odds = np.linspace(0, 1.2, DOMAINS) + SPREAD * rng.normal(size=(2 * samples, DOMAINS))
    log_odds[samples:, 0] += np.log(odds_ratio)
    shares = np.exp(log_odds) / np.exp(log_odds).sum(axis=1, keepdims=True)
    domains = np.concatenate([np.sort(rng.choice(DOMAINS, SPOTS, p=share)) for share in shares])
    obs = pd.DataFrame(
        {"domain": (domains + 1).astype(str), "sample": np.repeat(np.arange(2 * samples), SPOTS).astype(str)}
    )
    obs["condition"] = np.repeat(["a", "b"], samples * SPOTS)
    adata = AnnData(obs=obs.set_axis(obs.index.astype(str)))
    adata.obsm["spatial"] = np.tile(np.column_stack(np.divmod(np.arange(SPOTS), 15)), (2 * samples, 1)).astype(float)
    return adata


def naive(adata: AnnData) -> float:
    """Return the p-value of the first domain where every spot counts."""
    inside = adata.obs["domain"] == "1"
    return float(stats.chi2_contingency(pd.crosstab(inside, adata.obs["condition"])).pvalue)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "abundance.tsv")
    parser.add_argument("--cohorts", type=int, default=200, help="simulated cohorts a row (default: 200)")
    args = parser.parse_args()
    rows = []
    for samples in (2, 3, 5, 10):
        for odds_ratio in (1.0, 3.0):
            rng = np.random.default_rng(samples)
            found = []
            for _ in range(args.cohorts):
                adata = cohort(samples, odds_ratio, rng)
                table = tl.abundance(adata, sample_key="sample", condition_key="condition", key="domain")
                first = table.iloc[0]
                covered = first["ci_low"] <= np.log(odds_ratio) <= first["ci_high"]
                found.append((first["p"] < LEVEL, first["p_adjusted"] < LEVEL, covered, naive(adata) < LEVEL))
            p, adjusted, covered, spots = np.mean(found, axis=0)
            rows.append(
                {
                    "samples_per_condition": samples, "odds_ratio": odds_ratio, "cohorts": args.cohorts,
                    "p_below_0.05": p, "p_adjusted_below_0.05": adjusted, "interval_covers": covered,
                    "chi_square_of_spots_below_0.05": spots,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(args.output, sep="\t", index=False, float_format="%.3f")


if __name__ == "__main__":
    main()

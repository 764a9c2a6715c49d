"""Comparing conditions on simulated cohorts: how often chance is taken for an effect, and how often an effect is found.

usage: abundance.py [-o TABLE.tsv] [--cohorts N]

Shares of five domains vary between samples as logistic normals (standard deviation 0.35 of the log odds, about a factor
of 1.4); spots are drawn from them, and in one condition the odds of the first domain are multiplied. Without an effect
the tests of all domains are counted, with one those of the first. `chi_square` takes spots for independent, which is
what a sample as the unit avoids.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats

import stmfg

HERE = Path(__file__).resolve().parent
DOMAINS, SPREAD, LEVEL = 5, 0.35, 0.05


def cohort(samples: int, spots: int, odds_ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Return how many spots each domain has in so many samples of each of two conditions, (2 samples, domains)."""
    log_odds = np.linspace(0, 1.2, DOMAINS) + SPREAD * rng.normal(size=(2 * samples, DOMAINS))
    log_odds[samples:, 0] += np.log(odds_ratio)
    shares = np.exp(log_odds) / np.exp(log_odds).sum(axis=1, keepdims=True)
    return rng.multinomial(spots, shares)


def compare(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return for each domain the p-value, the adjusted one, the interval of the effect, and the p-value of spots."""
    samples = len(counts) // 2
    row, domain = np.indices(counts.shape).reshape(2, -1).repeat(counts.ravel(), axis=1)
    adata = ad.AnnData(
        obs=pd.DataFrame({"sample": row, "condition": row // samples, "stmfg_domain": domain}, dtype=str)
    )
    table = stmfg.tl.abundance(adata, sample_key="sample", condition_key="condition").set_index("domain").sort_index()
    both = np.stack([counts[:samples].sum(axis=0), counts[samples:].sum(axis=0)])
    naive = [stats.chi2_contingency([both[:, i], both.sum(axis=1) - both[:, i]]).pvalue for i in range(DOMAINS)]
    return table["p"], table["p_adjusted"], table[["ci_low", "ci_high"]].to_numpy().T, np.array(naive)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "abundance.tsv")
    parser.add_argument("--cohorts", type=int, default=1000, help="simulated cohorts a row (default: 1000)")
    args = parser.parse_args()
    rows = []
    for samples in (2, 3, 5, 10):
        for odds_ratio in (1.0, 2.0, 4.0):
            rng = np.random.default_rng(samples)
            seen = slice(None) if odds_ratio == 1 else slice(1)
            found = []
            for _ in range(args.cohorts):
                p, adjusted, (low, high), naive = compare(cohort(samples, 1000, odds_ratio, rng))
                covers = (low <= np.log(odds_ratio)) & (np.log(odds_ratio) <= high)
                found.append([p[seen] < LEVEL, adjusted[seen] < LEVEL, covers[seen], naive[seen] < LEVEL])
            shares = np.mean(found, axis=(0, 2))
            columns = ("p", "p_adjusted", "interval_covers", "chi_square")
            rows.append({"samples": samples, "odds_ratio": odds_ratio} | dict(zip(columns, shares, strict=True)))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows).assign(cohorts=args.cohorts)
    table.to_csv(args.output, sep="\t", index=False, float_format="%.3f")
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()

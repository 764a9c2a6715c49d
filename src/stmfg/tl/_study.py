"""Several samples side by side: what each is made of, and what comparing their conditions comes to, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData

from stmfg._keys import DOMAIN
from stmfg.errors import InputError
from stmfg.tl._abundance import abundance, composition

CONDITION, DONOR = "condition", "donor"
"""Columns of ``obs`` that a sheet of samples gives."""
_CLAIMED: Final = 0.05  # below this adjusted p-value a difference is called one
_FEW: Final = 4  # with fewer samples of a condition, it is said that only large differences can be seen


@dataclass(frozen=True)
class Study:
    """What came of several samples."""

    composition: pd.DataFrame  # with ``condition`` and ``donor`` where they are known
    abundance: pd.DataFrame | None  # None where conditions cannot be compared
    sentences: tuple[str, ...]  # what the comparison says, or why there is none


def compare_samples(adata: AnnData, sample_key: str, *, reference: str | None = None, key: str = DOMAIN) -> Study:
    """Count the domains in every sample, and compare conditions where there are some; the sample is the unit.

    Conditions and donors are those of ``obs["condition"]`` and ``obs["donor"]``.
    """
    table = composition(adata, sample_key=sample_key, key=key)
    samples = adata.obs.drop_duplicates(sample_key).set_index(sample_key)
    samples.index = samples.index.astype(str)
    known = [name for name in (CONDITION, DONOR) if name in samples and samples[name].notna().any()]
    for place, name in enumerate(known, 1):
        table.insert(place, name, table["sample"].map(samples[name].astype(object)))
    return Study(table, *compare_conditions(adata, sample_key, reference=reference, key=key))


def compare_conditions(
    adata: AnnData, sample_key: str, *, reference: str | None = None, key: str = DOMAIN
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Return the table of :func:`stmfg.tl.abundance`, if it can be made, and what it says or why there is none."""
    condition = adata.obs.get(CONDITION)
    if condition is None or condition.isna().all() or (condition.nunique() < 2 and condition.notna().all()):
        return None, ()
    donor_key = DONOR if DONOR in adata.obs and adata.obs[DONOR].notna().any() else None
    keys: dict[str, Any] = {"sample_key": sample_key, "condition_key": CONDITION, "donor_key": donor_key, "key": key}
    try:
        tests = abundance(adata, reference=reference, **keys)
    except InputError as error:
        return None, (f"Conditions are not compared: {error}.",)
    unit = "sample" if donor_key is None else "donor"
    return tests, tuple(text for _, rows in tests.groupby(CONDITION) for text in _describe(rows, unit))


def _describe(rows: pd.DataFrame, unit: str) -> list[str]:
    """Say which domains differ between a condition and the reference, and what could not have been seen."""
    one = rows.iloc[0]
    compared = f"{one['condition']} ({one['n']} {unit}s) and {one['reference']} ({one['n_reference']})"
    claimed = rows[rows["p_adjusted"] < _CLAIMED].sort_values("p_adjusted")
    sentences = []
    for row in claimed.to_dict("records"):
        sign = 1 if row["effect"] > 0 else -1
        low, odds, high = sorted(sign * row[name] for name in ("ci_low", "effect", "ci_high"))
        sentences.append(
            f"Domain {row['domain']} takes {'more' if sign > 0 else 'less'} of the tissue in {row['condition']} "
            f"than in {row['reference']}: {row['mean']:.1%} and {row['mean_reference']:.1%} on average, "
            f"odds {_times(odds)} times as {'high' if sign > 0 else 'low'} (95 % interval {_times(low)} to "
            f"{_times(high)}, adjusted p {row['p_adjusted']:.2g})."
        )
    if not sentences:
        least = f"smallest adjusted p {rows['p_adjusted'].min():.2g}"
        sentences.append(f"No domain differs between {compared} beyond chance; {least}.")
    if len(claimed) > 1:
        sentences.append(
            "Shares sum to one: where a domain grows, the others shrink without having changed themselves."
        )
    few = min(one["n"], one["n_reference"]) < _FEW
    if few or claimed.empty:
        margin = float(np.exp(np.median((rows["ci_high"] - rows["ci_low"]) / 2)))
        sentences.append(
            f"With {'so few' if few else 'these'} {unit}s the odds of a domain would have to differ {margin:.1f}-fold "
            f"to stand out from how much {unit}s of one condition differ; what is not seen here may still be there."
        )
    return sentences


def _times(log_odds: float) -> str:
    """Return a ratio of odds as it is read."""
    ratio = float(np.exp(log_odds))
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2g}"

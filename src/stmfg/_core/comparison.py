"""Two labelings of the same observations side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Comparison:
    """How two labelings of the same observations agree.

    Attributes
    ----------
    n
        Observations that both label.
    ari
        Adjusted Rand index.
    nmi
        Mutual information over the mean of the entropies.
    agreement
        Share of the observations whose labels are the same once the names are matched.
    contingency
        Observations of each label of the one (rows) and the other (columns).
    matched
        Label of the one for each label of the other: the pairing of names, one to one, that the most observations agree
        on. Labels that share no observation with any label left to pair are not in it.
    """

    n: int
    ari: float
    nmi: float
    agreement: float
    contingency: pd.DataFrame
    matched: dict[str, str]


def compare(labels: ArrayLike, other: ArrayLike) -> Comparison:
    """Compare two labelings of the same observations, such as two runs, or a run and an annotation.

    Parameters
    ----------
    labels
        Label of each observation, (n,). Observations without a label (None, NaN) in either are left out.
    other
        Label of each observation, (n,), in the same order.

    Returns
    -------
    Scores, the table of counts, and which names mean the same. ``other.map(found.matched)`` gives a pandas Series of
    labels the names that the first labeling uses.

    Raises
    ------
    InputError
        If the lengths differ, or no observation has both labels.

    References
    ----------
    Hubert and Arabie (1985), Comparing partitions, Journal of Classification 2, 193-218. Kuhn (1955), The Hungarian
    method for the assignment problem, Naval Research Logistics Quarterly 2, 83-97.
    """
    one, two = (pd.Series(given).reset_index(drop=True) for given in (labels, other))
    if one.shape != two.shape:
        raise InputError(f"{len(one)} labels and {len(two)} others; give both for the same observations")
    both = (one.notna() & two.notna()).to_numpy()
    if not both.any():
        raise InputError("no observation has a label in both; give labels of the same observations")
    one, two = one[both].astype(str), two[both].astype(str)
    table = pd.crosstab(one, two).rename_axis(index=None, columns=None)
    table = table.loc[sorted(table.index, key=_natural), sorted(table.columns, key=_natural)]
    shared = table.to_numpy()
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True) if shared[i, j]]
    return Comparison(
        n=int(both.sum()),
        ari=float(adjusted_rand_score(one, two)),
        nmi=float(normalized_mutual_info_score(one, two)),
        agreement=float(sum(shared[pair] for pair in pairs) / both.sum()),
        contingency=table,
        matched={str(table.columns[j]): str(table.index[i]) for i, j in pairs},
    )


def describe_stability(stability: Mapping[str, Any]) -> str:
    """Say in one sentence how well runs with other seeds agree, from ``stability`` of ``run.json``."""
    values = stability["ari"]
    return (
        f"stability {stability['mean_ari']:.2f}: mean agreement (ARI) with {len(values)} "
        f"{'runs of other seeds' if len(values) > 1 else 'run of another seed'}, lowest {min(values):.2f}"
    )


def _natural(name: str) -> tuple[bool, int, str]:
    """Sort numbers by their value, before other names."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)

"""Two labellings of the same observations side by side: scores, which labels are the same, and where they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from stmfg.errors import InputError

SAME = 0.7
"""Matched labels that overlap so far (Jaccard index) are the same."""
MOSTLY, PART = 0.5, 0.15
"""A label lies in another with more than half of its observations, and is a part of it from this share of it on."""


@dataclass(frozen=True)
class Comparison:
    """How two labellings of the same observations agree.

    Attributes
    ----------
    n, n_one, n_other
        Observations that both label, that the one labels, and the other.
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
    domains
        One row for each label of the one: ``match``, its label in the other or ""; ``n``, ``n_match`` and ``n_both``
        observations; ``overlap`` (Jaccard index) with the match; and ``what`` became of it, in words: the same (overlap
        of at least 0.7), split into labels that lie mostly in it, merged with labels that lie mostly in the same one,
        or differs.
    spots
        One row for each observation that both label: its label in the ``one`` and the ``other``, ``renamed``, that of
        the other under the name of the one (its own name, in brackets, where it has no match), and whether they are the
        ``same``.
    """

    n: int
    n_one: int
    n_other: int
    ari: float
    nmi: float
    agreement: float
    contingency: pd.DataFrame
    matched: dict[str, str]
    domains: pd.DataFrame
    spots: pd.DataFrame

    @property
    def sentences(self) -> list[str]:
        """What differs, in words."""
        same = self.domains["what"] == "the same"
        told = [f"{int(same.sum())} of {len(same)} domains are the same"]
        told += [f"{name}: {row['what']}" for name, row in self.domains[~same].iterrows()]
        differing = self.spots[~self.spots["same"]]
        if len(differing):
            pairs = differing.groupby(["one", "other"]).size()
            one, other = pairs.index[int(pairs.to_numpy().argmax())]
            most = f"most, {pairs.max():,}, are {one} in A and {other} in B"
            told.append(f"{len(differing) / self.n:.1%} of the spots differ; {most}")
        return told


def compare(labels: ArrayLike, other: ArrayLike) -> Comparison:
    """Compare two labellings of the same observations, such as two runs, or a run and an annotation.

    Parameters
    ----------
    labels
        Label of each observation, (n,). Observations without a label (None, NaN) in either are left out.
    other
        Label of each observation, (n,), in the same order.

    Returns
    -------
    Scores, the table of counts, which names mean the same, and where they differ. ``other.map(result.matched)`` gives a
    pandas Series of labels the names that the first labelling uses.

    References
    ----------
    Hubert and Arabie (1985), Comparing partitions, Journal of Classification 2, 193-218. Kuhn (1955), The Hungarian
    method for the assignment problem, Naval Research Logistics Quarterly 2, 83-97.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    names = labels.index if isinstance(labels, pd.Series) else None
    one, two = (pd.Series(column).reset_index(drop=True) for column in (labels, other))
    if one.shape != two.shape:
        raise InputError(f"{len(one)} labels and {len(two)} others; give both for the same observations")
    both = (one.notna() & two.notna()).to_numpy()
    if not both.any():
        raise InputError("no observation has a label in both; give labels of the same observations")
    n_one, n_other = int(one.notna().sum()), int(two.notna().sum())
    one, two = one[both].astype(str), two[both].astype(str)
    table = pd.crosstab(one, two).rename_axis(index=None, columns=None)
    table = table.loc[sorted(table.index, key=_natural), sorted(table.columns, key=_natural)]
    shared = table.to_numpy()
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True) if shared[i, j]]
    matched = {str(table.columns[j]): str(table.index[i]) for i, j in pairs}
    renamed = two.map({name: matched.get(name, f"({name})") for name in map(str, table.columns)})
    spots = pd.DataFrame({"one": one, "other": two, "renamed": renamed, "same": one == renamed})
    if names is not None:
        spots.index = names[both]
    return Comparison(
        n=int(both.sum()),
        n_one=n_one,
        n_other=n_other,
        ari=float(adjusted_rand_score(one, two)),
        nmi=float(normalized_mutual_info_score(one, two)),
        agreement=float(sum(shared[pair] for pair in pairs) / both.sum()),
        contingency=table,
        matched=matched,
        domains=_describe_domains(table, matched),
        spots=spots,
    )


def _describe_domains(table: pd.DataFrame, matched: dict[str, str]) -> pd.DataFrame:
    """Say what became of each label of the one, from the table of counts."""
    shared = table.to_numpy()
    sizes, others = shared.sum(axis=1), shared.sum(axis=0)
    place = {one: other for other, one in matched.items()}
    mostly_in = shared > MOSTLY * sizes[:, None]  # of the one, in each of the other
    mostly_of = shared > MOSTLY * others  # of the other, in each of the one
    rows = []
    for i, name in enumerate(map(str, table.index)):
        match = place.get(name, "")
        n_match, both, overlap = 0, 0, 0.0
        if match:
            j = table.columns.get_loc(match)
            n_match, both = int(others[j]), int(shared[i, j])
            overlap = both / (sizes[i] + n_match - both)
        rows.append((match, int(sizes[i]), n_match, both, overlap, _say(table, i, overlap, mostly_in, mostly_of)))
    columns = ["match", "n", "n_match", "n_both", "overlap", "what"]
    return pd.DataFrame(rows, columns=columns, index=table.index)


def _say(
    table: pd.DataFrame, i: int, overlap: float, mostly_in: NDArray[np.bool_], mostly_of: NDArray[np.bool_]
) -> str:
    shared, size = table.to_numpy(), int(table.iloc[i].sum())
    if overlap >= SAME:
        return "the same"
    parts = np.flatnonzero(mostly_of[i] & (shared[i] >= PART * size))
    if len(parts) > 1:
        return f"split into {_join(table.columns[parts])}"
    for j in np.flatnonzero(mostly_in[i]).tolist():
        together = np.flatnonzero(mostly_in[:, j] & (shared[:, j] >= PART * shared[:, j].sum()))
        if len(together) > 1 and i in together:
            return f"merged with {_join(table.index[together[together != i]])} into {table.columns[int(j)]}"
    best = np.argsort(-shared[i], kind="stable")[:2]
    where = [f"{shared[i, j] / size:.0%} in {table.columns[j]}" for j in best if shared[i, j]]
    return f"differs: {', '.join(where)}"


def _join(names: Any) -> str:
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


def _natural(name: str) -> tuple[bool, int, str]:
    """Sort numbers by their value, before other names."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)

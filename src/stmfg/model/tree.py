"""Nested domains: coarser levels join two domains at a time, finer ones split one. Arrays only.

The domains of the vote are the anchor, and stay as they are. Which two are joined, and which one is split where, is
what clusterings of the members of the vote at that very number say: Ward's criterion (1963), where the squared distance
of two observations is the share of the clusterings that tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg.errors import InputError
from stmfg.model.kmeans import find_best_centers, measure_distances
from stmfg.model.survey import Survey, make_survey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stmfg.model.vote import Member

    Codes = NDArray[np.int64]

LEAST_GAIN = 1e-6
"""A domain whose observations no clustering tells apart is not split."""


@dataclass(frozen=True)
class Tree:
    """Names of the domains at every level, for each of the domains at the finest one, the leaves.

    A domain ``"3"`` that is split becomes ``"3.1"``, the larger part, and ``"3.2"``; two that are joined ``"2+5"``.
    """

    levels: Codes
    """Numbers of domains, each one more than the one before, (L,)."""
    names: NDArray[Any]
    """Name of the domain of each leaf at each level, (n_leaves, L); the last column names the leaves."""
    support: NDArray[np.float64]
    """How reproducible the split is that leads to each level, (L,): the mean over clusterings of how well each tells
    the two parts apart, 1 where all do and 0 where none does better than chance."""
    anchor: int
    """Number of domains of the vote."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a result keeps."""
        parts = {"levels": self.levels, "leaves": self.names[:, -1], "names": self.names}
        return parts | {"support": self.support, "anchor": self.anchor}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Tree:
        """Return the tree that a result keeps."""
        names = np.asarray(record["names"], dtype=object)
        return cls(np.asarray(record["levels"]), names, np.asarray(record["support"]), int(record["anchor"]))

    def rename(self, names: Mapping[str, str]) -> Tree:
        """Return the tree with other names of some domains of the anchor, and so of their parts and joints."""
        old = self.names_at(self.anchor)
        new = np.array([names.get(name, name) for name in old], dtype=object)
        columns = [
            [f"{after}{name[len(before) :]}" for after, before, name in zip(new, old, column, strict=True)]
            if level >= self.anchor
            else ["+".join(dict.fromkeys(new[column == name])) for name in column]
            for level, column in zip(self.levels, self.names.T, strict=True)
        ]
        return replace(self, names=np.array(columns, dtype=object).T)

    def names_at(self, level: int) -> NDArray[Any]:
        """Return the name of the domain of each leaf at a level, (n_leaves,)."""
        column = np.flatnonzero(self.levels == level)
        if not len(column):
            raise InputError(
                f"there is no level of {level} domains; give one from {self.levels[0]} to {self.levels[-1]}"
            )
        return np.asarray(self.names[:, column[0]])


def grow_tree(members: Sequence[Member], labels: Codes, finest: int, needed: int = 0) -> tuple[Tree, Codes]:
    """Build the tree around domains.

    Parameters
    ----------
    members
        What the domains were found in.
    labels
        Domains of the vote, codes (n,) from 0.
    finest
        Number of domains at the finest level; the tree ends before where no clustering splits a domain.
    needed
        A level that has to be there.

    Returns
    -------
    The tree, and the leaf of each observation, (n,), a row of its names.
    """
    k = int(labels.max()) + 1
    survey = make_survey(members, range(2, max(finest, needed, k) + 1), labels)
    leaf, parents, of_splits = _split_domains(survey, labels, needed)
    joined, of_joints = _join_domains(survey, labels)
    n_leaves = k + len(parents)
    support = of_joints + of_splits
    roots = np.array([*range(k), *parents])
    columns = [_name_joint(groups)[_find_ancestors(roots, k)] for groups in joined]
    names = [str(i + 1) for i in range(k)]
    columns.append(np.array(names, dtype=object)[_find_ancestors(roots, k)])
    for parent in parents:
        names[parent : parent + 1], second = [f"{names[parent]}.1"], f"{names[parent]}.2"
        names.append(second)
        columns.append(np.array(names, dtype=object)[_find_ancestors(roots, len(names))])
    table = np.stack(columns, axis=1)
    order = sorted(range(n_leaves), key=lambda row: [int(part) for part in table[row, -1].split(".")])
    tree = Tree(np.arange(n_leaves - table.shape[1] + 1, n_leaves + 1), table[order], np.array(support), k)
    return tree, np.argsort(order)[leaf]


def _find_ancestors(parents: Codes, level: int) -> Codes:
    """Return the domain that each leaf belongs to at a level at or below the anchor, codes (n_leaves,)."""
    codes = np.arange(len(parents))
    while (codes >= level).any():
        codes = np.where(codes >= level, parents[codes], codes)
    return codes


def _name_joint(groups: Sequence[Sequence[int]]) -> NDArray[Any]:
    """Return the name of the group that each domain of the anchor is in."""
    names = np.empty(sum(map(len, groups)), dtype=object)
    for group in groups:
        names[list(group)] = "+".join(str(code + 1) for code in sorted(group))
    return names


def _split_domains(survey: Survey, labels: Codes, needed: int) -> tuple[Codes, list[int], list[float]]:
    """Split one domain at a time: leaves (n,), the domain that each new one was split from, and the support."""
    codes, support = labels.copy(), []
    k, parents = int(labels.max()) + 1, []
    for level in range(k + 1, max(survey.clusterings, default=k) + 1):
        best = _find_split(survey, codes, level, forced=level <= needed)
        if best is None:
            break
        domain, second = best
        rows = np.flatnonzero(codes == domain)
        codes[rows[second]] = level - 1
        parents.append(domain)
        support.append(measure_support(survey, codes, level, [domain], [level - 1]))
    return codes, parents, support


def _find_split(survey: Survey, codes: Codes, level: int, *, forced: bool) -> tuple[int, NDArray[np.bool_]] | None:
    """Return the domain to split, and which of its observations, in order, are the smaller part."""
    sizes = np.bincount(codes, minlength=level - 1)
    profile, of_rows = survey.profile(level, survey.rows), codes[survey.rows]
    best, most = None, LEAST_GAIN
    for domain in range(level - 1):
        x = profile[of_rows == domain]
        if len(x) < 2 or (x == x[0]).all():
            continue
        values = torch.from_numpy(x)
        centers = find_best_centers(values, 2, seed=0, n_starts=2)
        distances = measure_distances(values, centers)
        between = ((x - x.mean(axis=0)) ** 2).sum() - float(distances.amin(dim=1).sum())
        gain = sizes[domain] / len(x) * between
        if gain > most and 0 < int(distances.argmin(dim=1).sum()) < len(x):
            best, most = (domain, centers), gain
    if best is not None:
        domain, centers = best
        values = torch.from_numpy(survey.profile(level, np.flatnonzero(codes == domain)))
        second = measure_distances(values, centers).argmin(dim=1).numpy() == 1
    elif forced:  # nothing tells any observations apart: one is as good as another
        domain = int(sizes.argmax())
        second = np.arange(sizes[domain]) == 0
    else:
        return None
    return domain, second if 2 * second.sum() <= len(second) else ~second


def _join_domains(survey: Survey, labels: Codes) -> tuple[list[list[list[int]]], list[float]]:
    """Join two domains at a time: the groups at every level from 2 up to the anchor's, without it, and the support."""
    k = int(labels.max()) + 1
    groups, levels, support = [[code] for code in range(k)], [], []
    sizes = np.bincount(labels).astype(np.float64)
    for level in range(k - 1, 0, -1):
        at = max(level, 2)
        profile = survey.profile(at, survey.rows)
        of_rows = labels[survey.rows]
        centers = np.stack([profile[np.isin(of_rows, group)].mean(axis=0) for group in groups])
        n = np.array([sizes[group].sum() for group in groups])
        cost = {
            (a, b): n[a] * n[b] / (n[a] + n[b]) * float(((centers[a] - centers[b]) ** 2).sum())
            for a, b in combinations(range(len(groups)), 2)
        }
        a, b = min(cost, key=lambda pair: cost[pair])
        support.append(measure_support(survey, labels, level + 1, groups[a], groups[b]))
        groups = [g for i, g in enumerate(groups) if i not in (a, b)] + [groups[a] + groups[b]]
        levels.append(groups)
    return levels[::-1][1:], support[::-1]


def measure_support(survey: Survey, codes: Codes, level: int, first: list[int], second: list[int]) -> float:
    """Return how well clusterings at a number tell two parts apart: the mean over them of balanced accuracy, 0..1.

    Each cluster counts as the part it shares most with, relative to the size of the parts; 0 is as by chance.
    """
    of_rows = codes[survey.rows]
    parts = [survey.rows[np.isin(of_rows, part)] for part in (first, second)]
    apart = [
        np.abs(np.subtract(*(clustering.posterior(part).mean(axis=0) for part in parts))).sum() / 2
        for clustering in survey.clusterings[level]
    ]
    return float(np.mean(apart))

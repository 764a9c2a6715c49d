"""Nested domains: coarser levels join two domains at a time, finer ones split one. Arrays only.

The domains of the vote are the anchor, and stay as they are. Which two are joined, and which one is split where, is
what clusterings at that very number say: the change after which the domains agree best with them (adjusted Rand index,
Hubert and Arabie 1985, mean over the clusterings).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stmfg._core.blocks import BLOCK
from stmfg.errors import InputError
from stmfg.model import cluster, transfer
from stmfg.model.kmeans import find_best_centers, measure_distances

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stmfg.model.survey import Survey

    Codes = NDArray[np.int64]

LEAST_APART = 1e-3
"""A domain whose observations no clustering tells apart more than that is not split."""
LEAST_PART = 5
"""Observations of the survey that a cluster needs to become a domain."""
FIRST_GUESSES = 3
"""Of a consensus of clusterings."""


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


def grow_tree(
    surveyed: Survey, labels: Codes, embedding: NDArray[np.float32], finest: int, needed: int = 0
) -> tuple[Tree, Codes]:
    """Build the tree around domains.

    It is found on the observations of the survey; others take the leaf of their domain that they lie closest to in the
    embedding.

    Parameters
    ----------
    surveyed
        Clusterings at every number from 2 to the finest level, see :func:`stmfg.model.survey.survey`.
    labels
        Domains of the vote, codes (n,) from 0.
    embedding
        (n, d).
    finest
        Number of domains at the finest level; the tree ends before where no clustering splits a domain.
    needed
        A level that has to be there.

    Returns
    -------
    The tree, and the leaf of each observation, (n,), a row of its names.
    """
    rows, sizes = surveyed.rows, np.bincount(labels).astype(np.float64)
    k = len(sizes)
    codes = labels[rows]
    weights = (sizes / np.maximum(np.bincount(codes, minlength=k), 1))[codes]
    leaf, parents, of_splits = _split_domains(surveyed, codes, weights, k, max(finest, needed), needed)
    joined, of_joints = _join_domains(surveyed, codes, weights, k)
    n_leaves = k + len(parents)
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
    levels = np.arange(n_leaves - table.shape[1] + 1, n_leaves + 1)
    tree = Tree(levels, table[order], np.array(of_joints + of_splits), k)
    if len(rows) < len(labels):
        leaf = _place_others(rows, leaf, labels, embedding, _find_ancestors(roots, k))
    else:
        leaf = leaf[np.argsort(rows)]
    return tree, np.argsort(order)[leaf]


def _place_others(rows: Codes, leaf: Codes, labels: Codes, embedding: NDArray[np.float32], domains: Codes) -> Codes:
    """Return the leaf of all observations, (n,), from those of some rows, by Fisher's discriminant in each domain."""
    member = np.eye(len(domains))[leaf]
    fitted = transfer.fit(embedding[rows], member, [])
    placed = np.empty(len(labels), dtype=np.int64)
    for start in range(0, len(labels), BLOCK):
        block = slice(start, start + BLOCK)
        share = fitted.posterior(embedding[block], adapt=False)
        placed[block] = np.where(domains == labels[block, None], share, -1.0).argmax(axis=1)
    placed[rows] = leaf
    return placed


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


def _split_domains(
    surveyed: Survey, labels: Codes, weights: NDArray[np.float64], k: int, finest: int, needed: int
) -> tuple[Codes, list[int], list[float]]:
    """Split one domain at a time: leaves (m,), the domain that each new one was split from, and the support."""
    codes, support, parents = labels.copy(), [], []
    for level in range(k + 1, min(finest, len(labels)) + 1):
        posteriors = surveyed.at(level)
        apart = _find_split(posteriors, surveyed.profile(level), codes, weights)
        if apart is None and level > needed:
            break
        domain = int(np.bincount(codes).argmax()) if apart is None else int(codes[apart.argmax()])
        inside = codes == domain
        part = inside & (np.cumsum(inside) == 1) if apart is None else apart  # nothing tells any of them apart
        codes[part if 2 * part.sum() <= inside.sum() else inside & ~part] = level - 1
        parents.append(domain)
        support.append(measure_support(posteriors, codes == domain, codes == level - 1))
    return codes, parents, support


def _find_split(
    posteriors: NDArray[np.float32], profile: NDArray[np.float32], codes: Codes, weights: NDArray[np.float64]
) -> NDArray[np.bool_] | None:
    """Return which observations are to become a domain of their own, (m,), all of them of one domain so far.

    Tried are the two parts that clusterings tell apart best (k-means of their profile), and what the consensus of the
    clusterings has as a cluster. Taken is what agrees best with the clusterings, see :class:`_Agreement`.
    """
    consensus = cluster.consensus(list(posteriors.transpose(1, 0, 2)), n_starts=FIRST_GUESSES).argmax(axis=1)
    agreement = _Agreement(posteriors, codes, weights)
    best, most = None, -np.inf
    for domain in range(int(codes.max()) + 1):
        inside = codes == domain
        x = profile[inside]
        if len(x) < 2 or (np.abs(x - x[0]) < LEAST_APART).all():
            continue
        halves = np.zeros(len(codes), dtype=bool)
        values = torch.from_numpy(x)
        halves[inside] = measure_distances(values, find_best_centers(values, 2, seed=0, n_starts=2)).argmin(dim=1) == 1
        clusters = [inside & (consensus == code) for code in np.unique(consensus[inside])]
        large = [part for part in clusters if LEAST_PART <= part.sum() < inside.sum()]
        for part in [halves, *large]:
            reached = agreement.after_split(domain, part)
            if reached > most and 0 < part.sum() < inside.sum():
                best, most = part, reached
    return best


def _join_domains(
    surveyed: Survey, codes: Codes, weights: NDArray[np.float64], k: int
) -> tuple[list[list[list[int]]], list[float]]:
    """Join two domains at a time: the groups at every level from 2 up to the anchor's, without it, and the support."""
    groups, levels, support = [[code] for code in range(k)], [], []
    for level in range(k - 1, 0, -1):
        place = np.empty(k, dtype=np.int64)
        for i, group in enumerate(groups):
            place[group] = i
        agreement = _Agreement(surveyed.at(max(level, 2)), place[codes], weights, len(groups))
        reached = np.triu(agreement.after_joints() + 2, 1)  # an index is above -1
        a, b = divmod(int(reached.argmax()), len(groups))
        inside = [np.isin(codes, groups[i]) for i in (a, b)]
        support.append(measure_support(surveyed.at(level + 1), *inside))
        groups = [g for i, g in enumerate(groups) if i not in (a, b)] + [groups[a] + groups[b]]
        levels.append(groups)
    return levels[::-1][1:], support[::-1]


class _Agreement:
    """Mean adjusted Rand index of domains with clusterings, and what it would be after a change (of pairs, weighted).

    Of the contingency tables t of domains and clusters, the index needs the sums of squares of t, of its rows and of
    its columns alone, and a change of one or two rows changes these by little.
    """

    def __init__(
        self, posteriors: NDArray[np.float32], codes: Codes, weights: NDArray[np.float64], n_domains: int = 0
    ) -> None:
        n, self.m, self.k = posteriors.shape
        self.member = np.eye(self.k)[posteriors.argmax(axis=2)].reshape(n, -1) * weights[:, None]
        domains = np.eye(max(n_domains, int(codes.max()) + 1))[codes]
        self.tables = self._reshape(domains.T @ self.member)
        self.rows, self.total = self.tables.sum(axis=2), weights.sum()
        self.columns = (self.tables.sum(axis=0) ** 2).sum(axis=1)
        self.squares, self.row_squares = (self.tables**2).sum(axis=(0, 2)), (self.rows**2).sum(axis=0)

    def after_split(self, domain: int, part: NDArray[np.bool_]) -> float:
        """Return the agreement where some observations of a domain leave it."""
        new = self._reshape(part.astype(np.float64)[None] @ self.member)[0]
        left = self.tables[domain] - new
        size = new.sum(axis=1)
        both = 2 * size * (self.rows[domain] - size)
        return float(self._index(-2 * (new * left).sum(axis=1), -both))

    def after_joints(self) -> NDArray[np.float64]:
        """Return the agreement where two domains are one, for every two, (n_domains, n_domains)."""
        squares = np.einsum("amc,bmc->abm", self.tables, self.tables, optimize=True)
        return self._index(2 * squares, 2 * self.rows[:, None] * self.rows)

    def _reshape(self, tables: NDArray[np.float64]) -> NDArray[np.float64]:
        return tables.reshape(len(tables), self.m, self.k)

    def _index(self, squares: NDArray[np.float64], row_squares: NDArray[np.float64]) -> NDArray[np.float64]:
        squares, rows = self.squares + squares, self.row_squares + row_squares
        expected = rows * self.columns / self.total**2
        highest = (rows + self.columns) / 2 - expected
        return np.asarray(((squares - expected) / np.maximum(highest, 1e-9 * self.total**2)).mean(axis=-1))


def measure_support(posteriors: NDArray[np.float32], first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return how well clusterings (m, clusterings, k) tell two parts apart, (m,) each: 0 as by chance, 1 wholly.

    The mean over clusterings of the total variation between the two distributions over clusters.
    """
    if not (first.any() and second.any()):
        return 0.0
    apart = np.abs(posteriors[first].mean(axis=0) - posteriors[second].mean(axis=0)).sum(axis=1) / 2
    return float(apart.mean())

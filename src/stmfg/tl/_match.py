"""Which domains of samples that were analysed apart are the same: matched by the genes that tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stmfg.errors import InputError

MIN_CORRELATION: Final = 0.4
"""Domains whose profiles agree less are not called the same: unrelated tissues agree less, as the tests check."""
_GENES: Final = 500  # genes whose means differ most between the domains of a sample tell which are the same
_MIN_GENES: Final = 20
_ROUNDS: Final = 3


def match_domains(profiles: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Find the domains of several samples that are the same.

    Every gene is taken less its mean over the domains of the sample, so that what differs between samples as a whole,
    as depth or batch do, plays no part. Sample after sample is matched with the groups there are, one domain to one
    group, so that the sum of the correlations is largest (as :func:`stmfg.metrics.compare` matches by shared spots);
    then every sample anew with the groups that the others make.

    `profiles` have for every sample the mean logarithm of normalised counts, domains by genes. The table has one row
    for each domain of each sample: ``sample``, ``domain``; ``group``, a number, the same for the same; and
    ``correlation`` with the other members of the group, missing where there are none.
    """
    tables = {name: table for name, table in profiles.items() if len(table) > 1}
    shared = set.intersection(*(set(table.columns) for table in tables.values())) if tables else set()
    if len(tables) < 2 or len(shared) < _MIN_GENES:
        raise InputError(
            f"{len(tables)} samples with two domains or more share {len(shared)} genes; "
            f"at least 2 samples and {_MIN_GENES} genes are needed to match domains"
        )
    genes = [gene for gene in next(iter(tables.values())).columns if gene in shared]
    centred = {name: table[genes].to_numpy() - table[genes].to_numpy().mean(axis=0) for name, table in tables.items()}
    telling = np.argsort(-np.mean([x.var(axis=0) for x in centred.values()], axis=0), kind="stable")[:_GENES]
    unit = {name: _unit(x[:, telling]) for name, x in centred.items()}
    group: dict[str, NDArray[np.int64]] = {}
    for _ in range(_ROUNDS):
        for name in sorted(unit, key=lambda name: -len(unit[name])):  # the one with most domains begins
            group.pop(name, None)
            group[name] = _assign(unit[name], *_means(unit, group))
    rows = []
    for name, table in tables.items():
        means, numbers = _means(unit, {other: codes for other, codes in group.items() if other != name})
        agreement = unit[name] @ means.T
        for i, domain in enumerate(table.index):
            place = np.flatnonzero(numbers == group[name][i])
            rows.append((name, str(domain), int(group[name][i]), agreement[i, place[0]] if len(place) else np.nan))
    return pd.DataFrame(rows, columns=["sample", "domain", "group", "correlation"])


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of mean zero and length one: their products are correlations."""
    x = x - x.mean(axis=1, keepdims=True)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny))


def _means(
    unit: Mapping[str, NDArray[np.float64]], group: Mapping[str, NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean profile of every group, and the numbers of the groups."""
    if not group:
        return np.empty((0, next(iter(unit.values())).shape[1])), np.empty(0, dtype=np.int64)
    codes, members = np.concatenate(list(group.values())), np.vstack([unit[name] for name in group])
    numbers = np.unique(codes)
    return _unit(np.array([members[codes == number].mean(axis=0) for number in numbers])), numbers


def _assign(x: NDArray[np.float64], means: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the group of every domain of a sample; those like none become groups of their own."""
    codes = np.full(len(x), -1, dtype=np.int64)
    agreement = x @ means.T
    for row, column in zip(*linear_sum_assignment(-agreement), strict=True):
        if agreement[row, column] >= MIN_CORRELATION:
            codes[row] = numbers[column]
    alone = codes < 0
    codes[alone] = int(numbers.max(initial=-1)) + 1 + np.arange(alone.sum())
    return codes

"""How much of a sample each domain takes, and whether that differs between conditions, with the sample as the unit."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.spatial import Delaunay, QhullError, cKDTree

from stmfg._core import checks
from stmfg._core.false_discoveries import adjust_p
from stmfg._core.geometry import spacing
from stmfg._core.labels import labels
from stmfg._keys import DOMAIN
from stmfg.errors import InputError, require

_LONG_EDGE: Final = 2.5
_NEIGHBOURS: Final = 6
"""An edge so many times as long as the distance to so many-th neighbour spans a hole, or runs around the tissue."""
_LEVEL: Final = 0.95
_MEASURES: Final = ("proportion", "area")
_NO_EXCESS: Final = 1e-6  # variances whose logarithms vary by less than that beyond chance are taken as one


def composition(
    adata: AnnData, *, sample_key: str, key: str = DOMAIN, microns_per_unit: float | None = None
) -> pd.DataFrame:
    """Count spots and measure the area of every domain in every sample.

    The area is that of the triangles between neighbouring spots (Delaunay), a third of each to each of its corners,
    without those that span a hole. Every spot stands for the tissue around it, so that crowded cells take no more
    area than sparse ones; a spot at the border stands for about half of what others do.

    Parameters
    ----------
    adata
        Annotated data; in the joint result of several samples a domain means the same in all of them.
    sample_key, key
        Columns of ``obs`` with the sample and the domains. Spots without a domain count neither as spots nor as area.
    microns_per_unit
        Micrometres in a unit of ``obsm["spatial"]``.

    Returns
    -------
    One row for each sample and domain, also those with no spot: ``sample``, ``domain``, ``spots``, ``proportion`` of
    the sample's spots, and ``area`` in squared spot spacings of that sample, or in square micrometres with
    ``microns_per_unit``; missing where all spots of a sample lie on one line.

    Raises
    ------
    InputError
        If a column is missing, a spot has no sample, or a sample no spot with a domain.
    """
    if microns_per_unit is not None and not 0 < microns_per_unit < np.inf:
        raise InputError(f"microns_per_unit is {microns_per_unit}; give the micrometres in a unit of obsm['spatial']")
    spots, area = _spots(adata, sample_key, key), _area(adata, sample_key, key, microns_per_unit)
    share = spots.div(spots.sum(axis=1), axis=0)
    parts = {"spots": spots, "proportion": share, "area": area}
    return pd.DataFrame({name: table.stack(future_stack=True) for name, table in parts.items()}).reset_index()


def _spots(adata: AnnData, sample_key: str, key: str) -> pd.DataFrame:
    """Return how many spots of each sample (rows) lie in each domain (columns)."""
    domains = labels(adata, key)
    table = pd.crosstab(_names(adata, sample_key, "sample"), domains, dropna=False)
    table = table.reindex(columns=domains.categories, fill_value=0).rename_axis(index="sample", columns="domain")
    empty = table.index[table.sum(axis=1) == 0]
    if len(empty):
        raise InputError(f"sample {empty[0]!r} has no spot with a domain in obs[{key!r}]; leave it out")
    return table


def _area(adata: AnnData, sample_key: str, key: str, microns_per_unit: float | None) -> pd.DataFrame:
    """Return the area of each domain (columns) in each sample (rows), in squared spacings or micrometres."""
    domains, samples = labels(adata, key), _names(adata, sample_key, "sample")
    xy = checks.coordinates(adata)[:, :2]
    rows = {}
    for sample in np.unique(samples):
        places, codes = xy[samples == sample], domains.codes[samples == sample]
        areas = _areas(places * (1 / spacing(places) if microns_per_unit is None else microns_per_unit))
        rows[sample] = np.bincount(codes[codes >= 0], weights=areas[codes >= 0], minlength=len(domains.categories))
    table = pd.DataFrame.from_dict(rows, orient="index", columns=domains.categories)
    return table.rename_axis(index="sample", columns="domain")


def _names(adata: AnnData, key: str, role: str) -> NDArray[np.str_]:
    """Return the sample, condition or donor of every spot."""
    column = require(adata, "obs", key, f"name the column of obs that holds the {role}")
    missing = int(column.isna().sum())
    if missing:
        raise InputError(f"obs[{key!r}] is missing for {missing} of {adata.n_obs} spots; give every spot its {role}")
    return np.asarray(column).astype(str)


def _areas(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area that each point (n, 2) stands for; NaN where they have none."""
    try:
        corners = Delaunay(xy).simplices
    except (QhullError, ValueError):
        return np.full(len(xy), np.nan)
    a, b, c = (xy[corners[:, i]] for i in range(3))
    (x1, y1), (x2, y2) = (b - a).T, (c - a).T
    area = np.abs(x1 * y2 - y1 * x2) / 2
    edge = np.max([np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    reach = cKDTree(xy).query(xy, min(_NEIGHBOURS + 1, len(xy)))[0][:, -1]
    kept = edge <= _LONG_EDGE * np.median(reach[corners], axis=1)
    return np.bincount(corners[kept].ravel(), np.repeat(area[kept] / 3, 3), minlength=len(xy)).astype(np.float64)


def abundance(
    adata: AnnData,
    *,
    sample_key: str,
    condition_key: str,
    donor_key: str | None = None,
    reference: str | None = None,
    measure: str = "proportion",
    key: str = DOMAIN,
) -> pd.DataFrame:
    """Test whether domains take more or less of the tissue in one condition than in another.

    Spots of one sample are not independent, samples are: each counts once. Shares are compared as log odds (half a
    spot added to both sides), areas as logarithms (half a spot added), by a linear model of the condition. The
    variances of the domains are moderated, that is, drawn towards what they have in common, since each is estimated
    from few samples; this is the test of propeller (Phipson et al. 2022) with limma's moderation (Smyth 2004). The
    degrees of freedom are at most those of all domains but one together, since shares sum to one. P-values are
    adjusted after Benjamini and Hochberg over the whole table.

    Domains must mean the same in all samples: use the joint result of several samples, or labels carried over from one
    to the others. Shares sum to one: where a domain grows, the others shrink without having changed themselves; compare
    ``measure="area"``.

    Parameters
    ----------
    adata
        Annotated data of all samples, or of the part of the tissue to be compared.
    sample_key, condition_key, key
        Columns of ``obs`` with the sample, its condition, and the domains.
    donor_key
        Column of ``obs`` with the donor. Samples of one donor in one condition are averaged first, since they repeat
        each other. Where a donor has several conditions, they are compared within the donor, and donors with one
        condition then add nothing.
    reference
        Condition the others are compared with; by default the first one, in the order of the categories or the
        alphabet.
    measure
        ``"proportion"`` or ``"area"``.

    Returns
    -------
    One row for each other condition and domain: ``condition``, ``reference``, ``domain``; ``n`` and ``n_reference``,
    how many samples or donors; ``mean`` and ``mean_reference`` of the measure (areas in squared spot spacings);
    ``effect``, the difference of log odds or of log areas (natural, 0 is none), with its 95 % confidence interval
    ``ci_low`` to ``ci_high``; ``t``, ``df``, ``p``, ``p_adjusted``.

    Raises
    ------
    InputError
        If a column is missing, a sample has two conditions or donors, there is no second condition, a condition has
        fewer than two samples (donors), or donors and conditions cannot be told apart.

    References
    ----------
    Phipson et al. (2022), propeller, Bioinformatics 38, 4720-4726. Smyth (2004), Linear models and empirical Bayes
    methods, Statistical Applications in Genetics and Molecular Biology 3, 3.
    """
    if measure not in _MEASURES:
        raise InputError(f"measure is {measure!r}; it must be one of {', '.join(_MEASURES)}")
    spots = _spots(adata, sample_key, key)
    units = _units(adata, sample_key, condition_key, donor_key)
    conditions = _conditions(adata, condition_key, reference)
    if spots.shape[1] < 2:
        raise InputError(f"obs[{key!r}] has one domain only, at least two are needed to compare")
    total = spots.sum(axis=1)
    if measure == "proportion":
        level = spots.div(total, axis=0)
        rest = spots.rsub(total, axis=0)
        response = ((spots + 0.5) / (rest + 0.5)).map(np.log)
    else:
        level = _area(adata, sample_key, key, None)
        response = level.add(level.sum(axis=1) / total / 2, axis=0).map(np.log)
        if response.isna().any(axis=None):
            raise InputError("a sample has no area, all its spots lie on one line; leave it out or compare proportions")
    groups = [units["donor"], units["condition"]]
    response = response.loc[units.index].groupby(groups, sort=False).mean()
    level = level.loc[units.index].groupby(groups, sort=False).mean()
    condition = response.index.get_level_values("condition").to_numpy()
    numbers = {name: int((condition == name).sum()) for name in conditions}
    for name, number in numbers.items():
        if number < 2:
            units_had = f"{number} {'sample' if donor_key is None else 'donor'}{'' if number == 1 else 's'}"
            raise InputError(f"condition {name!r} has {units_had}; at least 2 are needed to tell chance from effect")
    donors, first = response.index.get_level_values("donor").to_numpy(), conditions[0]
    means = {name: level.to_numpy()[condition == name].mean(axis=0) for name in conditions}
    rows = [
        pd.DataFrame(
            {"condition": name, "reference": first, "domain": list(response.columns)}
            | {"n": numbers[name], "n_reference": numbers[first]}
            | {"mean": means[name], "mean_reference": means[first]}
            | fit
        )
        for name, fit in _compare(response.to_numpy(), condition, donors, conditions).items()
    ]
    result = pd.concat(rows, ignore_index=True)
    return result.assign(p_adjusted=adjust_p(result["p"].to_numpy()))


def _units(adata: AnnData, sample_key: str, condition_key: str, donor_key: str | None) -> pd.DataFrame:
    """Return condition and donor of every sample; without donors every sample is its own."""
    names = {"sample": sample_key, "condition": condition_key} | ({} if donor_key is None else {"donor": donor_key})
    table = pd.DataFrame({name: _names(adata, column, name) for name, column in names.items()}).drop_duplicates()
    for name in list(names)[1:]:
        several = table[["sample", name]].drop_duplicates()["sample"]
        if several.duplicated().any():
            sample, key = several[several.duplicated()].iloc[0], names[name]
            raise InputError(f"sample {sample!r} has more than one {name} in obs[{key!r}]; give each sample one")
    return table.assign(donor=table["donor" if donor_key else "sample"]).set_index("sample")


def _conditions(adata: AnnData, key: str, reference: str | None) -> list[str]:
    """Return the conditions, the reference first."""
    names = [str(name) for name in labels(adata, key).categories]
    if reference is not None and reference not in names:
        raise InputError(f"reference is {reference!r}; the conditions in obs[{key!r}] are {', '.join(names)}")
    if len(names) < 2:
        raise InputError(f"obs[{key!r}] has one condition only ({names[0]!r}); at least two are needed to compare")
    first = names[0] if reference is None else reference
    return [first, *(name for name in names if name != first)]


def _compare(
    y: NDArray[np.float64], condition: NDArray[Any], donor: NDArray[Any], names: list[str]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Compare every condition with the first: moderated t-tests of a linear model of y (units, domains)."""
    design = (condition[:, None] == np.array(names, dtype=object)).astype(float)
    if len(set(donor)) < len(donor):  # some donors have several conditions
        design = np.hstack([design, (donor[:, None] == np.unique(donor)).astype(float)])
    inverse = np.linalg.pinv(design)
    df = len(y) - int(np.linalg.matrix_rank(design))
    if df < 1:
        raise InputError("there are too few samples to tell donors, conditions and chance apart; give more samples")
    coefficients = inverse @ y
    variance = ((y - design @ coefficients) ** 2).sum(axis=0) / df
    prior_df, prior = moderation(variance, df)
    total = min(prior_df + df, (y.shape[1] - 1) * df)
    pooled = np.full_like(variance, prior)
    if np.isfinite(prior_df):
        pooled = (df * variance + prior_df * prior) / (df + prior_df)
    covariance = inverse @ inverse.T  # the pseudoinverse of design.T @ design
    rows = {}
    for i, name in enumerate(names[1:], 1):
        contrast = np.zeros(design.shape[1])
        contrast[i], contrast[0] = 1.0, -1.0
        if not np.allclose(contrast @ inverse @ design, contrast, atol=1e-8):
            raise InputError(
                f"no donor links condition {name!r} to {names[0]!r}; leave donors of several conditions out"
            )
        effect, error = contrast @ coefficients, np.sqrt(contrast @ covariance @ contrast * pooled)
        t = effect / np.maximum(error, np.finfo(float).tiny)
        margin = special.stdtrit(total, (1 + _LEVEL) / 2) * error
        p = 2 * special.stdtr(total, -np.abs(t))
        rows[name] = {
            "effect": effect, "ci_low": effect - margin, "ci_high": effect + margin,
            "t": t, "df": np.full_like(t, total), "p": p,
        }  # fmt: skip
    return rows


def moderation(variance: NDArray[np.float64], df: int) -> tuple[float, float]:
    """Return degrees of freedom and value of the common variance of residual variances (n,) with ``df`` each.

    How much, and towards what, they are drawn (Smyth 2004, section 6.2). Infinite where they differ no more than by
    chance, and the value is then their mean.
    """
    # A variance of zero has no logarithm; limma raises it so far, too.
    logs = np.log(np.maximum(variance, 1e-5 * np.median(variance) + np.finfo(float).tiny))
    centred = logs - special.digamma(df / 2) + np.log(df / 2)
    excess = float(centred.var(ddof=1) - special.polygamma(1, df / 2))
    if excess < _NO_EXCESS:
        return np.inf, float(variance.mean())
    half = np.exp(optimize.brentq(lambda x: special.polygamma(1, np.exp(x)) - excess, -20, 20))
    return float(2 * half), float(np.exp(centred.mean() + special.digamma(half) - np.log(half)))

"""Edits of the domains by hand: other names and colours, joints and parts. Users call it in ``tl``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stmfg._core.labels import colours, labels
from stmfg._core.palette import palette
from stmfg._keys import ADJACENCY, COLORS, DOMAIN, HALF, LEAF, MARKERS, UNS
from stmfg.errors import InputError
from stmfg.tl._levels import leaf_codes, name_domains, read_tree

Edits = Mapping[str, Any] | str | Path


def rename(adata: AnnData, names: Edits, *, key: str = DOMAIN, copy: bool = False) -> AnnData | None:
    """Give domains other names, or make all the edits of a file of the report.

    Parameters
    ----------
    adata
        Result of :func:`domains`.
    names
        New names by old ones, such as ``{"3": "Layer 1"}``; or the file that the report saves (JSON), whose joints,
        names and colours are applied in this order.
    key
        Column of ``obs`` with the domains.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Changed: ``obs[key]``; the names in the tree and in ``obs["stmfg_leaf"]``, where
    ``key`` is ``"stmfg_domain"``, so that a part of ``"Layer 1"`` is ``"Layer 1.1"``; tables of markers and contacts.

    Raises
    ------
    InputError
        If a domain is not there, or names are empty or not unique.
    """
    adata = adata.copy() if copy else adata
    if not isinstance(names, Mapping) or "stmfg_edits" in names:
        edits = _read_edits(names)
        edited = adata.copy()  # all edits or none
        for group in edits.get("merge", []):
            merge(edited, group, key=key)
        rename(edited, edits.get("rename", {}), key=key)
        recolour(edited, edits.get("colors", {}), key=key)
        adata.obs, adata.uns = edited.obs, edited.uns
        return adata if copy else None
    column = labels(adata, key)
    _require_domains(column, names, key)
    new = _unique([names.get(name, name) for name in column.categories])
    shades = list(colours(adata, key).values())
    _write(adata, column.rename_categories(dict(zip(column.categories, new, strict=True))), shades, key)
    if key == DOMAIN:
        _replace_names(adata, names)
        if "tree" in adata.uns.get(UNS, {}) and LEAF in adata.obs:
            tree = read_tree(adata)
            leaves, renamed = leaf_codes(adata, tree), tree.rename(names)
            categories = pd.Index(_unique(list(renamed.names[:, -1])))
            adata.obs[LEAF] = pd.Categorical.from_codes(leaves, categories=categories)
            adata.uns[UNS] = adata.uns[UNS] | {"tree": renamed.to_dict()}
    return adata if copy else None


def merge(
    adata: AnnData, domains: Sequence[str], *, name: str | None = None, key: str = DOMAIN, copy: bool = False
) -> AnnData | None:
    """Join domains into one.

    Parameters
    ----------
    adata, key, copy
        As in :func:`rename`.
    domains
        Two or more names.
    name
        Name of the joint; ``"2+5"`` of ``"2"`` and ``"5"`` when not given.

    Returns
    -------
    ``None``, or the copy. Changed: ``obs[key]``, in which the joint takes the place of the first and the colour of the
    largest. Tables of markers and contacts, which no longer hold, are removed. The confidence stays: that of the joint
    is at least as high.

    Raises
    ------
    InputError
        If a domain is not there, or the name is another domain's.
    """
    adata = adata.copy() if copy else adata
    column = labels(adata, key)
    _require_domains(column, domains, key)
    if isinstance(domains, str) or len(set(domains)) < 2:
        raise InputError(f"there is nothing to join in {domains!r}; give two or more domains, as ['2', '5']")
    among = [category for category in column.categories if category in domains]
    joint = "+".join(among) if name is None else name
    kept = _unique([joint if old == among[0] else old for old in column.categories if old not in among[1:]])
    shades = colours(adata, key)
    shades[joint] = shades[max(among, key=column.value_counts().__getitem__)]
    names = dict.fromkeys(among, joint)
    joined = pd.Categorical([names.get(value, value) for value in column.astype(object)], categories=kept)
    _write(adata, joined, [shades[category] for category in kept], key)
    _forget_tables(adata, key)
    if key == DOMAIN:
        _replace_names(adata, names)
    return adata if copy else None


def split(adata: AnnData, domain: str, *, key: str = DOMAIN, copy: bool = False) -> AnnData | None:
    """Split a domain as the tree does: a joint into what was joined, a domain into its parts ``"3.1"`` and ``"3.2"``.

    Parameters
    ----------
    adata, key, copy
        As in :func:`rename`.
    domain
        Name of the domain.

    Returns
    -------
    ``None``, or the copy. Changed as by :func:`merge`; the larger part keeps the colour.

    Raises
    ------
    InputError
        If the domain is not there, or the tree does not split it.
    """
    tree = read_tree(adata)
    column = labels(adata, key)
    _require_domains(column, [domain], key)
    codes = leaf_codes(adata, tree)
    inside = np.asarray(column == domain)
    leaves = np.unique(codes[inside])
    level = next((level for level in tree.levels if len(set(tree.names_at(level)[leaves])) > 1), None)
    if level is None:
        raise InputError(
            f"the tree ends at {tree.levels[-1]} domains and does not split {domain!r}; "
            f"stmfg.tl.subdomains(adata, domain={domain!r}, n_domains=2) clusters it anew"
        )
    # A joint that was made by hand may be in several domains of that level, each with others beside.
    of_leaves = tree.names_at(level).copy()
    if level < tree.anchor:
        anchors = tree.names_at(tree.anchor)
        for part in set(of_leaves[leaves]):
            among = leaves[of_leaves[leaves] == part]
            of_leaves[among] = "+".join(dict.fromkeys(anchors[among]))
    adata = adata.copy() if copy else adata
    values = np.asarray(column.astype(object))
    values[inside] = of_leaves[codes[inside]]
    parts = pd.Series(values[inside]).value_counts().index.tolist()
    names = [new for old in column.categories for new in (parts if old == domain else [old])]
    shades = colours(adata, key)
    free = [shade for shade in palette(len(names) + len(shades)) if shade not in shades.values()]
    shades |= {part: free[i - 1] if i else shades[domain] for i, part in enumerate(parts)}
    _write(adata, pd.Categorical(values, categories=_unique(names)), [shades[name] for name in names], key)
    _forget_tables(adata, key, HALF)
    if key == DOMAIN and level <= tree.anchor:
        name_domains(adata, dict(zip(tree.names_at(tree.anchor), of_leaves, strict=True)), domain)
    return adata if copy else None


def recolour(adata: AnnData, colors: Mapping[str, str], *, key: str = DOMAIN, copy: bool = False) -> AnnData | None:
    """Give domains other colours.

    Parameters
    ----------
    adata, key, copy
        As in :func:`rename`.
    colors
        ``"#rrggbb"`` by the name of the domain.

    Returns
    -------
    ``None``, or the copy. Changed: ``uns["stmfg_domain_colors"]``, where scanpy and squidpy look for them.

    Raises
    ------
    InputError
        If a domain is not there, or a colour is not of that form.
    """
    adata = adata.copy() if copy else adata
    column = labels(adata, key)
    _require_domains(column, colors, key)
    for name, shade in colors.items():
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", str(shade)):
            raise InputError(f"the colour of {name!r} is {shade!r}, expected one such as '#0072b2'")
    shades = colours(adata, key) | {name: shade.lower() for name, shade in colors.items()}
    adata.uns[f"{key}{COLORS}"] = np.array(list(shades.values()), dtype=object)
    return adata if copy else None


def _require_domains(column: pd.Categorical[Any], names: Iterable[str], key: str) -> None:
    for name in names:
        if name not in column.categories:
            raise InputError(f"obs[{key!r}] has no domain {name!r}; name one of {', '.join(column.categories)}")


def _unique(names: list[str]) -> list[str]:
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"the name {name!r} cannot be a domain's; give a text that is not empty")
        if names.count(name) > 1:
            raise InputError(f"two domains would be named {name!r}; give each its own name, or merge them")
    return names


def _write(adata: AnnData, column: pd.Categorical[Any], shades: list[str], key: str) -> None:
    adata.obs[key] = column
    adata.uns[f"{key}{COLORS}"] = np.array(shades, dtype=object)


def _replace_names(adata: AnnData, names: Mapping[str, str]) -> None:
    """Replace names of domains in what else names them: the model, domains of one half of the molecules, tables."""
    name_domains(adata, names)
    if HALF in adata.obs:
        column = labels(adata, HALF)
        categories = list(dict.fromkeys(names.get(str(name), str(name)) for name in column.categories))
        values = [names.get(value, value) for value in column.astype(object)]
        adata.obs[HALF] = pd.Categorical(values, categories=categories)
        halves = adata.uns.get(UNS, {}).get("halves", {})
        if "domains" in halves.get(DOMAIN, {}):
            renamed = np.array([names.get(name, name) for name in map(str, halves[DOMAIN]["domains"])], dtype=object)
            halves = {**halves, DOMAIN: {**halves[DOMAIN], "domains": renamed}}
            adata.uns[UNS] = adata.uns[UNS] | {"halves": halves}
    for table, columns in ((MARKERS, ["domain", "next_domain"]), (ADJACENCY, ["domain", "neighbor"])):
        if table in adata.uns:
            adata.uns[table] = adata.uns[table].replace({key: dict(names) for key in columns})


def _forget_tables(adata: AnnData, key: str, *columns: str) -> None:
    """Remove what was computed of domains that are no more, and columns of ``obs``."""
    if key == DOMAIN:
        for name in (MARKERS, ADJACENCY):
            adata.uns.pop(name, None)
        adata.obs.drop(columns=list(columns), errors="ignore", inplace=True)


def _read_edits(edits: Edits) -> Mapping[str, Any]:
    """Read the edits of a report, and say in one line what is wrong with them."""
    if not isinstance(edits, Mapping):
        path = Path(edits).expanduser()
        try:
            edits = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} holds no edits ({error}); give the file that the report saves") from error
    kinds: dict[str, type] = {"merge": list, "rename": dict, "colors": dict}
    if not isinstance(edits, Mapping) or edits.get("stmfg_edits") != 1:
        raise InputError("these are no edits of a report of this version; save them from the report again")
    for name, kind in kinds.items():
        if not isinstance(edits.get(name, kind()), kind):
            raise InputError(f"{name!r} of the edits is {edits[name]!r}, expected a {kind.__name__}")
    return edits

"""Levels of the tree of domains: which there are, and the domains at one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stmfg._core.labels import colours
from stmfg._core.palette import palette
from stmfg._keys import COLORS, DOMAIN, LEAF, UNS
from stmfg.errors import InputError, require
from stmfg.model.transfer import DomainMap
from stmfg.model.tree import Tree

_WITH_TREE = "run stmfg.tl.domains(adata, finest_level=15)"


def levels(adata: AnnData) -> pd.DataFrame:
    """List the levels of the tree of domains, and what is split at each.

    Parameters
    ----------
    adata
        Result of :func:`domains`.

    Returns
    -------
    Table with one row for each number of domains, the index ``n_domains``: ``split``, the domain of the level before
    that is split, ``into``, its two parts, larger first, ``support``, how reproducible that split is: the mean over the
    clusterings at that number of how well each tells the parts apart, 1 where all do, 0 where none does better than
    chance; ``is_anchor``, whether it is the level that was found by the vote.
    """
    tree = read_tree(adata)
    sizes = np.bincount(leaf_codes(adata, tree), minlength=len(tree.names))
    rows = []
    before = np.full(len(tree.names), "all", dtype=object)
    for level, support in zip(tree.levels, tree.support, strict=True):
        names = tree.names_at(level)
        size = pd.Series(sizes).groupby(names).sum()
        split = next(name for name in dict.fromkeys(before) if len(set(names[before == name])) > 1)
        parts = sorted(set(names[before == split]), key=lambda name: (-size[name], name))
        rows.append((split, " | ".join(parts), support, level == tree.anchor))
        before = names
    index = pd.Index(tree.levels, name="n_domains")
    return pd.DataFrame(rows, columns=["split", "into", "support", "is_anchor"], index=index)


def cut(adata: AnnData, n_domains: int, *, key_added: str | None = None) -> pd.Series[Any]:
    """Return the domains at a level of the tree.

    Parameters
    ----------
    adata
        Result of :func:`domains`.
    n_domains
        The level, see :func:`levels`.
    key_added
        Also write them to this column of ``obs``, with colours where scanpy and squidpy look for them: parts of a
        domain keep its colour, the larger one, or get a new one.

    Returns
    -------
    Names, categorical, indexed as ``obs``. Where a domain was split, ``"3"`` is ``"3.1"`` and ``"3.2"``; where two were
    joined, ``"2"`` and ``"5"`` are ``"2+5"``.

    Raises
    ------
    InputError
        If the tree has no such level.
    """
    tree = read_tree(adata)
    names = tree.names_at(n_domains)
    categories = list(dict.fromkeys(names))
    series = pd.Series(
        pd.Categorical(names[leaf_codes(adata, tree)], categories=categories), index=adata.obs_names, name=DOMAIN
    )
    if key_added is not None:
        if key_added == DOMAIN and n_domains < tree.anchor:
            name_domains(adata, dict(zip(tree.names_at(tree.anchor), names, strict=True)))
        adata.obs[key_added] = series
        shades = level_colours(tree, leaf_codes(adata, tree), colours(adata), n_domains)
        adata.uns[f"{key_added}{COLORS}"] = np.array([shades[name] for name in categories], dtype=object)
    return series


def level_colours(tree: Tree, codes: NDArray[np.int64], anchor: Mapping[str, str], level: int) -> dict[str, str]:
    """Return colours of the domains at a level, by name: a joint takes that of its largest part, a part its domain's.

    `codes` are the leaves of the observations, `anchor` colours at the level of the vote, else the palette's.
    """
    sizes = np.bincount(codes, minlength=len(tree.names))
    before = tree.names_at(tree.anchor)
    numbered = dict(zip(dict.fromkeys(before), palette(tree.anchor), strict=True))
    shades = {name: anchor.get(name, shade) for name, shade in numbered.items()}
    if level < tree.anchor:
        size = pd.Series(sizes).groupby(before).sum()
        names = tree.names_at(level)
        return {
            name: shades[size[list(dict.fromkeys(before[names == name]))].idxmax()] for name in dict.fromkeys(names)
        }
    for number in range(tree.anchor + 1, level + 1):
        names = tree.names_at(number)
        size = pd.Series(sizes).groupby(names).sum()
        new = sorted(set(names) - set(before), key=lambda name: -size[name])
        shades |= {new[0]: shades[before[names == new[0]][0]], new[1]: palette(number)[-1]}
        before = names
    return {name: shades[name] for name in dict.fromkeys(before)}


def name_domains(adata: AnnData, names: Mapping[str, str], joint: str | None = None) -> None:
    """Give the domains that :func:`apply` finds elsewhere other names, by those they have; the rest stay as they are.

    Those of a ``joint`` get them by the names that they have in the tree.
    """
    record = adata.uns.get(UNS, {})
    if "domain_map" in record:
        domain_map = DomainMap.of(record["domain_map"])
        before = list(domain_map.names or domain_map.categories)
        keys = before
        if joint is not None:
            tree = read_tree(adata)
            anchors = dict.fromkeys(tree.names_at(tree.anchor))
            keys = [anchor if name == joint else "" for name, anchor in zip(before, anchors, strict=True)]
        after = [names.get(key, name) for key, name in zip(keys, before, strict=True)]
        changed = {**record["domain_map"], "names": np.array(after, dtype=object)}
        adata.uns[UNS] = record | {"domain_map": changed}


def read_tree(adata: AnnData) -> Tree:
    record = require(adata, "uns", UNS, _WITH_TREE)
    if "tree" not in record or LEAF not in adata.obs:
        raise InputError(f"the result has no tree of domains; {_WITH_TREE}")
    return Tree.of(record["tree"])


def leaf_codes(adata: AnnData, tree: Tree) -> NDArray[np.int64]:
    """Return the row of the tree that each observation is in, (n_obs,)."""
    codes = pd.Index(tree.names[:, -1]).get_indexer(adata.obs[LEAF].astype(str))
    if (codes < 0).any():
        raise InputError(f"obs[{LEAF!r}] names domains that are not in the tree; {_WITH_TREE}")
    return np.asarray(codes, dtype=np.int64)

"""Levels of the tree of domains, and how their number was chosen, as the page shows them; nothing where a result has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stmfg._keys import UNS
from stmfg.report._map_data import pack_bytes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

_LEAF = "stmfg_leaf"


def pack_levels(adata: AnnData, domains: pd.Categorical[Any], chosen: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return the finest domain of every chosen spot and its name at every level, or None where there is no tree.

    A tree that does not agree with the domains, which were changed since, is left out.
    """
    tree = adata.uns.get(UNS, {}).get("tree")
    if not isinstance(tree, Mapping) or _LEAF not in adata.obs:
        return None
    leaves = [str(leaf) for leaf in np.asarray(tree["leaves"])]
    names = np.asarray(tree["names"]).astype(str).reshape(len(leaves), -1)
    place = {leaf: i for i, leaf in enumerate(leaves)}
    codes = np.array([place.get(str(leaf), -1) for leaf in adata.obs[_LEAF]])
    numbers = [int(n) for n in np.asarray(tree["levels"])]
    given = np.asarray(domains.astype(object))
    known = codes >= 0
    fits = [bool((names[codes[known], i] == given[known]).all()) for i in range(len(numbers))]
    if len(numbers) < 2 or not known.any() or True not in fits:
        return None
    order = _order_leaves(names, fits.index(True), [str(name) for name in domains.categories])
    rank = np.empty(len(leaves), dtype=np.int64)
    rank[order] = np.arange(len(leaves))
    support = np.asarray(tree.get("support", []), dtype=np.float64)
    return {
        "leaf": pack_bytes(np.where(known, rank[codes], len(leaves))[chosen].astype("<u2")),
        "numbers": numbers,
        "anchor": fits.index(True),
        "names": names[order].tolist(),
        "support": [round(float(s), 3) if np.isfinite(s) else None for s in support] if support.any() else None,
    }


def _order_leaves(names: NDArray[np.str_], anchor: int, domains: list[str]) -> NDArray[np.int64]:
    """Put leaves in the order of the domains they belong to, so that every level is listed in that order."""
    place = {name: i for i, name in enumerate(domains)}
    return np.array(sorted(range(len(names)), key=lambda i: (place.get(names[i, anchor], len(domains)), names[i, -1])))


def describe_number(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the number of domains was chosen: a sentence, and a curve as points of a chart 100 wide and 40 high."""
    curve = record.get("n_domains")
    if not isinstance(curve, Mapping):
        return None
    numbers, scores = (np.asarray(curve.get(key, []), dtype=np.float64).ravel() for key in ("n", "score"))
    usable = np.isfinite(scores) if len(scores) == len(numbers) else np.zeros(0, dtype=bool)
    points = []
    if usable.sum() > 1:
        n, score = numbers[usable], scores[usable]
        x = 4 + 92 * (n - n.min()) / max(float(np.ptp(n)), 1.0)
        y = 36 - 32 * (score - score.min()) / max(float(np.ptp(score)), np.finfo(float).tiny)
        rivals = {int(r) for r in np.asarray(curve.get("rivals", []), dtype=np.float64).ravel()}
        points = [
            {"x": float(a), "y": float(b), "n": int(k), "score": float(s), "rival": int(k) in rivals}
            for a, b, k, s in zip(x, y, n, score, strict=True)
        ]
    return {"sentence": str(curve.get("sentence") or ""), "chosen": int(curve["chosen"]), "points": points}

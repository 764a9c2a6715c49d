"""Levels of the tree of domains, and how their number was chosen, as the page shows them; None where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stmfg._core.labels import colours
from stmfg._keys import LEAF, UNS
from stmfg.errors import InputError
from stmfg.report._map_data import pack_bytes
from stmfg.tl._levels import leaf_codes, level_colours, read_tree


def pack_levels(adata: AnnData, domains: pd.Categorical[Any], chosen: NDArray[np.int64]) -> dict[str, Any] | None:
    """Return the finest domain of every chosen spot and its name at every level, or None where there is no tree.

    A tree that does not agree with the domains, which were changed since, is left out.
    """
    if not isinstance(adata.uns.get(UNS), Mapping) or "tree" not in adata.uns[UNS] or LEAF not in adata.obs:
        return None
    try:
        tree = read_tree(adata)
        codes = leaf_codes(adata, tree)
    except InputError:
        return None
    given = np.asarray(domains.astype(object))
    names = tree.names.astype(str)
    fits = [bool((names[codes, i] == given).all()) for i in range(len(tree.levels))]
    if len(tree.levels) < 2 or True not in fits:
        return None
    # In the order of the domains that they belong to, so that every level is listed in that order.
    order = np.lexsort([names[:, -1], domains.categories.get_indexer(pd.Index(names[:, fits.index(True)]))])
    shades = colours(adata)
    for level in tree.levels[::-1]:
        shades = level_colours(tree, codes, shades, int(level)) | shades
    return {
        "leaf": pack_bytes(np.argsort(order)[codes][chosen].astype("<u2")),
        "numbers": [int(n) for n in tree.levels],
        "anchor": fits.index(True),
        "names": names[order].tolist(),
        "support": [round(float(s), 3) if np.isfinite(s) else None for s in tree.support],
        "colours": shades,
    }


def describe_number(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the number of domains was chosen: a sentence, and points of a chart 100 wide and 40 high."""
    curve = record.get("n_domains")
    if not isinstance(curve, Mapping) or "score" not in curve:
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

"""What the second half of the page shows: weights of views, curves of training, tables of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from stmfg._keys import VIEW_WEIGHTS
from stmfg.pl._charts import mean_view_weights
from stmfg.report._sentences import describe_stability

_CURVE_POINTS = 300
_ALIKE = 0.1  # the view that counts most is named where it leads by so much
_EQUAL = 0.05  # weights of views that differ by less say nothing


def average_view_weights(adata: AnnData, domains: pd.Categorical[Any]) -> dict[str, Any] | None:
    """Return the mean weights as layers of (view, weight) for each domain; None where nothing was learnt."""
    if VIEW_WEIGHTS not in adata.obsm:
        return None
    table = mean_view_weights(adata, domains)
    layers: dict[str, list[tuple[str, int]]] = {}
    for i, name in enumerate(table.columns):
        layer, _, view = str(name).rpartition(": ")
        layers.setdefault(layer or "all layers", []).append((view, i))
    views = list(dict.fromkeys(view for columns in layers.values() for view, _ in columns))
    values = table.to_numpy()
    spans = [np.ptp(values[:, [i for _, i in columns]], axis=1) for columns in layers.values()]
    if np.nanmax(spans) < _EQUAL:  # of one view, or not trained: equal weights would look like a finding
        return None
    rows = [[[(views.index(v), float(row[i])) for v, i in columns] for columns in layers.values()] for row in values]
    leading = []
    for layer, columns in layers.items():
        shares = np.nanmean(values[:, [i for _, i in columns]], axis=0)
        second, first = np.sort(shares)[-2:]
        view = columns[int(shares.argmax())][0] if first - second >= _ALIKE else ""
        leading.append((layer, view, float(first)))
    by_view = np.array(
        [[np.mean([w for layer in row for v, w in layer if v == view]) for view in range(len(views))] for row in rows]
    )
    return {
        "layers": list(layers),
        "views": views,
        "rows": rows,
        "mean": np.nanmean(by_view, axis=0).tolist(),
        "leading": leading,
        "most": [(int(i), float(by_view[i, v])) for v, i in enumerate(np.nanargmax(by_view, axis=0))],
    }


def draw_curves(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the loss terms as points of small charts, 100 wide and 40 high."""
    curves = []
    for name, values in history.items():
        y = np.asarray(values, dtype=np.float64).ravel()
        if len(y) == 0 or not np.isfinite(y).all() or not y.any():  # a term of weight zero is zero throughout
            continue
        kept = np.unique(np.linspace(0, len(y) - 1, min(len(y), _CURVE_POINTS)).round().astype(int))
        x = kept * (100 / max(len(y) - 1, 1))
        height = 38 - 36 * (y[kept] - y.min()) / max(float(np.ptp(y)), np.finfo(float).tiny)
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, height, strict=True))
        curves.append({"name": str(name), "points": line, "first": y[0], "last": y[-1], "epochs": len(y)})
    return curves


def tabulate_run(run: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return what is known of the run, as names and values under headings."""
    tables = {}
    choice = record.get("n_domains")
    if isinstance(choice, Mapping) and "score" in choice:
        pairs = zip(choice["n"], choice["score"], strict=True)
        tables["Support, by number of domains"] = {str(k): f"{value:.2f}" for k, value in pairs}
    if run.get("stability"):
        tables["Other seeds"] = {"Agreement": describe_stability(run["stability"])}
    return tables | {
        "Options": dict(_flatten(run.get("options", {}))),
        "Parameters": dict(_flatten(run.get("params") or record.get("params") or {})),
        "Versions": dict(_flatten(run.get("versions", {}))),
    }


def _flatten(entries: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every entry of nested mappings with its dotted name."""
    for name, value in entries.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)

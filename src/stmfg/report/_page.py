"""The report: one HTML file that needs nothing else, neither the network nor this package."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgba_array
from numpy.typing import NDArray

from stmfg._core.blocks import subsample
from stmfg._core.checks import library_codes
from stmfg._core.labels import colours, labels
from stmfg._core.palette import EXPRESSION, EXPRESSION_DARK, MISSING
from stmfg._core.spots import spots
from stmfg._keys import CONFIDENCE, EMBEDDING, SPATIAL, SPATIAL_GRAPH, UNS, VIEW_WEIGHTS
from stmfg.pl._charts import counts_or_none, mean_view_weights
from stmfg.pl._maps import CONFIDENCE_MAP, principal_plane
from stmfg.report import _map_data, _stills
from stmfg.report._sentences import UNCERTAIN, describe_stability, list_warnings
from stmfg.report._template import fill_template, write_text
from stmfg.tl import _marker_tests
from stmfg.tl._contacts import count_contacts

if TYPE_CHECKING:
    import os

    from anndata import AnnData

    from stmfg._core.spots import Spots

_CONFIDENCE_STEPS = 10  # of the still picture: few colours make a small file
_COLOUR_STEPS = 256
_MARKERS = 5
_FEW_DOMAINS = 10  # up to here there is room for three markers of each in the dot plot, beyond for two
_MARKER_SPOTS = 5_000  # of a domain
_CURVE_POINTS = 300
_ALIKE = 0.1  # the view that counts most is named where it leads by so much
_EQUAL = 0.005  # weights of views that differ by less are the same


def write(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a result.

    Names of slices, genes and domains come from strangers: all are escaped, and the file forbids itself to run any
    script but its own or to load anything.

    Parameters
    ----------
    adata
        Annotated data as :func:`stmfg.tl.domains` leaves it.
    path
        The HTML file; it appears complete or not at all.
    title
        What the page is called; by default after the library in ``uns["spatial"]`` or the input of the run.
    run
        What ``run.json`` holds: version, input, options, params, versions, stages, history, warnings. What is absent
        is taken from ``uns["stmfg"]``, or left out of the report.
    """
    scripts = ("points.js", "map.js", "report.js")
    write_text(Path(path), fill_template("report.html", scripts, **_content(adata, title, run or {})))


def _content(adata: AnnData, title: str | None, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything the template shows."""
    domains = labels(adata)
    names = [str(c) for c in domains.categories]
    listed = [{"name": name, "colour": shade} for name, shade in zip(names, colours(adata, names), strict=True)]
    record = adata.uns.get(UNS, {})
    options = run.get("options", {})
    library_key = options.get("library_key", record.get("library_key"))
    where = spots(adata, library_key=library_key)
    certain = np.asarray(adata.obs[CONFIDENCE]) if CONFIDENCE in adata.obs else None
    plane = _map_data.scatter(principal_plane(adata.obsm[EMBEDDING])[0]) if EMBEDDING in adata.obsm else None
    graph = adata.obsp.get(SPATIAL_GRAPH)
    chosen = _map_data.choose_spots(adata.n_obs)
    places = _map_data.name_places(where, domains)
    counts = counts_or_none(adata, options.get("layer"))
    markers, depth, genes = None, None, []
    if counts is not None:
        markers, on_map = _rank_markers(counts, domains, np.asarray(adata.var_names), len(chosen))
        depth, expression = _map_data.depth_and_expression(counts, on_map, chosen)
        genes = _map_data.pack_genes([str(adata.var_names[gene]) for gene in on_map], expression)
    drawn = {
        "n": len(chosen),
        "tissue": _map_data.pack_places(where, chosen, places),
        "embedding": None if plane is None else _map_data.pack_places(plane, chosen),
        "codes": _map_data.pack_bytes(np.where(domains.codes < 0, len(names), domains.codes)[chosen].astype("<u2")),
        "confidence": None if certain is None else _map_data.pack_shares(certain[chosen]),
        "genes": genes,
        "names": _map_data.pack_names(adata.obs_names),
        "domains": listed,
        "missing": MISSING,
        "ramps": {
            "confidence": _ramp(CONFIDENCE_MAP),
            "light": _ramp(LinearSegmentedColormap.from_list("light", EXPRESSION)),
            "dark": _ramp(LinearSegmentedColormap.from_list("dark", EXPRESSION_DARK)),
        },
    }
    shades = to_rgba_array([domain["colour"] for domain in listed] + [MISSING])[domains.codes][chosen]
    warnings = [str(w) for w in run.get("warnings", [])]
    more = list_warnings(adata, domains, depth, graph, max(len(where.slices), 1))
    slices = None if library_key is None else library_codes(adata, library_key)
    stages = [dict(stage) for stage in run.get("stages", [])]
    return {
        "title": title or _name_input(adata, run),
        "version": run.get("version") or record.get("version"),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "use_rep": options.get("use_rep", record.get("use_rep")),
        "domains": listed,
        "slices": list(where.slices),
        "sizes": _count_spots(domains, certain),
        "median_confidence": None if certain is None else float(np.median(certain)),
        "uncertain": None if certain is None else float((certain < UNCERTAIN).mean()),
        "threshold": UNCERTAIN,
        "warnings": warnings + [w for w in more if w not in warnings],
        "stills": _draw_stills(
            where.part(chosen),
            plane and plane.part(chosen),
            shades,
            None if certain is None else certain[chosen],
            places,
        ),
        "map": drawn,
        "map_json": htmlsafe_json_dumps(drawn),
        "sampled": len(chosen) < adata.n_obs,
        "neighbours": None if graph is None else _tabulate_contacts(graph, domains, slices),
        "markers": markers,
        "marker_spots": _MARKER_SPOTS,
        "dot_plot": _choose_dots(markers or [], len(names)),
        "weights": _view_weights(adata, domains),
        "curves": _curves(record.get("history") or run.get("history") or {}),
        "stages": stages,
        "seconds": sum(float(stage.get("seconds") or 0.0) for stage in stages),
        "tables": _tables(run, record),
    }


def _name_input(adata: AnnData, run: Mapping[str, Any]) -> str:
    """Return a name for what was analysed: its Space Ranger library, or what it was read from."""
    libraries = adata.uns.get(SPATIAL, {})
    if isinstance(libraries, Mapping) and len(libraries) == 1:
        return str(next(iter(libraries)))
    given = run.get("input") or ""
    if isinstance(given, list):
        return f"{len(given)} slices"
    source = Path(str(given))
    if source.name == "outs":  # what Space Ranger calls every result folder
        source = source.parent
    return source.stem or "tissue"


def _ramp(scale: Colormap) -> list[str]:
    return [to_hex(colour) for colour in scale(np.linspace(0, 1, _COLOUR_STEPS))]


def _draw_stills(
    where: Spots,
    plane: Spots | None,
    shades: NDArray[np.float64],
    certain: NDArray[Any] | None,
    places: list[tuple[float, float, str]],
) -> dict[str, str | None]:
    """Return the pictures that need no script, as far as there is what they show, or None."""
    stills = {"domains": _stills.spots_picture(where, {"facecolor": shades}, names=places)}
    if where.image is not None:
        stills["tissue"] = _stills.tissue_picture(where)
    if certain is not None:
        scale = CONFIDENCE_MAP.resampled(_CONFIDENCE_STEPS)
        paint = {"array": certain, "cmap": scale, "clim": (0.0, 1.0)}
        stills["confidence"] = _stills.spots_picture(where.filled(), paint, _stills.SMALL)
    if plane is not None:
        stills["embedding"] = _stills.spots_picture(plane, {"facecolor": shades}, _stills.SMALL)
    return dict.fromkeys(("tissue", "confidence", "embedding")) | stills


def _count_spots(domains: pd.Categorical[Any], certain: NDArray[Any] | None) -> list[dict[str, Any]]:
    """Return spots, share and median confidence of every domain."""
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    table = pd.DataFrame({"domain": list(domains.categories), "spots": spots, "share": spots / max(spots.sum(), 1)})
    if certain is not None:
        by_domain = pd.Series(certain).groupby(np.asarray(domains.codes)).median()
        table["confidence"] = by_domain.reindex(range(len(table))).to_numpy()
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _tabulate_contacts(
    graph: Any, domains: pd.Categorical[Any], slices: NDArray[Any] | None
) -> list[list[dict[str, Any]]]:
    """Return cells with the share of a domain's neighbours in each, over chance or None, and a tint from -1 to 1."""
    observed, expected = count_contacts(graph, np.asarray(domains.codes), len(domains.categories), slices)
    ends = observed + np.diag(np.diag(observed))  # a pair within a domain has both its ends there
    shares = ends / np.maximum(ends.sum(axis=1, keepdims=True), 1)
    rows = []
    for i, row in enumerate(shares.tolist()):
        cells = []
        for j, share in enumerate(row):
            # Where chance gives less than one pair, the ratio says nothing.
            over = float(observed[i, j] / expected[i, j]) if expected[i, j] >= 1 else None
            tint = 0.0 if over is None else max(-1.0, min(1.0, math.log2(max(over, 0.125)) / 3))
            cells.append({"share": share, "over": over, "tint": tint})
        rows.append(cells)
    return rows


def _rank_markers(
    counts: Any, domains: pd.Categorical[Any], gene_names: NDArray[Any], n_map: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return one row for each marker gene, with its dots over all domains, and the genes of the map, best first.

    ``domain`` and ``rank`` are positions, ``on_map`` the position among the genes of the map or None. Of a large
    domain a sample of spots is enough to rank genes.
    """
    members = [np.flatnonzero(domains.codes == i) for i in range(len(domains.categories))]
    chosen = np.sort(np.concatenate([m[subsample(len(m), _MARKER_SPOTS, 0)] for m in members]))
    if len(chosen) < len(domains):
        counts, domains = counts[chosen], domains[chosen]
    moments = _marker_tests.moments(counts, domains)
    table = _marker_tests.rank(moments, gene_names, _MARKERS)
    table["rank"] = table.groupby("domain").cumcount()
    table["domain"] = pd.Index(moments.domains).get_indexer(pd.Index(table["domain"]))
    best_first = [int(gene) for gene in table.sort_values("rank", kind="stable").index]
    on_map = list(dict.fromkeys(best_first))[: _map_data.count_genes(n_map)]
    relative = moments.log_mean / np.maximum(moments.log_mean.max(axis=0), np.finfo(float).tiny)
    rows: list[dict[str, Any]] = []
    for gene, row in zip(table.index, table.to_dict("records"), strict=True):
        dots = list(zip(moments.share[:, gene].tolist(), relative[:, gene].tolist(), strict=True))
        place = on_map.index(gene) if gene in on_map else None
        rows.append({str(name): value for name, value in row.items()} | {"dots": dots, "on_map": place})
    return rows, on_map


def _choose_dots(markers: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """Return the first markers of each domain, every gene once, few enough to stand side by side."""
    kept: dict[str, dict[str, Any]] = {}
    for row in markers:
        if row["rank"] < (3 if k <= _FEW_DOMAINS else 2):
            # A gene that marks several domains stands with the one that has most of it.
            kept[row["gene"]] = max(kept.get(row["gene"], row), row, key=lambda r: r["dots"][r["domain"]][1])
    return sorted(kept.values(), key=lambda row: (row["domain"], row["rank"]))


def _view_weights(adata: AnnData, domains: pd.Categorical[Any]) -> dict[str, Any] | None:
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


def _curves(history: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def _tables(run: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
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

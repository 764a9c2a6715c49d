"""The report: one HTML file that needs nothing else, neither the network nor this package."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from numpy.typing import NDArray

from stmfg import _keys
from stmfg._core import summary as _summary
from stmfg._core.blocks import subsample
from stmfg._core.files import replacing
from stmfg._core.palette import CONFIDENCE, EXPRESSION, EXPRESSION_DARK, MISSING, ramp
from stmfg._core.spots import Spots, spots
from stmfg.report import _map_data
from stmfg.report._drawing import Drawing, draw
from stmfg.tl import _marker_tests as _markers

if TYPE_CHECKING:
    from anndata import AnnData

_CONFIDENCE_STEPS = 10
_COLOUR_STEPS = 256
_MARKERS = 5
_FEW_DOMAINS = 10  # up to here there is room for three markers of each in the dot plot, beyond for two
_MARKER_SPOTS = 5_000  # of a domain
_CURVE_POINTS = 300
_NAME = 16  # letters of a name on the map; the legend has all of them
_SCRIPTS = ("points.js", "map.js", "report.js")


def write(adata: AnnData, path: str | os.PathLike[str], *, run: Mapping[str, Any]) -> None:
    """Write the report of a finished result.

    Names of samples, genes and domains come from strangers: all are escaped, and the file forbids itself to run any
    script but its own or to load anything.

    Parameters
    ----------
    adata
        Annotated data as :func:`stmfg.tl.domains` leaves it.
    path
        The HTML file; it appears complete or not at all.
    run
        What ``run.json`` holds: version, input, options, params, versions, stages, history, warnings. What is absent
        is left out of the report.
    """
    text = render(adata, run=run)
    with replacing(Path(path)) as written:
        written.write_bytes(text.encode("utf-8", errors="xmlcharrefreplace"))


def render(adata: AnnData, *, run: Mapping[str, Any]) -> str:
    """Return the report of a finished result as HTML.

    Parameters
    ----------
    adata, run
        As in :func:`write`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stmfg.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("stmfg.report").joinpath("templates")
    script = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    # Our own script is the one piece of the page that is not escaped.
    return environment.get_template("report.html").render(
        **_content(adata, run),
        script=Markup(script),  # noqa: S704
        script_digest=digest,
    )


def _content(adata: AnnData, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything the template shows."""
    domains = _summary.labels(adata)
    names = [str(c) for c in domains.categories]
    shades = _summary.colours(adata, names)
    certain = np.asarray(adata.obs[_keys.CONFIDENCE]) if _keys.CONFIDENCE in adata.obs else None
    graph = adata.obsp.get(_keys.SPATIAL_GRAPH)
    record = adata.uns.get(_keys.UNS, {})
    options = run.get("options", {})
    raw = _summary.counts(adata, options.get("layer"))
    where = spots(adata, library_key=options.get("library_key"))
    plane = _summary.plane(adata.obsm[_keys.EMBEDDING])[0] if _keys.EMBEDDING in adata.obsm else None
    places = _places(where, domains)
    stills = _stills(where, plane, domains, shades, certain, places)
    chosen = _map_data.sample(adata.n_obs)
    markers, depth, expression = None, None, None
    if raw is not None:
        markers, genes = _marker_rows(raw, domains, np.asarray(adata.var_names), len(chosen))
        shown = [str(adata.var_names[gene]) for gene in genes]
        depth, expression = _map_data.depth_and_expression(raw, genes, shown, chosen)
    codes = np.where(domains.codes < 0, len(names), domains.codes)
    packed = _map_data.pack(
        where, plane, codes, confidence=certain, expression=expression, names=adata.obs_names, chosen=chosen
    )
    warnings = [str(w) for w in run.get("warnings", [])]
    found = _summary.warnings(adata, domains, depth, graph, slices=max(len(where.slices), 1))
    stages = [dict(s) for s in run.get("stages", [])]
    listed = [{"name": n, "colour": c} for n, c in zip(names, shades, strict=True)]
    look = _look(stills["domains"], len(places), packed["tissue"])
    return {
        "title": options.get("title") or _sample(adata, run),
        "version": run.get("version") or record.get("version"),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "use_rep": options.get("use_rep"),
        "domains": listed,
        "slices": list(where.slices),
        "sizes": _summary.sizes(domains, certain).to_dict("records"),
        "median_confidence": None if certain is None else float(np.median(certain)),
        "uncertain": None if certain is None else float((certain < _summary.UNCERTAIN).mean()),
        "threshold": _summary.UNCERTAIN,
        "warnings": warnings + [w for w in found if w not in warnings],
        "stills": stills,
        "map": packed,
        "map_json": htmlsafe_json_dumps(packed | look | {"domains": listed}),
        "sampled": len(chosen) < adata.n_obs,
        "neighbours": None if graph is None else _neighbours(graph, domains),
        "markers": markers,
        "marker_spots": _MARKER_SPOTS,
        "dot_plot": _dot_plot(markers or [], len(names)),
        "attention": _attention(adata, domains),
        "curves": _curves(record.get("history") or run.get("history") or {}),
        "stages": stages,
        "seconds": sum(float(s.get("seconds") or 0.0) for s in stages),
        "tables": _tried(record)
        | ({"Other seeds": {"Agreement": _summary.stability(run["stability"])}} if run.get("stability") else {})
        | {
            "Options": dict(_flat(options)),
            "Parameters": dict(_flat(run.get("params") or record.get("params") or {})),
            "Versions": dict(_flat(run.get("versions", {}))),
        },
    }


def _tried(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the table of the evidence for each number of domains tried, where it was chosen."""
    if "n_domains_evidence" not in record:
        return {}
    pairs = zip(record["n_domains_candidates"], record["n_domains_evidence"], strict=True)
    return {"Evidence less the best (nats), by number of domains": {str(k): f"{value:.1f}" for k, value in pairs}}


def _sample(adata: AnnData, run: Mapping[str, Any]) -> str:
    """Return a name for the sample: its Space Ranger library, or what it was read from."""
    libraries = adata.uns.get(_keys.SPATIAL, {})
    if isinstance(libraries, Mapping) and len(libraries) == 1:
        return str(next(iter(libraries)))
    given = run.get("input") or ""
    if isinstance(given, list):
        return f"{len(given)} slices"
    source = Path(str(given))
    if source.name == "outs":  # what Space Ranger calls every result folder
        source = source.parent
    return source.stem or "tissue"


def _places(where: Spots, domains: pd.Categorical[Any]) -> list[tuple[float, float, str]]:
    """Return where to write the name of each domain, (x, y, name) in the units of the spots."""
    at = where.xy[_summary.deepest(where.xy, domains)].tolist()
    short = [name if len(name) <= _NAME else f"{name[: _NAME - 1]}…" for name in map(str, domains.categories)]
    return [(x, y, name) for (x, y), name in zip(at, short, strict=True)]


def _stills(
    where: Spots,
    plane: NDArray[np.float64] | None,
    domains: pd.Categorical[Any],
    shades: list[str],
    certain: NDArray[Any] | None,
    places: list[tuple[float, float, str]],
) -> dict[str, Any]:
    """Return the maps that need no script: the domains, and confidence and embedding or None where there are none."""
    names = [f"Domain {c}" for c in domains.categories]
    above = 0.02 * max(float(np.ptp(where.xy[:, 0])), float(np.ptp(where.xy[:, 1])))
    captions = [((left + right) / 2, top - above, name) for name, (left, top, right, _) in where.slices.items()]
    found: dict[str, Drawing | None] = {
        "domains": draw(where, domains.codes, names, shades, [*places, *captions]),
        "confidence": None,
        "embedding": None,
    }
    if certain is not None:
        step = np.clip((certain * _CONFIDENCE_STEPS).astype(int), 0, _CONFIDENCE_STEPS - 1)
        width = 1 / _CONFIDENCE_STEPS
        levels = [f"Confidence {i * width:.1f} to {(i + 1) * width:.1f}" for i in range(_CONFIDENCE_STEPS)]
        scale = ramp(CONFIDENCE, _CONFIDENCE_STEPS)
        found["confidence"] = draw(where.filled(), step, levels, scale, captions)
    if plane is not None:
        found["embedding"] = draw(_map_data.scatter(plane), domains.codes, names, shades)
    return found


def _look(still: Drawing, n_places: int, tissue: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the map needs to look like the drawing: names and their places, colours, the box of the image."""
    step = tissue["width"] / still.width
    return {
        "missing": MISSING,
        "places": [[x * step, y * step, text] for x, y, text in still.texts[:n_places]],
        "image": None if still.image is None else [value * step for value in still.image[1:]],
        "ramps": {
            "confidence": ramp(CONFIDENCE, _COLOUR_STEPS),
            "light": ramp(EXPRESSION, _COLOUR_STEPS),
            "dark": ramp(EXPRESSION_DARK, _COLOUR_STEPS),
        },
    }


def _neighbours(graph: Any, domains: pd.Categorical[Any]) -> list[list[dict[str, Any]]]:
    """Return the cells of the table of neighbours: share, share over chance or None, and a tint from -1 to 1."""
    shares, over_chance = _summary.neighbourhoods(graph, domains)
    rows = []
    for own, over in zip(shares.tolist(), over_chance.tolist(), strict=True):
        cells = []
        for share, times in zip(own, over, strict=True):
            known = math.isfinite(times)
            tint = max(-1.0, min(1.0, math.log2(max(times, 0.125)) / 3)) if known else 0.0
            cells.append({"share": share, "over": times if known else None, "tint": tint})
        rows.append(cells)
    return rows


def _marker_rows(
    raw: Any, domains: pd.Categorical[Any], gene_names: NDArray[Any], n_map: int
) -> tuple[list[dict[str, Any]], list[int]]:
    """Return one row for each marker gene, with its dots over all domains, and the genes of the map.

    ``domain`` and ``rank`` are positions, ``on_map`` the position among the genes of the map or None. Of a large
    domain a sample of spots is enough to rank genes.
    """
    own = [np.flatnonzero(domains.codes == i) for i in range(len(domains.categories))]
    chosen = np.sort(np.concatenate([s[subsample(len(s), _MARKER_SPOTS, 0)] for s in own]))
    if len(chosen) < len(domains):
        raw, domains = raw[chosen], domains[chosen]
    found = _markers.moments(raw, domains)
    table = _markers.rank(found, gene_names, _MARKERS)
    mean, share = found.log_mean, found.share
    position = {name: i for i, name in enumerate(found.domains)}
    ranked = [[int(gene) for gene in table.index[table["domain"] == name]] for name in found.domains]
    on_map = _map_data.chosen_genes(ranked, n_map)
    rows: list[dict[str, Any]] = []
    for gene, row in zip(table.index, table.to_dict("records"), strict=True):
        relative = mean[:, gene] / mean[:, gene].max()
        rows.append(
            {str(k): v for k, v in row.items()}
            | {
                "domain": position[row["domain"]],
                "rank": ranked[position[row["domain"]]].index(gene),
                "dots": list(zip(share[:, gene].tolist(), relative.tolist(), strict=True)),
                "on_map": on_map.index(gene) if gene in on_map else None,
            }
        )
    return rows, on_map


def _dot_plot(markers: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """Return the first markers of each domain, every gene once, few enough to stand side by side."""

    def own_level(row: dict[str, Any]) -> float:
        return float(row["dots"][row["domain"]][1])

    kept: dict[str, dict[str, Any]] = {}
    for row in markers:
        if row["rank"] < (3 if k <= _FEW_DOMAINS else 2):
            # A gene that marks several domains stands with the one that has most of it.
            kept[row["gene"]] = max(kept.get(row["gene"], row), row, key=own_level)
    return sorted(kept.values(), key=lambda row: (row["domain"], row["rank"]))


def _attention(adata: AnnData, domains: pd.Categorical[Any]) -> dict[str, Any] | None:
    """Return mean attention as layers of (view, weight) for each domain, or None."""
    if _keys.VIEW_WEIGHTS not in adata.obsm:
        return None
    table = _summary.view_weights(adata, domains)
    layers: dict[str, list[tuple[str, int]]] = {}
    for i, name in enumerate(table.columns):
        layer, _, view = str(name).rpartition(": ")
        layers.setdefault(layer or "all layers", []).append((view, i))
    views = list(dict.fromkeys(view for columns in layers.values() for view, _ in columns))
    values = table.to_numpy()
    rows = [[[(views.index(v), float(row[i])) for v, i in columns] for columns in layers.values()] for row in values]
    mean = [float(np.mean([w for row in rows for layer in row for v, w in layer if v == i])) for i in range(len(views))]
    return {"layers": list(layers), "views": views, "rows": rows, "mean": mean}


def _curves(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the loss terms as points of small charts, 100 wide and 40 high."""
    curves = []
    for name, values in history.items():
        y = np.asarray(values, dtype=np.float64).ravel()
        if len(y) == 0 or not np.isfinite(y).all():
            continue
        kept = np.unique(np.linspace(0, len(y) - 1, min(len(y), _CURVE_POINTS)).round().astype(int))
        x = kept * (100 / max(len(y) - 1, 1))
        height = 38 - 36 * (y[kept] - y.min()) / max(float(np.ptp(y)), np.finfo(float).tiny)
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, height, strict=True))
        curves.append({"name": str(name), "points": line, "first": y[0], "last": y[-1], "epochs": len(y)})
    return curves


def _flat(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every entry of nested mappings with its dotted name."""
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "none" if value is None else str(value)

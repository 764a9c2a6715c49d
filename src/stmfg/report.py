"""The report: one HTML file that needs nothing else, neither the network nor this package."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from stmfg import _keys, _summary, pl
from stmfg import markers as _markers
from stmfg._blocks import subsample
from stmfg._spots import Spots, spots
from stmfg._svg import Drawing, dots, picture

if TYPE_CHECKING:
    from anndata import AnnData

_VECTOR_LIMIT = 20_000  # spots drawn one by one; a browser slows down beyond, and a picture shows as much
_CONFIDENCE_STEPS = 10
_MARKERS = 5
_MARKER_SPOTS = 5_000  # of a domain
_CURVE_POINTS = 300


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
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(text.encode("utf-8", errors="xmlcharrefreplace"))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def render(adata: AnnData, *, run: Mapping[str, Any]) -> str:
    """Return the report of a finished result as HTML.

    Parameters
    ----------
    adata, run
        As in :func:`write`.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stmfg", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = files("stmfg").joinpath("templates", "report.js").read_text(encoding="utf-8")
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
    raw = _summary.counts(adata)
    record = adata.uns.get(_keys.UNS, {})
    options = run.get("options", {})
    warnings = [str(w) for w in run.get("warnings", [])]
    warnings += [w for w in _summary.warnings(adata, domains, raw, graph) if w not in warnings]
    stages = [dict(s) for s in run.get("stages", [])]
    return {
        "title": _sample(adata, run),
        "version": run.get("version") or record.get("version"),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "use_rep": options.get("use_rep"),
        "domains": [{"name": n, "colour": c} for n, c in zip(names, shades, strict=True)],
        "sizes": _summary.sizes(domains, certain).to_dict("records"),
        "median_confidence": None if certain is None else float(np.median(certain)),
        "uncertain": None if certain is None else float((certain < _summary.UNCERTAIN).mean()),
        "threshold": _summary.UNCERTAIN,
        "warnings": warnings,
        "maps": _maps(adata, domains, shades, certain, graph, options.get("library_key")),
        "neighbours": None if graph is None else _summary.neighbourhoods(graph, domains).tolist(),
        "markers": None if raw is None else _marker_rows(raw, domains, np.asarray(adata.var_names)),
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
    """Return the table of how well clusterings agree for each number of domains tried, where it was chosen."""
    if "n_domains_stability" not in record:
        return {}
    pairs = zip(record["n_domains_candidates"], record["n_domains_stability"], strict=True)
    return {"Agreement of clusterings, by number of domains": {str(k): f"{agreement:.2f}" for k, agreement in pairs}}


def _sample(adata: AnnData, run: Mapping[str, Any]) -> str:
    """Return a name for the sample: its Space Ranger library, or the file or folder it was read from."""
    libraries = adata.uns.get(_keys.SPATIAL, {})
    if isinstance(libraries, Mapping) and len(libraries) == 1:
        return str(next(iter(libraries)))
    source = Path(str(run.get("input") or ""))
    if source.name == "outs":  # what Space Ranger calls every result folder
        source = source.parent
    return source.stem or "tissue"


def _maps(
    adata: AnnData,
    domains: pd.Categorical[Any],
    shades: list[str],
    certain: NDArray[Any] | None,
    graph: Any,
    library_key: str | None,
) -> dict[str, Drawing | None]:
    """Return the domain map, and the confidence map and the embedding or None where there are none."""
    names = [f"Domain {c}" for c in domains.categories]
    where = spots(adata, library_key=library_key)
    points = None
    if _keys.EMBEDDING in adata.obsm:
        points, _ = _summary.plane(adata.obsm[_keys.EMBEDDING])
    found: dict[str, Drawing | None] = dict.fromkeys(("domains", "confidence", "embedding"))
    if adata.n_obs <= _VECTOR_LIMIT:
        places = None if graph is None else _summary.deepest(graph, domains)
        found["domains"] = dots(where, domains.codes, names, shades, places)
        if certain is not None:
            step = np.clip((certain * _CONFIDENCE_STEPS).astype(int), 0, _CONFIDENCE_STEPS - 1)
            middles = (np.arange(_CONFIDENCE_STEPS) + 0.5) / _CONFIDENCE_STEPS
            scale = [to_hex(c) for c in pl.CONFIDENCE_MAP(middles)]
            levels = [
                f"Confidence {i / _CONFIDENCE_STEPS:g} to {(i + 1) / _CONFIDENCE_STEPS:g}" for i in range(len(scale))
            ]
            found["confidence"] = dots(where.filled(), step, levels, scale)
        if points is not None:
            spread = np.maximum(np.ptp(points, axis=0), np.finfo(float).tiny)
            box = (
                (points - points.min(axis=0)) / spread * (1.0, -0.8)
            )  # y grows upwards, and the box is wider than high
            found["embedding"] = dots(Spots(box, 0.009), domains.codes, names, shades)
        return found
    left, top, right, bottom = where.bounds()
    size = np.maximum(np.array([right - left, bottom - top]) / max(right - left, bottom - top), 0.1)
    found["domains"] = picture(
        lambda ax: pl.domains(adata, library_key=library_key, legend=False, ax=ax), *(8.0 * size)
    )
    if certain is not None:
        found["confidence"] = picture(
            lambda ax: pl.confidence(adata, image=False, library_key=library_key, legend=False, ax=ax), *(5.2 * size)
        )
    if points is not None:
        found["embedding"] = picture(lambda ax: pl.embedding(adata, legend=False, ax=ax).set_axis_off(), 5.2, 4.2)
    return found


def _marker_rows(raw: Any, domains: pd.Categorical[Any], gene_names: NDArray[Any]) -> list[dict[str, Any]]:
    """Return one row for each marker gene, with its dots over all domains; ``domain`` is a position.

    Of a large domain a sample of spots is enough to rank genes.
    """
    spots = [np.flatnonzero(domains.codes == i) for i in range(len(domains.categories))]
    chosen = np.sort(np.concatenate([s[subsample(len(s), _MARKER_SPOTS, 0)] for s in spots]))
    if len(chosen) < len(domains):
        raw, domains = raw[chosen], domains[chosen]
    found = _markers.moments(raw, domains)
    table = _markers.rank(found, gene_names, _MARKERS)
    mean, share = found.log_mean, found.share
    position = {name: i for i, name in enumerate(found.domains)}
    rows = []
    for gene, row in zip(table.index, table.to_dict("records"), strict=True):
        relative = mean[:, gene] / mean[:, gene].max()
        over_domains = list(zip(share[:, gene].tolist(), relative.tolist(), strict=True))
        rows.append({str(k): v for k, v in row.items()} | {"domain": position[row["domain"]], "dots": over_domains})
    return rows


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

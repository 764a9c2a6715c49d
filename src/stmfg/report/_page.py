"""The report: one HTML file that needs nothing else, neither the network nor this package."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from jinja2.utils import htmlsafe_json_dumps
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex, to_rgba_array
from numpy.typing import NDArray

from stmfg._core.blocks import subsample
from stmfg._core.checks import library_codes
from stmfg._core.labels import colours, labels
from stmfg._core.palette import CONFIDENCE_DARK, EXPRESSION, EXPRESSION_DARK, MISSING, TISSUE_PALETTE
from stmfg._core.progress import WORDS
from stmfg._core.spots import Spots, spots
from stmfg._keys import CONFIDENCE, DOMAIN, EMBEDDING, HALF, HIGHLY_VARIABLE, MARKERS, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.errors import InputError, MissingDependencyError
from stmfg.model.threads import beside
from stmfg.pl._charts import counts_or_none
from stmfg.pl._maps import CONFIDENCE_MAP, principal_plane
from stmfg.report import _genes, _levels, _map_data, _stills
from stmfg.report._sections import average_view_weights, draw_curves, tabulate_run
from stmfg.report._sentences import UNCERTAIN, as_sentence, list_warnings
from stmfg.report._study import describe_slices
from stmfg.report._template import fill_template, write_text
from stmfg.tl import _marker_tests
from stmfg.tl._contacts import count_contacts
from stmfg.tl._summary import describe_redraws, describe_unstable, tabulate_domains

_PLANES = {
    "pca": (
        "Scatter plot of the first two principal components of the embedding",
        "The two main directions of what the network learned. Spots that lie together are alike; domains may separate "
        "in directions that are not shown.",
    ),
    "umap": (
        "UMAP of the embedding",
        "UMAP of what the network learned. Spots that lie together are alike; how far groups lie apart, and how large "
        "they are drawn, says little.",
    ),
}
_CONFIDENCE_STEPS = 10  # of the still picture: few colours make a small file
_COLOUR_STEPS = 256
_MARKERS = 5
_FEW_DOMAINS = 10  # up to here there is room for three markers of each in the dot plot, beyond for two
_MARKER_SPOTS = 5_000  # of a domain


_SCRIPTS = [
    f"js/{name}.js"
    for name in (
        "elements", "colours", "pack", "points", "draw", "gestures", "map", "groups", "select", "regions", "figures",
        "mapfile", "genes", "domains", "selections", "slices", "report",
    )
]  # fmt: skip


def write(
    adata: AnnData,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    genes: str | Sequence[str] = "all",
    plane: str = "pca",
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a result.

    Names of slices, genes and domains come from strangers: all are escaped, and the file forbids itself to run any
    script but its own or to load anything but its own genes.

    Parameters
    ----------
    adata
        Annotated data as :func:`stmfg.tl.domains` leaves it.
    path
        The HTML file; it appears complete or not at all. Where all genes do not fit into 15 MB, they are put into a
        folder beside it, of the same name with ``_genes``.
    title
        What the page is called; by default after the library in ``uns["spatial"]`` or the input of the run.
    genes
        What can be searched for on the map: ``"all"`` genes that 1 % of the spots have, ``"markers"`` alone, or a list
        of names besides these.
    plane
        What is shown beside the map: ``"pca"``, the first two principal components of the embedding, or ``"umap"`` of
        it (McInnes et al. 2018), which needs umap-learn and takes minutes for 100,000 spots.
    run
        What ``run.json`` holds: version, input, options, params, versions, stages, history, warnings; and selections,
        ``{"name": ..., "spots": [...]}`` each. What is absent is taken from ``uns["stmfg"]``, or left out.

    Raises
    ------
    InputError
        If ``genes`` names one that is not there, or ``plane`` is another.
    MissingDependencyError
        If umap-learn is not installed.
    """
    path = Path(path)
    content, packed = _content(adata, title, genes, plane, run or {})
    folder = path.with_name(f"{path.stem}_genes")
    outside = packed is not None and not packed.inside
    content["map"]["folder"] = folder.name if outside else None
    content["groups"] = [] if packed is None else list(enumerate(packed.groups[:1] if outside else packed.groups))
    content["map_json"] = htmlsafe_json_dumps(content["map"])
    if packed is not None:
        _genes.write_groups(packed, folder)
    write_text(path, fill_template("report.html", _SCRIPTS, **content))


def _content(
    adata: AnnData, title: str | None, wanted: str | Sequence[str], projection: str, run: Mapping[str, Any]
) -> tuple[dict[str, Any], _genes.PackedGenes | None]:
    """Return everything the template shows, and the genes of the map."""
    domains = labels(adata)
    shades = colours(adata)
    names = list(shades)
    listed = [{"place": i, "name": name, "colour": shade} for i, (name, shade) in enumerate(shades.items())]
    record = adata.uns.get(UNS, {})
    options = run.get("options", {})
    halves = record.get("halves", {}).get(DOMAIN)
    use_rep = options.get("use_rep", record.get("use_rep"))
    redraws = describe_redraws(use_rep)
    library_key = options.get("library_key", record.get("library_key"))
    where = spots(adata, library_key=library_key)
    certain = np.asarray(adata.obs[CONFIDENCE]) if CONFIDENCE in adata.obs else None
    if projection not in _PLANES:
        raise InputError(f'plane is {projection!r}, expected "pca" or "umap"')
    project = {"pca": lambda x: principal_plane(x)[0], "umap": _project_by_umap}[projection]
    plane = _map_data.scatter(project(adata.obsm[EMBEDDING])) if EMBEDDING in adata.obsm else None
    graph = adata.obsp.get(SPATIAL_GRAPH)
    chosen = subsample(adata.n_obs, _map_data.SPOTS, 0)
    slices = None if library_key is None else library_codes(adata, library_key)
    places = _map_data.name_places(where, domains.codes, len(names), slices)
    stills = beside(
        _draw_stills,
        where.part(chosen),
        plane and plane.part(chosen),
        to_rgba_array([*shades.values(), MISSING])[domains.codes][chosen],
        None if certain is None else certain[chosen],
        [(x, y, _map_data.shorten(names[i])) for x, y, i in places],
    )
    contacts = None if graph is None else beside(_tabulate_contacts, graph, domains, slices)
    levels = beside(_levels.pack_levels, adata, domains, chosen)
    tissue = beside(_map_data.pack_places, where, chosen, places, _map_data.measure_unit(adata, where))
    embedding = None if plane is None else beside(_map_data.pack_places, plane, chosen)
    counts = counts_or_none(adata, options.get("layer"))
    title = title or _name_input(adata, run)
    markers, depth, packed, n_expressed = None, None, None, None
    on_map: list[int] = []
    if counts is not None:
        markers, on_map = _list_markers(adata, counts, domains)
        specific = {row["domain"] for row in markers if row["specific"]}
        streams = _genes.read_streams(counts, chosen)
        depth, n_expressed = streams.depth, int((streams.total > 0).sum())
    about_data = beside(list_warnings, adata, domains, depth, graph, max(len(where.slices), 1))
    if counts is not None:
        others = _choose_genes(wanted, streams, adata.var_names, on_map)
        packed = _genes.pack_all(streams, adata.var_names, on_map, others)
    drawn = {
        "n": len(chosen),
        "title": title,
        "tissue": tissue(),
        "embedding": embedding and embedding(),
        "codes": _map_data.pack_bytes(np.where(domains.codes < 0, len(names), domains.codes)[chosen].astype("<u2")),
        "levels": levels(),
        "certainty": f"probability to stay in the domain in {redraws}" if halves else "share of votes for the domain",
        "confidence": None if certain is None else _map_data.pack_bytes(np.rint(255 * certain[chosen]).astype("u1")),
        "genes": packed and packed.index,
        "depth": None if depth is None else _map_data.pack_bytes(depth[chosen].round().astype("<u4")),
        "names": _map_data.pack_names(adata.obs_names[chosen]),
        "domains": listed,
        "selections": run.get("selections", []),
        "tissue_colours": TISSUE_PALETTE,
        "missing": MISSING,
        "ramps": {
            "confidence_light": _ramp(CONFIDENCE_MAP),
            "confidence_dark": _ramp(LinearSegmentedColormap.from_list("confidence_dark", CONFIDENCE_DARK)),
            "light": _ramp(LinearSegmentedColormap.from_list("light", EXPRESSION)),
            "dark": _ramp(LinearSegmentedColormap.from_list("dark", EXPRESSION_DARK)),
        },
    }
    warnings = [str(w) for w in run.get("warnings", [])]
    sizes = tabulate_domains(adata).rename(columns={"median confidence": "confidence", "found again": "again"})
    more = about_data()
    if halves is not None:
        more += describe_unstable(sizes["again"], use_rep)
    stages = [dict(stage) | {"name": WORDS.get(stage["name"], stage["name"])} for stage in run.get("stages", [])]
    trained = int(np.asarray(adata.var[HIGHLY_VARIABLE]).sum()) if HIGHLY_VARIABLE in adata.var else None
    content = {
        "title": title,
        "version": run.get("version") or record.get("version"),
        "n_obs": adata.n_obs,
        "n_seen": n_expressed,
        "n_trained": trained,
        "use_rep": use_rep,
        "domains": listed,
        "number": _levels.describe_number(record),
        "slices": list(where.slices),
        "study": describe_slices(adata, where, library_key, shades, run),
        "sizes": sizes.reset_index().to_dict("records"),
        "redrawn": None if halves is None else redraws,
        "median_confidence": None if certain is None else float(np.median(certain)),
        "uncertain": None if certain is None else float((certain < UNCERTAIN).mean()),
        "threshold": UNCERTAIN,
        "warnings": [as_sentence(w) for w in warnings + [w for w in more if w not in warnings]],
        "stills": stills(),
        "map": drawn,
        "plane": _PLANES[projection],
        "map_genes": [str(adata.var_names[gene]) for gene in on_map],
        "n_searched": 0 if packed is None else len(on_map) + len(others),
        "sampled": len(chosen) < adata.n_obs,
        "neighbours": contacts and contacts(),
        "markers": markers,
        "n_plain": 0 if markers is None or len(names) < 2 else len(names) - len(specific),
        "marker_spots": _MARKER_SPOTS,
        "marker_sentences": [str(s) for s in run.get("markers", {}).get("sentences", [])],
        "tested_apart": MARKERS in adata.uns and HALF in adata.obs,
        "dot_plot": _choose_dots(markers or [], len(names)),
        "weights": average_view_weights(adata, domains),
        "curves": draw_curves(record.get("history") or run.get("history") or {}),
        "stages": stages,
        "seconds": sum(float(stage.get("seconds") or 0.0) for stage in stages),
        "tables": tabulate_run(run, record),
    }
    return content, packed


def _choose_genes(
    wanted: str | Sequence[str], streams: _genes.GeneStreams, names: pd.Index, on_map: Sequence[int]
) -> NDArray[np.int64]:
    """Return the positions of the genes that can be searched for, besides those listed."""
    if wanted == "all":
        chosen = np.flatnonzero(streams.n_spots >= max(_genes.LEAST_SHARE * len(streams.depth), 1))
    elif wanted == "markers":
        chosen = np.array([], dtype=np.int64)
    elif isinstance(wanted, str):
        raise InputError(f'genes is {wanted!r}, expected "all", "markers" or a list of names')
    else:
        if absent := [name for name in wanted if name not in names]:
            raise InputError(f"the result has no gene {absent[0]!r}; give names as in var_names")
        chosen = np.flatnonzero(names.isin(list(wanted)))
    return np.setdiff1d(chosen, on_map)


def _project_by_umap(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return a plane of x (n, d) in which neighbours stay neighbours, (n, 2)."""
    try:
        from umap import UMAP
    except ImportError as error:
        raise MissingDependencyError('UMAP needs umap-learn: pip install "stmfg[umap]"') from error
    return np.asarray(UMAP(random_state=0, n_jobs=1).fit_transform(np.asarray(x)), dtype=np.float64)


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


def _list_markers(adata: AnnData, counts: Any, domains: pd.Categorical[Any]) -> tuple[list[dict[str, Any]], list[int]]:
    """Return one row for each marker gene, with its dots over all domains, and the genes of the map, best first.

    ``domain``, ``next`` and ``rank`` are positions. Dots are of a sample of large domains; so is the ranking, where the
    result brings no table of markers.
    """
    members = [np.flatnonzero(domains.codes == i) for i in range(len(domains.categories))]
    chosen = np.sort(np.concatenate([m[subsample(len(m), _MARKER_SPOTS, 0)] for m in members]))
    if len(chosen) < len(domains):
        counts, domains = counts[chosen], domains[chosen]
    moments = _marker_tests.moments(counts, domains)
    genes, names = pd.Index(adata.var_names.astype(str)), pd.Index(moments.domains)
    table = adata.uns.get(MARKERS)
    known = isinstance(table, pd.DataFrame) and {"specific", "gene"} <= set(table) and genes.is_unique
    if known and table["gene"].astype(str).isin(genes).all():
        table = table.set_axis(genes.get_indexer(table["gene"].astype(str)), axis=0)
    else:
        table = _marker_tests.rank(moments, adata.var_names.to_numpy(), _MARKERS)
    table = _marker_tests.beyond_chance(table).groupby("domain", sort=False).head(_MARKERS)
    table = table.assign(
        rank=table.groupby("domain").cumcount(),
        domain=names.get_indexer(pd.Index(table["domain"].astype(str))),
        next=names.get_indexer(pd.Index(table["next_domain"].astype(str))),
    )
    table = table[table["domain"] >= 0].sort_values(["domain", "rank"])
    best_first = [int(gene) for gene in table.sort_values("rank", kind="stable").index]
    on_map = list(dict.fromkeys(best_first))[: _map_data.GENES]
    relative = moments.log_mean / np.maximum(moments.log_mean.max(axis=0), np.finfo(float).tiny)
    rows: list[dict[str, Any]] = []
    for gene, row in zip(table.index, table.to_dict("records"), strict=True):
        dots = list(zip(moments.share[:, gene].tolist(), relative[:, gene].tolist(), strict=True))
        rows.append({str(name): value for name, value in row.items()} | {"dots": dots})
    return rows, on_map


def _choose_dots(markers: list[dict[str, Any]], k: int) -> list[dict[str, Any]]:
    """Return the first markers of each domain, every gene once, few enough to stand side by side."""
    kept: dict[str, dict[str, Any]] = {}
    for row in markers:
        if row["rank"] < (3 if k <= _FEW_DOMAINS else 2):
            # A gene that marks several domains stands with the one that has most of it.
            kept[row["gene"]] = max(kept.get(row["gene"], row), row, key=lambda r: r["dots"][r["domain"]][1])
    return sorted(kept.values(), key=lambda row: (row["domain"], row["rank"]))

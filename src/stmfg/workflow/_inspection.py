"""What is in a file or folder, and what a run would make of it: read, checked, told in plain words."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stmfg._core import checks
from stmfg._core.blocks import row_blocks
from stmfg._core.geometry import spacing
from stmfg._keys import COUNTS, DOMAIN, EMBEDDING, PLATFORM, SPATIAL, SPATIAL_GRAPH, VIEW_WEIGHTS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.platforms import title

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

_SLICE_NAMES: Final = {
    *("library", "library_id", "sample", "sample_id", "sample_name", "slice", "slice_id", "slide", "slide_id"),
    *("section", "section_id", "batch", "donor", "donor_id", "animal_id", "region", "capture_area"),
}
"""What columns of ``obs`` that tell slices apart are called, in lower case."""
_DRAWN: Final = ("X_umap", "X_tsne", "X_draw_graph", "X_diffmap")
"""Embeddings made to be looked at."""
_PLACES: Final = (("x_centroid", "y_centroid"), ("center_x", "center_y"), ("x", "y"), ("X", "Y"))
"""Columns of ``obs`` that positions are kept in by other tools."""
_SHALLOW: Final = 50
"""Counts of a spot that are few."""
_WIDTH: Final = 80


@dataclass
class Overview:
    """What was found.

    Attributes
    ----------
    facts
        What it is about, and what there is.
    command
        How to run on it.
    because
        Why with these options.
    notes
        What is worth knowing and stops nothing.
    problems
        Why a run would be refused, each with what to do.
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    command: str = ""
    because: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def look(path: str | Path, *, platform: str | None = None) -> Overview:
    """Read a file or folder and say what is in it.

    Parameters
    ----------
    path, platform
        As :func:`stmfg.read` takes them.

    Returns
    -------
    What was found.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    adata = read(path, platform=platform, images=False)
    seen = Overview()
    options = [] if platform is None else ["--platform", platform]
    seen.facts.append(("kind", _kind(adata, Path(path))))
    seen.facts.append(("size", f"{adata.n_obs:,} spots or cells, {adata.n_vars:,} genes"))
    try:
        checks.observations(adata)
    except InputError as error:
        seen.problems.append(str(error))
    options += _expression(adata, seen)
    xy = _positions(adata, seen)
    options += _slices(adata, xy, seen)
    if SPATIAL_GRAPH in adata.obsp:
        seen.notes.append(f"the spatial graph in obsp[{SPATIAL_GRAPH!r}] would be used in place of one of stMFG")
    if DOMAIN in adata.obs:
        seen.notes.append("domains of an earlier run are in it; a new run replaces them in its result alone")
    seen.command = shlex.join(["stmfg", "run", str(path), "-o", "domains", *options])
    return seen


def _kind(adata: AnnData, path: Path) -> str:
    """Say what the data were read as."""
    said = adata.uns.get(PLATFORM)
    kept = path.suffix in (".h5ad", ".zarr")  # what it was once made from does not matter
    if not kept and isinstance(said, dict) and {"platform", "because", "taken"} <= set(said):
        taken = "" if said["taken"] in said["because"] else f"; {said['taken']} is read"
        return f"{title(said['platform'])}, because of {said['because']}{taken}"
    return "AnnData in HDF5" if path.suffix == ".h5ad" else "AnnData or SpatialData in zarr"


def _expression(adata: AnnData, seen: Overview) -> list[str]:
    """Look for counts and embeddings; returns the options that choose between them."""
    embeddings = _embeddings(adata)
    try:
        seen.facts.append(("counts", _counts(adata, seen)))
        refused = ""
    except InputError as error:
        refused = str(error)
        seen.facts.append(("counts", "none to use"))
    shown = ", ".join(f"{key} ({width} columns)" for key, width in embeddings.items())
    seen.facts.append(("embeddings", shown or "none in obsm"))
    if not refused:
        return []
    elsewhere = _counts_elsewhere(adata)
    if elsewhere:
        seen.notes.append(f"{elsewhere} holds raw counts; adata.layers[{COUNTS!r}] = adata.{elsewhere} makes them used")
    if not embeddings:
        seen.problems.append(refused)
        return []
    key = "X_pca" if "X_pca" in embeddings else next(iter(embeddings))
    seen.because.append(f"obsm[{key!r}] takes the place of counts: {re.split('[;,] ', refused)[0]}")
    return ["--use-rep", key]


def _counts(adata: AnnData, seen: Overview) -> str:
    """Describe the raw counts that a run would use."""
    counts = checks.counts(adata)
    depth, per_gene = np.zeros(adata.n_obs), np.zeros(adata.n_vars)
    for rows, block in row_blocks(counts):
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        per_gene += np.asarray(block.sum(axis=0)).ravel()
    empty, unseen = int((depth == 0).sum()), int((per_gene == 0).sum())
    median = float(np.median(depth))
    if empty:
        seen.notes.append(f"{empty:,} spots have no counts; they get the domain of their surroundings, confidence 0")
    if median < _SHALLOW:
        seen.notes.append(f"a spot has {median:g} counts (median): few; with bins, larger ones may tell more")
    if adata.n_obs - empty < checks.MIN_OBSERVATIONS:
        least = checks.MIN_OBSERVATIONS
        seen.problems.append(f"only {adata.n_obs - empty} spots have counts; at least {least} are needed")
    where = f"layers[{COUNTS!r}]" if COUNTS in adata.layers else "X"
    return f"raw counts in {where}, {median:,.0f} per spot (median); {unseen:,} genes are never seen"


def _counts_elsewhere(adata: AnnData) -> str:
    """Return where there are raw counts that a run does not look for."""
    for layer in adata.layers:
        if layer != COUNTS and _are_counts(adata, layer):
            return f"layers[{layer!r}]"
    return ""


def _are_counts(adata: AnnData, layer: str) -> bool:
    try:
        checks.counts(adata, layer)
    except InputError:
        return False
    return True


def _embeddings(adata: AnnData) -> dict[str, int]:
    """Return the embeddings that can take the place of counts, and how many columns they have."""
    found = {}
    for key in adata.obsm:
        if key in (SPATIAL, EMBEDDING, VIEW_WEIGHTS, *_DRAWN):
            continue
        try:
            width = checks.representation(adata, key).shape[1]
        except InputError:
            continue
        if width > 3:  # fewer are positions or a picture
            found[key] = width
    return found


def _positions(adata: AnnData, seen: Overview) -> NDArray[np.float64] | None:
    """Look at the positions."""
    try:
        xy = checks.coordinates(adata)
    except InputError as error:
        seen.facts.append(("positions", "none to use"))
        seen.problems.append(str(error))
        seen.notes += _positions_elsewhere(adata)
        return None
    said = adata.uns.get(PLATFORM)
    unit = f" {said['unit']}" if isinstance(said, dict) and "unit" in said else ""
    apart = f"neighbours {spacing(xy):.4g} apart"
    seen.facts.append(("positions", f"{xy.shape[1]} columns in obsm[{SPATIAL!r}],{unit and unit + ','} {apart}"))
    return xy


def _positions_elsewhere(adata: AnnData) -> list[str]:
    """Return hints at positions that a run does not look for."""
    keys = [key for key in adata.obsm if key != SPATIAL and "spatial" in key.lower()]
    if keys:
        return [f"obsm[{keys[0]!r}] may be it: adata.obsm[{SPATIAL!r}] = adata.obsm[{keys[0]!r}]"]
    for x, y in _PLACES:
        if {x, y} <= set(adata.obs):
            return [f"obs has {x} and {y}: adata.obsm[{SPATIAL!r}] = adata.obs[[{x!r}, {y!r}]].to_numpy()"]
    return []


def _slices(adata: AnnData, xy: NDArray[np.float64] | None, seen: Overview) -> list[str]:
    """Look for columns that tell slices apart; returns the option where slices lie on top of each other."""
    found: dict[str, NDArray[np.str_]] = {}
    for column in adata.obs:
        if str(column).lower() in _SLICE_NAMES and 1 < adata.obs[column].nunique() < adata.n_obs:
            try:
                found[str(column)] = checks.library_names(adata, str(column))
            except InputError:
                continue
    shown = "; ".join(f"{key} ({len(np.unique(names))} values)" for key, names in found.items())
    seen.facts.append(("slices", f"columns of obs that may name them: {shown}" if shown else "one"))
    for key, names in found.items():
        if xy is not None and _overlap(xy, names):
            seen.because.append(f"the places of obs[{key!r}] overlap: slices, not to be linked with each other")
            return ["--library-key", key]
    if found:
        seen.notes.append(f"if obs[{next(iter(found))!r}] names slices, add --library-key {next(iter(found))}")
    return []


def _overlap(xy: NDArray[np.float64], names: NDArray[np.str_]) -> bool:
    """Whether the middle of one group lies inside the box of another, as where slices share an origin."""
    groups = [xy[names == name, :2] for name in np.unique(names)[:200]]
    low, high = (np.array([np.quantile(group, q, axis=0) for group in groups]) for q in (0.05, 0.95))
    middle = np.array([np.median(group, axis=0) for group in groups])
    inside = ((middle[:, None] > low[None]) & (middle[:, None] < high[None])).all(axis=2)
    return bool((inside.sum(axis=1) > 1).any())


def lines(seen: Overview) -> list[str]:
    """Return the overview as lines of text."""
    text = []
    for name, what in seen.facts:
        text += _wrapped(f"{name:<11} ", what)
    for heading, items in (("worth knowing", seen.notes), ("in the way of a run", seen.problems)):
        if items:
            text += ["", heading]
            for item in items:
                text += _wrapped("  - ", item)
    if not seen.problems:
        text += ["", "run on it with", f"  {seen.command}"]  # whole, to be copied
        for reason in seen.because:
            text += _wrapped("  - ", reason)
        text += ["If you know how many domains there are, add --n-domains K; else it is chosen."]
    return text


def _wrapped(first: str, words: str) -> list[str]:
    return textwrap.wrap(
        words,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )

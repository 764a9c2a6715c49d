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
"""Usual names, in lower case, of columns of ``obs`` that tell slices apart."""
_DRAWN: Final = ("X_umap", "X_tsne", "X_draw_graph", "X_diffmap")
"""Embeddings made for plots."""
_POSITION_COLUMNS: Final = (("x_centroid", "y_centroid"), ("center_x", "center_y"), ("x", "y"), ("X", "Y"))
"""Columns of ``obs`` in which other tools keep positions."""
_FEW_COUNTS: Final = 50
_WIDTH: Final = 80


@dataclass
class Inspection:
    """What a file or folder holds, and what a run would make of it.

    Attributes
    ----------
    facts
        Heading and description of each thing there is.
    options
        Options that a run on it needs.
    reasons
        Why a run needs them.
    notes
        What is worth knowing and stops nothing.
    problems
        Why a run would be refused, each with what to do.
    """

    path: Path
    facts: list[tuple[str, str]] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def command(self) -> str:
        """How to run on it."""
        return shlex.join(["stmfg", "run", str(self.path), "-o", "domains", *self.options])

    def need(self, option: str, value: str, reason: str) -> None:
        """Add an option that a run needs."""
        self.options += [option, value]
        self.reasons.append(reason)

    def lines(self) -> list[str]:
        """Return all as lines of text."""
        lines = []
        for heading, description in self.facts:
            lines += _wrap(f"{heading:<11} ", description)
        for heading, items in (("worth knowing", self.notes), ("problems", self.problems)):
            if items:
                lines += ["", heading]
                for item in items:
                    lines += _wrap("  - ", item)
        if not self.problems:
            lines += ["", "to run on it:", f"  {self.command}"]  # whole, to be copied
            for reason in self.reasons:
                lines += _wrap("  - ", reason)
            lines += ["If you know how many domains there are, add --n-domains K; else the number is chosen."]
        return lines


def _wrap(first: str, text: str) -> list[str]:
    indent = " " * len(first)
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def inspect_input(path: str | Path, *, platform: str | None = None) -> Inspection:
    """Read a file or folder and describe what is in it.

    Parameters
    ----------
    path, platform
        As :func:`stmfg.read` takes them.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    adata = read(path, platform=platform, images=False)
    inspection = Inspection(Path(path), options=[] if platform is None else ["--platform", platform])
    inspection.facts.append(("kind", _kind(adata, Path(path))))
    inspection.facts.append(("size", f"{adata.n_obs:,} spots or cells, {adata.n_vars:,} genes"))
    try:
        checks.observations(adata)
    except InputError as error:
        inspection.problems.append(str(error))
    _inspect_expression(adata, inspection)
    xy = _inspect_positions(adata, inspection)
    _inspect_slices(adata, xy, inspection)
    if SPATIAL_GRAPH in adata.obsp:
        inspection.notes.append(f"the spatial graph in obsp[{SPATIAL_GRAPH!r}] would be used in place of one of stMFG")
    if DOMAIN in adata.obs:
        inspection.notes.append("it holds domains of an earlier run; a new run replaces them in its result alone")
    return inspection


def _kind(adata: AnnData, path: Path) -> str:
    """Name the kind of file or folder, and for an instrument's folder the files it was recognised by."""
    about = adata.uns.get(PLATFORM)
    is_store = path.suffix in (".h5ad", ".zarr")  # what it was once made from does not matter
    if not is_store and isinstance(about, dict) and {"platform", "because", "taken"} <= set(about):
        taken = "" if about["taken"] in about["because"] else f"; {about['taken']} is read"
        return f"{title(about['platform'])}, because of {about['because']}{taken}"
    return "AnnData in HDF5" if path.suffix == ".h5ad" else "AnnData or SpatialData in zarr"


def _inspect_expression(adata: AnnData, inspection: Inspection) -> None:
    """Look for counts, in the usual place, another layer, or else an embedding in their place."""
    embeddings = _embeddings(adata)
    problem, layer = "", None
    try:
        description = _describe_counts(adata, None, inspection)
    except InputError as error:
        problem = str(error)
        layer = next((layer for layer in adata.layers if layer != COUNTS and _are_counts(adata, layer)), None)
        description = "none to use" if layer is None else _describe_counts(adata, layer, inspection)
    inspection.facts.append(("counts", description))
    shown = ", ".join(f"{key} ({width} columns)" for key, width in embeddings.items())
    inspection.facts.append(("embeddings", shown or "none in obsm"))
    if not problem:
        return
    short_problem = re.split("[;,] ", problem)[0]
    if layer is not None:
        inspection.need("--layer", layer, f"layers[{layer!r}] holds the raw counts: {short_problem}")
    elif embeddings:
        key = "X_pca" if "X_pca" in embeddings else next(iter(embeddings))
        inspection.need("--use-rep", key, f"obsm[{key!r}] takes the place of counts: {short_problem}")
    else:
        inspection.problems.append(problem)


def _describe_counts(adata: AnnData, layer: str | None, inspection: Inspection) -> str:
    """Describe the raw counts that a run would use."""
    counts = checks.counts(adata, layer)
    depth, per_gene = np.zeros(adata.n_obs), np.zeros(adata.n_vars)
    for rows, block in row_blocks(counts):
        depth[rows] = np.asarray(block.sum(axis=1)).ravel()
        per_gene += np.asarray(block.sum(axis=0)).ravel()
    n_empty, n_unseen, median = int((depth == 0).sum()), int((per_gene == 0).sum()), float(np.median(depth))
    if n_empty:
        inspection.notes.append(
            f"{n_empty:,} spots have no counts; they get the domain of their surroundings, confidence 0"
        )
    if median < _FEW_COUNTS:
        inspection.notes.append(f"a spot has {median:g} counts (median): few; of bins, larger ones may tell more")
    if adata.n_obs - n_empty < checks.MIN_OBSERVATIONS:
        least = checks.MIN_OBSERVATIONS
        inspection.problems.append(f"only {adata.n_obs - n_empty} spots have counts; at least {least} are needed")
    layer = COUNTS if layer is None and COUNTS in adata.layers else layer
    where = "X" if layer is None else f"layers[{layer!r}]"
    return f"raw counts in {where}, {median:,.0f} per spot (median); {n_unseen:,} genes are never seen"


def _are_counts(adata: AnnData, layer: str) -> bool:
    try:
        checks.counts(adata, layer)
    except InputError:
        return False
    return True


def _embeddings(adata: AnnData) -> dict[str, int]:
    """Return the embeddings that can take the place of counts, and how many columns they have."""
    widths = {}
    for key in adata.obsm:
        if key in (SPATIAL, EMBEDDING, VIEW_WEIGHTS, *_DRAWN):
            continue
        try:
            width = checks.representation(adata, key).shape[1]
        except InputError:
            continue
        if width > 3:  # fewer are positions or a picture
            widths[key] = width
    return widths


def _inspect_positions(adata: AnnData, inspection: Inspection) -> NDArray[np.float64] | None:
    """Return the positions, or None where a run could not use them."""
    try:
        xy = checks.coordinates(adata)
    except InputError as error:
        inspection.facts.append(("positions", "none to use"))
        inspection.problems.append(str(error))
        inspection.notes += _hints_at_positions(adata)
        return None
    about = adata.uns.get(PLATFORM)
    unit = f" {about['unit']}," if isinstance(about, dict) and "unit" in about else ""
    description = f"{xy.shape[1]} columns in obsm[{SPATIAL!r}],{unit} neighbours {spacing(xy):.4g} apart"
    inspection.facts.append(("positions", description))
    return xy


def _hints_at_positions(adata: AnnData) -> list[str]:
    """Return how to use positions that are where a run does not look for them."""
    keys = [key for key in adata.obsm if key != SPATIAL and "spatial" in key.lower()]
    if keys:
        return [f"obsm[{keys[0]!r}] may be it: adata.obsm[{SPATIAL!r}] = adata.obsm[{keys[0]!r}]"]
    for x, y in _POSITION_COLUMNS:
        if {x, y} <= set(adata.obs):
            return [f"obs has {x} and {y}: adata.obsm[{SPATIAL!r}] = adata.obs[[{x!r}, {y!r}]].to_numpy()"]
    return []


def _inspect_slices(adata: AnnData, xy: NDArray[np.float64] | None, inspection: Inspection) -> None:
    """Look for columns that tell slices apart."""
    names_of_spots: dict[str, NDArray[np.str_]] = {}
    for column in adata.obs:
        if str(column).lower() in _SLICE_NAMES and 1 < adata.obs[column].nunique() < adata.n_obs:
            try:
                names_of_spots[str(column)] = checks.library_names(adata, str(column))
            except InputError:
                continue
    shown = "; ".join(f"{key} ({len(np.unique(names))} values)" for key, names in names_of_spots.items())
    inspection.facts.append(("slices", f"columns of obs that may name them: {shown}" if shown else "one"))
    for key, names in names_of_spots.items():
        if xy is not None and _overlap(xy, names):
            reason = f"the positions of obs[{key!r}] overlap: slices, not to be linked with each other"
            inspection.need("--library-key", key, reason)
            return
    if names_of_spots:
        key = next(iter(names_of_spots))
        inspection.notes.append(f"if obs[{key!r}] names slices, add --library-key {key}")


def _overlap(xy: NDArray[np.float64], names: NDArray[np.str_]) -> bool:
    """Whether the middle of one group lies inside the box of another, as where slices share an origin."""
    groups = [xy[names == name, :2] for name in np.unique(names)[:200]]
    low, high = (np.array([np.quantile(group, q, axis=0) for group in groups]) for q in (0.05, 0.95))
    middle = np.array([np.median(group, axis=0) for group in groups])
    inside = ((middle[:, None] > low[None]) & (middle[:, None] < high[None])).all(axis=2)
    return bool((inside.sum(axis=1) > 1).any())

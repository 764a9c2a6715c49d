"""What is in a file or folder, and what a run would make of it: read, checked, told in plain words."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stmfg._core import checks, hints
from stmfg._core.blocks import row_blocks
from stmfg._core.geometry import spacing
from stmfg._keys import COUNTS, DOMAIN, PLATFORM, SLICE, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.platforms import title

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

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
    if SPATIAL_GRAPH in adata.obsp and UNS not in adata.uns:
        note = f"a spatial graph of another tool in obsp[{SPATIAL_GRAPH!r}] is used, if it fits"
        inspection.notes.append(note)
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
    embeddings = hints.embeddings(adata)
    problem, layer = "", None
    try:
        description = _describe_counts(adata, None, inspection)
    except InputError as error:
        problem = str(error)
        layer = hints.counts_elsewhere(adata)
        description = "none to use" if layer is None else _describe_counts(adata, layer, inspection)
    inspection.facts.append(("counts", description))
    shown = ", ".join(f"{key} ({width} columns)" for key, width in embeddings.items())
    inspection.facts.append(("embeddings", shown or "none in obsm"))
    if not problem:
        return
    short_problem = re.split("[;,] ", problem)[0]
    if layer is not None:
        inspection.need("--layer", layer, f"{hints.place_of_layer(adata, layer)} holds the raw counts: {short_problem}")
    elif embeddings:
        key = next(iter(embeddings))
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
    where = "X" if layer is None else hints.place_of_layer(adata, layer)
    return f"raw counts in {where}, {median:,.0f} per spot (median); {n_unseen:,} genes are never seen"


def _inspect_positions(adata: AnnData, inspection: Inspection) -> NDArray[np.float64] | None:
    """Return the positions, or None where a run could not use them."""
    try:
        xy = checks.coordinates(adata)
    except InputError as error:
        inspection.facts.append(("positions", "none to use"))
        inspection.problems.append(str(error))
        return None
    about = adata.uns.get(PLATFORM)
    unit = f" {about['unit']}," if isinstance(about, dict) and "unit" in about else ""
    description = f"{xy.shape[1]} columns in obsm[{SPATIAL!r}],{unit} neighbours {spacing(xy):.4g} apart"
    inspection.facts.append(("positions", description))
    return xy


def _inspect_slices(adata: AnnData, xy: NDArray[np.float64] | None, inspection: Inspection) -> None:
    """Look for columns that tell slices apart."""
    columns = hints.slice_columns(adata)
    shown = "; ".join(f"{column} ({adata.obs[column].nunique()} values)" for column in columns)
    inspection.facts.append(("slices", f"columns of obs that may name them: {shown}" if shown else "one"))
    overlapping = None if xy is None else hints.overlapping_slices(adata, xy)
    if overlapping == SLICE:
        inspection.notes.append(f"a run keeps the slices of obs[{SLICE!r}] apart")
    elif overlapping is not None:
        reason = f"the positions of obs[{overlapping!r}] overlap: slices, not to be linked with each other"
        inspection.need("--library-key", overlapping, reason)
    elif columns and columns[0] != SLICE:
        inspection.notes.append(f"if obs[{columns[0]!r}] names slices, add --library-key {columns[0]}")

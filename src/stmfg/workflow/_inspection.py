"""What is in a file or folder, and what a run would make of it: read, checked, told in plain words."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmfg._core import checks, hints
from stmfg._core.blocks import row_blocks, row_sums
from stmfg._core.geometry import spacing
from stmfg._keys import COUNTS, DOMAIN, PLATFORM, SLICE, SPATIAL, SPATIAL_GRAPH, UNS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.platforms import title

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

_FEW_COUNTS: Final = 50


@dataclass
class Inspection:
    """What a file or folder holds, the options that a run on it needs and why, and the problems that would stop it."""

    path: str | Path
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
        lines = [line for heading, description in self.facts for line in _wrap(f"{heading:<11} ", description)]
        for heading, items in (("worth knowing", self.notes), ("problems", self.problems)):
            if items:
                lines += ["", heading, *(line for item in items for line in _wrap("  - ", item))]
        if not self.problems:
            lines += ["", "to run on it:", f"  {self.command}"]  # whole, to be copied
            lines += [line for reason in self.reasons for line in _wrap("  - ", reason)]
            lines += ["If you know how many domains there are, add --n-domains K; else the number is chosen."]
        return lines


def _wrap(first: str, text: str) -> list[str]:
    wrapper = textwrap.TextWrapper(80, initial_indent=first, subsequent_indent=" " * len(first))
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def inspect_input(path: str | Path, *, platform: str | None = None) -> Inspection:
    """Read a file or folder, as :func:`stmfg.read` does, and describe what is in it.

    Parameters
    ----------
    path, platform
        As of :func:`stmfg.read`.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if Path(path).suffix.lower() == ".csv":
        raise InputError(f"{path} is no data; a sheet of samples is checked as a whole by stmfg batch {path} -o OUTDIR")
    adata = read(path, platform=platform, images=False)
    inspection = Inspection(path, options=[] if platform is None else ["--platform", platform])
    inspection.facts.append(("kind", _kind(adata, Path(path))))
    inspection.facts.append(("size", f"{adata.n_obs:,} spots or cells, {adata.n_vars:,} genes"))
    if (column := hints.column_of_repeats(adata)) and adata.obs_names.has_duplicates:
        inspection.need("--library-key", column, f"names of spots repeat, and obs[{column!r}] tells them apart")
    elif problem := _problem(checks.observations, adata):
        inspection.problems.append(problem)
    _inspect_expression(adata, inspection)
    xy = _inspect_positions(adata, inspection)
    _inspect_slices(adata, xy, inspection)
    if SPATIAL_GRAPH in adata.obsp and UNS not in adata.uns:
        note = f"a spatial graph of another tool in obsp[{SPATIAL_GRAPH!r}] is used, if it fits"
        inspection.notes.append(note)
    if DOMAIN in adata.obs:
        inspection.notes.append("it holds domains of an earlier run; a new run replaces them in its result alone")
    return inspection


def _problem(check: Callable[..., object], *arguments: Any) -> str:
    """Return why a check refuses, or nothing where it does not."""
    try:
        check(*arguments)
    except InputError as error:
        return str(error)
    return ""


def _kind(adata: AnnData, path: Path) -> str:
    """Name the kind of file or folder, and for an instrument's folder the files it was recognised by."""
    about = adata.uns.get(PLATFORM)
    name = path.name.lower().removesuffix(".gz")
    is_zarr = path.is_dir() or name.endswith(".zip")
    # What a store was once made from does not matter.
    is_store = name.endswith((".h5ad", ".zarr", ".zarr.zip")) or path.parent.name == "tables"
    if not is_store and isinstance(about, dict) and {"platform", "because", "taken"} <= set(about):
        taken = "" if about["taken"] in about["because"] else f"; read: {about['taken']}"
        return f"{title(about['platform'])}, because of {about['because']}{taken}"
    return "AnnData or SpatialData in zarr" if is_zarr else "AnnData in HDF5"


def _inspect_expression(adata: AnnData, inspection: Inspection) -> None:
    """Look for counts in the usual place, then in another layer, then for an embedding to take their place."""
    widths = hints.embeddings(adata)
    problem = _problem(checks.counts, adata)
    elsewhere = hints.counts_elsewhere(adata) if problem else None
    layer = elsewhere or (COUNTS if COUNTS in adata.layers else None)
    description = "none to use" if problem and elsewhere is None else _describe_counts(adata, layer, inspection)
    inspection.facts.append(("counts", description))
    shown = ", ".join(f"{key} ({width} columns)" for key, width in widths.items())
    inspection.facts.append(("embeddings", shown or "none in obsm"))
    short_problem = re.split("[;,] ", problem)[0]
    if elsewhere is not None:
        place = hints.place_of_layer(adata, elsewhere)
        inspection.need("--layer", elsewhere, f"{place} holds the raw counts: {short_problem}")
    elif problem and widths:
        key = next(iter(widths))
        inspection.need("--use-rep", key, f"obsm[{key!r}] takes the place of counts: {short_problem}")
    elif problem:
        inspection.problems.append(problem)


def _describe_counts(adata: AnnData, layer: str | None, inspection: Inspection) -> str:
    counts = checks.counts(adata, layer)
    _, depth, _ = row_sums(counts)
    per_gene = sum(np.asarray(block.sum(axis=0)).ravel() for _, block in row_blocks(counts))
    n_empty, n_unseen, median = int((depth == 0).sum()), int(np.sum(per_gene == 0)), float(np.median(depth))
    if n_empty:
        what = "they get the domain of their surroundings, confidence 0"
        inspection.notes.append(f"{n_empty:,} spots have no counts; {what}")
    if median < _FEW_COUNTS:
        inspection.notes.append(f"a spot has {median:g} counts (median): few; of bins, larger ones may tell more")
    if (n := adata.n_obs - n_empty) < (least := checks.MIN_OBSERVATIONS):
        inspection.problems.append(f"only {n} spots have counts; at least {least} are needed")
    where = "X" if layer is None else hints.place_of_layer(adata, layer)
    return f"raw counts in {where}, {median:,.0f} per spot (median); {n_unseen:,} genes are never seen"


def _inspect_positions(adata: AnnData, inspection: Inspection) -> NDArray[np.float64] | None:
    """Return the positions, or None where a run could not use them."""
    if problem := _problem(checks.coordinates, adata):
        inspection.facts.append(("positions", "none to use"))
        inspection.problems.append(problem)
        return None
    xy, about = checks.coordinates(adata), adata.uns.get(PLATFORM)
    unit = f" {about['unit']}," if isinstance(about, dict) and "unit" in about else ""
    description = f"{xy.shape[1]} columns in obsm[{SPATIAL!r}],{unit} neighbours {spacing(xy):.4g} apart"
    inspection.facts.append(("positions", description))
    return xy


def _inspect_slices(adata: AnnData, xy: NDArray[np.float64] | None, inspection: Inspection) -> None:
    columns = hints.slice_columns(adata)
    shown = "; ".join(f"{column} ({adata.obs[column].nunique()} values)" for column in columns)
    inspection.facts.append(("slices", f"columns of obs that may name them: {shown}" if shown else "one"))
    overlapping = None if xy is None else hints.overlapping_slices(adata, xy)
    if overlapping == SLICE:
        inspection.notes.append(f"a run keeps the slices of obs[{SLICE!r}] apart")
    elif overlapping is not None and "--library-key" not in inspection.options:
        reason = f"the positions of obs[{overlapping!r}] overlap: slices, not to be linked with each other"
        inspection.need("--library-key", overlapping, reason)
    elif columns and columns[0] != SLICE:
        inspection.notes.append(f"if obs[{columns[0]!r}] names slices, add --library-key {columns[0]}")

"""What a run is given: read, and checked before any long work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stmfg import pp
from stmfg._core import checks
from stmfg._core.spots import spots
from stmfg._core.timing import stage
from stmfg._core.tissue import read_tissue
from stmfg._keys import IMAGE_FEATURES, SLICE, SPATIAL
from stmfg.errors import InputError, flag
from stmfg.io._read import read_for_run
from stmfg.io.platforms import recognise
from stmfg.io.settle import name_after_slices
from stmfg.io.sheet import read_samples
from stmfg.io.slices import join_samples, read_slices
from stmfg.io.writing import make_writable
from stmfg.model import graphs
from stmfg.tl._study import CONDITION
from stmfg.workflow._preflight import check_samples, check_source
from stmfg.workflow.options import SHEET_COLUMNS, RunOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from stmfg.config import Config
    from stmfg.io.sheet import Sample

    Source: TypeAlias = str | Path | Sequence[str | Path] | AnnData
    """A file, a folder, a sheet, several files or folders, or data in memory."""


def read_input(source: Source, options: RunOptions) -> tuple[AnnData, RunOptions]:
    """Read one input, or several as slices; the column of slices that reading found is then the ``library_key``."""
    adata, options = _read(source, options)
    if options.library_key is None:
        options = replace(options, library_key=slices_of(adata))
    elif isinstance(source, (str, Path)):
        name_after_slices(adata, [options.library_key], Path(source))
    return adata, options


def slices_of(adata: AnnData) -> str | None:
    """Return the column that names slices where reading has found several."""
    several = SLICE in adata.obs and adata.obs[SLICE].nunique() > 1
    return SLICE if several else None


def _read(source: Source, options: RunOptions) -> tuple[AnnData, RunOptions]:
    platform, use_rep = options.platform, options.use_rep
    is_sheet = isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".csv"
    if is_sheet and Path(source).is_file() and recognise(Path(source), platform) is not None:  # type: ignore[arg-type]
        is_sheet = False  # a file of an instrument, which chooses one of several samples
    if is_sheet or (isinstance(source, Sequence) and not isinstance(source, str)):
        if options.library_key not in (None, SLICE):
            raise InputError(
                f"library_key is {options.library_key!r}, but several inputs are slices by themselves; leave it out"
            )
        options = replace(options, library_key=SLICE)
    with stage("read"):
        if is_sheet:
            return _read_sheet(str(source), options)
        if isinstance(source, (str, Path)):
            return read_for_run(source, platform, options.layer), options
        if isinstance(source, Sequence):
            return read_slices(source, platform=platform, use_rep=use_rep), options
        return source, options


def _read_sheet(path: str, options: RunOptions) -> tuple[AnnData, RunOptions]:
    samples = read_samples(path, SHEET_COLUMNS)
    if len(samples) < 2:
        raise InputError(f"sheet {path} has one sample; give its file instead, or more samples to find common domains")
    options = options.for_samples(samples)

    def check(sample: Sample) -> None:
        platform = sample.options.get("platform", options.platform)
        check_source(sample.source, replace(options, platform=platform, library_key=None))

    check_samples(samples, check)
    return join_samples(samples, platform=options.platform, use_rep=options.use_rep), options


def add_image_features(adata: AnnData, config: Config) -> None:
    """Describe the tissue image around each spot, where a view needs that and it is not there."""
    if IMAGE_FEATURES in config.extra_views.values() and IMAGE_FEATURES not in adata.obsm:
        with stage("image"):
            pp.image(adata)


def check_input(adata: AnnData, options: RunOptions) -> None:
    """Run every check that needs no computing, so that bad input is refused at once."""
    checks.text(adata)
    make_writable(adata)
    tissue = read_tissue(adata, use_rep=options.use_rep, layer=options.layer, library_key=options.library_key)
    graphs.unlinked(tissue.coordinates, None, stacked=options.config.stacked)
    n_used = int((~tissue.left_out).sum())
    if n_used < checks.MIN_OBSERVATIONS:
        raise InputError(f"only {n_used} spots have counts; at least {checks.MIN_OBSERVATIONS} are needed")
    checks.levels(options.levels or options.n_domains, n_used)
    if options.reference is not None:
        names = [] if CONDITION not in adata.obs else sorted(adata.obs[CONDITION].dropna().astype(str).unique())
        if options.reference not in names or options.library_key != SLICE:
            known = ", ".join(names) or "none: give a sheet of samples with the column condition"
            raise InputError(f"{flag('reference')} is {options.reference!r}; the conditions are {known}")
    if SPATIAL in adata.uns:  # what cannot be drawn shows now, not after training
        spots(adata, library_key=options.library_key)
    for key in options.config.extra_views.values():
        checks.representation(adata, key)

"""What a run is given: read, and checked before any long work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from stmfg import pp
from stmfg._core import checks
from stmfg._core.blocks import row_sums
from stmfg._core.spots import spots
from stmfg._core.timing import stage
from stmfg._keys import IMAGE_FEATURES, SLICE, SPATIAL
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.slices import read_sheet, read_slices
from stmfg.model import graphs
from stmfg.workflow.options import SHEET_COLUMNS, RunOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from stmfg.config import Config

    Source: TypeAlias = str | Path | Sequence[str | Path] | AnnData
    """A file, a folder, a sheet, several files or folders, or data in memory."""


def read_input(source: Source, options: RunOptions) -> tuple[AnnData, RunOptions]:
    """Read one input, or several as slices; their column is then the ``library_key``."""
    is_sheet = isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".csv"
    if is_sheet or (isinstance(source, Sequence) and not isinstance(source, str)):
        if options.library_key not in (None, SLICE):
            raise InputError(
                f"library_key is {options.library_key!r}, but several inputs are slices by themselves; leave it out"
            )
        options = replace(options, library_key=SLICE)
    with stage("read"):
        if is_sheet:
            adata = read_sheet(str(source), platform=options.platform, use_rep=options.use_rep, columns=SHEET_COLUMNS)
        elif isinstance(source, (str, Path)):
            adata = read(source, platform=options.platform)
        elif isinstance(source, Sequence):
            adata = read_slices(source, platform=options.platform, use_rep=options.use_rep)
        else:
            adata = source
    return adata, options


def add_image_features(adata: AnnData, config: Config) -> None:
    """Describe the tissue image around each spot, where a view needs that and it is not there."""
    if IMAGE_FEATURES in config.extra_views.values() and IMAGE_FEATURES not in adata.obsm:
        with stage("image"):
            pp.image(adata)


def check_input(adata: AnnData, options: RunOptions) -> None:
    """Run every check that needs no computing, so that bad input is refused at once."""
    checks.observations(adata)
    checks.text(adata)
    graphs.unlinked(checks.coordinates(adata), None, stacked=options.config.stacked)
    if options.use_rep is None:
        used = int((row_sums(checks.counts(adata, options.layer))[1] > 0).sum())
        if used < checks.MIN_OBSERVATIONS:
            raise InputError(f"only {used} spots have counts; at least {checks.MIN_OBSERVATIONS} are needed")
    else:
        used = len(checks.representation(adata, options.use_rep))
    checks.n_domains(options.n_domains, used)
    if options.library_key is not None:
        checks.library_names(adata, options.library_key)
    if SPATIAL in adata.uns:  # what cannot be drawn shows now, not after training
        spots(adata, library_key=options.library_key)
    for key in options.config.extra_views.values():
        checks.representation(adata, key)

"""One whole run: from a file or folder to a folder of results."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmfg import pp
from stmfg._core import checks
from stmfg._core.blocks import counts_read_once, row_sums
from stmfg._core.files import fingerprint
from stmfg._core.spots import spots
from stmfg._core.timing import recording, stage
from stmfg._keys import EMBEDDING, IMAGE_FEATURES, SLICE, SPATIAL, UNS, VIEW_WEIGHTS
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.slices import read_sheet, read_slices
from stmfg.model import graphs
from stmfg.workflow._results import CHECKPOINT, OUTPUTS, collected_warnings, describe, reserved, write

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["OUTPUTS", "repeat", "run"]

logger = logging.getLogger("stmfg")


def run(
    source: str | Path | Sequence[str | Path] | AnnData,
    output: str | Path,
    *,
    n_domains: int | str = "auto",
    preset: str = "default",
    platform: str | None = None,
    use_rep: str | None = None,
    library_key: str | None = None,
    random_state: int = 0,
    device: str = "auto",
    stability: int = 0,
    resume: bool = False,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Read, find domains, and write result, table, figure, report and record.

    Parameters
    ----------
    source
        ``.h5ad``, ``.zarr``, the folder of an instrument, or an AnnData (changed in place). Several files or folders
        are slices, see :func:`stmfg.read_slices`: their domains are found together and named alike. So are the samples
        of a sheet (``.csv``), see :func:`stmfg.workflow.batch`; then the share of each sample that every domain takes
        (``composition.csv``) and how it differs between conditions (``abundance.csv``) are written too.
    output
        Folder for the results; made when missing. Files of an earlier run are replaced only when the new
        ones are whole.
    n_domains
        Number of domains or ``"auto"``.
    platform
        What wrote the folder, as in :func:`stmfg.read`.
    preset, use_rep, random_state, device, progress
        As in :func:`stmfg.tl.domains`.
    library_key
        Column of ``obs`` that names the slice; of several inputs it is ``"stmfg_slice"`` by itself.
    stability
        Further runs with other seeds, that tell how much of the result depends on the seed.
    resume
        Continue an interrupted run of the same data and options from its checkpoint.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    The record, as written to ``run.json``.

    Raises
    ------
    InputError
        If input, options or output folder cannot be used. Nothing is written then.
    """
    output = Path(output).expanduser()
    # All that can be known without reading the input is checked before it is read.
    config = Config.preset(preset).replace(**options)
    random_state = checks.random_state(random_state)
    if isinstance(stability, bool) or not isinstance(stability, int) or stability < 0:
        raise InputError(f"stability is {stability!r}; it must be the number of further runs, 0 for none")
    checks.writable(output)
    state = fingerprint(source) if isinstance(source, (str, Path)) else {}  # as it is when it is read
    with recording() as stages, collected_warnings() as messages, counts_read_once():
        with stage("read"):
            if _is_sheet(source) or (isinstance(source, Sequence) and not isinstance(source, str)):
                library_key = _slice_key(library_key)
            adata = _read(source, platform, use_rep)
        if IMAGE_FEATURES in config.extra_views.values() and IMAGE_FEATURES not in adata.obsm:
            with stage("image"):
                pp.image(adata)
        _check(adata, n_domains, use_rep, library_key, stacked=config.stacked)
        for key in config.extra_views.values():
            checks.representation(adata, key)
        from stmfg import tl
        from stmfg.model.train import pick_device

        where = str(pick_device(device))  # loads torch, so after what can be refused without
        for key, slot in ((EMBEDDING, adata.obsm), (VIEW_WEIGHTS, adata.obsm), (UNS, adata.uns)):
            slot.pop(key, None)  # of an earlier run: this one trains anew
        checkpoint = output / CHECKPOINT
        choices: dict[str, Any] = {
            "n_domains": n_domains,
            "preset": preset,
            "use_rep": use_rep,
            "library_key": library_key,
            "random_state": random_state,
            "device": device,
            **options,
        }
        with reserved(output):
            if not resume:
                checkpoint.unlink(missing_ok=True)
            try:
                tl.domains(adata, checkpoint=checkpoint, progress=progress, **choices)
            except InputError:
                if not resume:
                    checkpoint.unlink(missing_ok=True)  # there is nothing to continue
                raise
            agreement = {}
            if stability:
                from stmfg.workflow._stability import stability as agreement_of

                with stage("stability"):
                    agreement = agreement_of(adata, stability, **choices)
            given = choices | {"platform": platform, "stability": stability}
            about = {"device": where, "params": config.to_dict(), "stages": stages, "warnings": messages}
            record = describe(adata, source, given) | about | {"input_state": state, "stability": agreement}
            try:
                write(adata, output, record)
            except InputError:
                checkpoint.unlink(missing_ok=True)  # there is nothing to continue
                raise
            checkpoint.unlink(missing_ok=True)
    return record


def _read(source: str | Path | Sequence[str | Path] | AnnData, platform: str | None, use_rep: str | None) -> AnnData:
    """Read one input, or several as slices."""
    if _is_sheet(source):
        return read_sheet(source, platform=platform, use_rep=use_rep)  # type: ignore[arg-type]
    if isinstance(source, (str, Path)):
        return read(source, platform=platform)
    return read_slices(source, platform=platform, use_rep=use_rep) if isinstance(source, Sequence) else source


def _is_sheet(source: object) -> bool:
    return isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".csv"


def _slice_key(library_key: str | None) -> str:
    """Return the column that names the slices of several inputs."""
    if library_key not in (None, SLICE):
        raise InputError(f"library_key is {library_key!r}, but several inputs are slices by themselves; leave it out")
    return SLICE


def repeat(path: str | Path) -> dict[str, Any]:
    """Return what :func:`run` was called with, from the ``run.json`` it wrote.

    Parameters
    ----------
    path
        The ``run.json``, or the folder it is in.

    Returns
    -------
    ``source`` and the options of :func:`run`. Hyperparameters whose defaults have changed since are among them.

    Raises
    ------
    InputError
        If the file cannot be read, is no record of a run, or the input was no file.
    """
    path = Path(path).expanduser()
    path = path / "run.json" if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if "model" in record["options"]:
            raise ValueError("it is of stmfg apply, which trains nothing")
        options, params = dict(record["options"]), Config.from_dict(record["params"]).to_dict()
        preset = Config.preset(options["preset"]).to_dict()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no record of a run ({reason}); give the run.json of one") from error
    if not record.get("input"):
        raise InputError(f"{path} is of data that were in memory; give INPUT too")
    if record.get("version") != __version__:
        logger.warning("the record is of stmfg %s, this is %s", record.get("version"), __version__)
    return {"source": record["input"]} | options | {k: v for k, v in params.items() if v != preset[k]}


def _check(
    adata: AnnData, n_domains: int | str, use_rep: str | None, library_key: str | None, *, stacked: bool
) -> None:
    """Run every check that needs no computing, so that bad input is refused at once."""
    checks.observations(adata)
    checks.text(adata)
    graphs.unlinked(checks.coordinates(adata), None, stacked=stacked)
    if use_rep is None:
        used = int((row_sums(checks.counts(adata))[1] > 0).sum())
        if used < checks.MIN_OBSERVATIONS:
            raise InputError(f"only {used} spots have counts; at least {checks.MIN_OBSERVATIONS} are needed")
    else:
        used = len(checks.representation(adata, use_rep))
    checks.n_domains(n_domains, used)
    if library_key is not None:
        checks.library_names(adata, library_key)
    if SPATIAL in adata.uns:  # what cannot be drawn shows now, not after training
        spots(adata, library_key=library_key)

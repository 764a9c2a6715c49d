"""One whole run: from a file or folder to a folder of results."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmfg._core import checks
from stmfg._core.blocks import counts_read_once
from stmfg._core.files import fingerprint
from stmfg._core.progress import WORDS, is_watched, planned, showing
from stmfg._core.stored_graph import RECORD, forget_training, graph_options
from stmfg._core.timing import loading, recording, stage
from stmfg._keys import DOMAIN, UNS
from stmfg.errors import InputError
from stmfg.io.sheet import describe_spots
from stmfg.workflow._earlier import CHECKPOINT, refuse_earlier
from stmfg.workflow._results import collected_warnings, describe, reserved, write
from stmfg.workflow._room import check_room
from stmfg.workflow.options import RunOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from stmfg.workflow._input import Source

logger = logging.getLogger("stmfg")

_SHARES: Final = {
    "read": 0.01, "image": 0.1, "libraries": 0.09, "check": 0.01, "features": 0.06, "train": 0.36, "graphs": 0.02,
    "embedding": 0.01, "number of domains": 0.14, "domains": 0.09, "tree": 0.15, "halves": 0.15, "stability": 0.0,
    "markers": 0.03, "figures": 0.02, "report": 0.03, "result": 0.01,
}  # fmt: skip
"""The stages of a run and their usual shares of its time, as of 4,000 spots: what a guess of the rest begins with."""


def run(
    source: Source,
    output: str | Path,
    options: RunOptions | None = None,
    *,
    progress: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Read, find domains, and write result, tables, figure, report and record.

    Parameters
    ----------
    source
        ``.h5ad``, ``.zarr``, the folder of an instrument, or an AnnData (changed in place). Several files or folders
        are slices, see :func:`stmfg.read_slices`: their domains are found together and named alike. So are the samples
        of a sheet (``.csv``), see :func:`stmfg.workflow.batch`; then the share of each sample that every domain takes
        (``composition.csv``) and how it differs between conditions (``abundance.csv``) are written too.
    output
        Folder for the results; made when missing. Those of an earlier run are replaced with ``overwrite`` alone, and
        only when the new ones are whole.
    options
        All options at once; those of :class:`RunOptions` when not given.
    progress
        Whether to show each stage.
    changes
        Options to change, by their names in :class:`RunOptions`, and hyperparameters by theirs in
        :class:`stmfg.Config`.

    Returns
    -------
    The record, as written to ``run.json``.

    Raises
    ------
    InputError
        If input, options or output folder cannot be used. Nothing is written then.
    """
    options = RunOptions.of(options, **changes)
    if options.cluster is not None or options.joint:
        if not isinstance(source, (str, Path)) or Path(source).suffix.lower() != ".csv":
            name = "joint" if options.cluster is None else "cluster"
            raise InputError(f"{name} is for the samples of a sheet (.csv); leave it out")
        if options.cluster is not None:
            from stmfg.workflow._cohort import run_cohort

            return run_cohort(source, output, options, progress=progress)
    with loading():
        from stmfg.workflow._input import add_image_features, check_input, read_input  # loads torch

    output = Path(output).expanduser()
    checks.writable(output)
    may = {"overwrite": options.overwrite, "resume": options.resume}
    refuse_earlier(output, **may)
    state = fingerprint(source) if isinstance(source, (str, Path)) else {}  # as it is when it is read
    with recording() as stages, collected_warnings() as messages, counts_read_once(), planned(_shares(options)):
        with showing(show=progress and is_watched()):  # in a file, a refusal is the only line
            adata, options = read_input(source, options)
            describe_spots(adata.obs, options.metadata, str(source))
            add_image_features(adata, options.config)
            check_input(adata, options)
            check_room(adata, output, options.layer)
        with showing(show=progress and is_watched()), stage("libraries"):
            from stmfg.model.threads import beside, one_thread  # loads torch, so after what can be refused without
            from stmfg.model.train import pick_device

            device = str(pick_device(options.device))
            beside(import_module, "matplotlib.figure")  # which is needed at the end
        if progress and not is_watched():
            places = list(_shares(options))
            for name, seconds in ((early["name"], early["seconds"]) for early in stages):
                words, place = WORDS.get(name, name), places.index(name) + 1
                logger.info("%s: %.1f s (%d of %d)", words, seconds, place, len(places))
        forget_training(adata)
        with showing(show=progress), reserved(output, **may), one_thread():
            agreement = _find_domains(adata, output / CHECKPOINT, options)
            record = describe(adata, source, options.to_dict()) | {
                "device": device,
                "params": options.config.to_dict() | graph_options(adata),
                "spatial_graph": str(adata.uns[UNS][RECORD]["made_by"]),
                "stages": stages,
                "warnings": messages,
                "input_state": state,
                "stability": agreement,
            }
            try:
                write(adata, output, record)
            except InputError:
                (output / CHECKPOINT).unlink(missing_ok=True)  # there is nothing to continue
                raise
            (output / CHECKPOINT).unlink(missing_ok=True)
    return record


def _shares(options: RunOptions) -> dict[str, float]:
    """Return the stages of a run, in order, with their usual shares of its time."""
    shares = dict(_SHARES)
    if "image" not in options.view:
        del shares["image"]
    if options.n_domains != "auto":
        del shares["number of domains"]
    if not options.config.redraws:
        del shares["halves"]
    names = ("features", "train", "graphs", "embedding", "number of domains", "domains")
    again = options.stability * sum(shares.get(name, 0.0) for name in names)
    return {name: again or share for name, share in shares.items() if again or name != "stability"}


def _find_domains(adata: AnnData, checkpoint: Path, options: RunOptions) -> dict[str, Any]:
    """Find the domains, and return how well they agree with those of other seeds where that was asked for."""
    from stmfg import tl

    if not options.resume:
        checkpoint.unlink(missing_ok=True)
    try:
        tl.domains(adata, checkpoint=checkpoint, progress=False, **options.for_domains())
    except InputError:
        if not options.resume:
            checkpoint.unlink(missing_ok=True)  # there is nothing to continue
        raise
    if not options.stability:
        return {}
    with stage("stability"):
        return _measure_stability(adata, options)


def _measure_stability(adata: AnnData, options: RunOptions) -> dict[str, Any]:
    """Do all that has a seed again with the next seeds: training, clusterings, the choice of a number of domains.

    Returns
    -------
    ``seeds``; ``ari``, the adjusted Rand index (Hubert and Arabie 1985) between the result and each further run, 1
    where they agree on every spot and 0 as by chance; its mean, ``mean_ari``; ``n_domains`` of each further run.
    """
    from stmfg.metrics import ari
    from stmfg.model.estimator import STMFG

    seeds = [(options.random_state + i) % 2**32 for i in range(1, options.stability + 1)]
    source = {name: getattr(options, name) for name in ("use_rep", "layer", "library_key")}
    settings = {name: getattr(options, name) for name in ("preset", "device")} | options.hyperparameters
    settings |= {"n_domains": min(options.levels, default=options.n_domains), "finest_level": 0}
    labels, level = [], logger.level
    logger.setLevel(logging.ERROR)  # the run itself has given the warnings
    try:
        for seed in seeds:
            model = STMFG(**settings, random_state=seed)
            with recording(), showing(show=False):  # these stages are not those of the run
                result = model.fit(adata, **source).result
            labels.append(np.asarray(result.labels))  # type: ignore[union-attr]
    finally:
        logger.setLevel(level)
    agreement = [ari(adata.obs[DOMAIN].astype(str), other) for other in labels]
    n_domains = [len(set(other)) for other in labels]
    return {"seeds": seeds, "ari": agreement, "mean_ari": sum(agreement) / len(seeds), "n_domains": n_domains}

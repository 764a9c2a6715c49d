"""A trained model on a new slice: from file to the same folder of results as a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmfg._core import checks
from stmfg._core.blocks import counts_read_once
from stmfg._core.progress import is_watched, showing
from stmfg._core.stored_graph import forget_training
from stmfg._core.timing import recording, stage
from stmfg._keys import UNS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.writing import make_writable
from stmfg.workflow._earlier import refuse_earlier
from stmfg.workflow._input import add_image_features, slices_of
from stmfg.workflow._results import collected_warnings, describe, reserved, write
from stmfg.workflow.options import OPTIONS, RunOptions

if TYPE_CHECKING:
    from anndata import AnnData


def run_apply(
    reference: str | Path, source: str | Path | AnnData, output: str | Path, *, progress: bool = False, **options: Any
) -> dict[str, Any]:
    """Read a slice, find the domains of a model in it, and write result, tables, figure, report and record.

    Parameters
    ----------
    reference
        Folder of an earlier run, its ``result.h5ad``, or the folder of a saved model.
    source, output, progress
        As in :func:`stmfg.workflow.run`.
    options
        ``platform``, ``layer``, ``library_key``, ``device``, ``title`` and ``overwrite``, as in :class:`RunOptions`.

    Returns
    -------
    The record, as written to ``run.json``. Besides that of a run it has ``genes_shared``, and ``far``: the share of
    the spots of each slice that are unlike what the model was trained on.

    Raises
    ------
    InputError
        If there is no model, the data do not fit it, or the output folder cannot be used. Nothing is written then.
    """
    names = [name for name, option in OPTIONS.items() if "apply" in option.commands.split()]
    for name in options:
        if name not in names:
            raise InputError(f"{name!r} does not go with a trained model; the options are {', '.join(names)}")
    chosen = RunOptions(**options)
    reference, output = Path(reference).expanduser(), Path(output).expanduser()
    is_sheet = isinstance(source, (str, Path)) and Path(source).suffix.lower() == ".csv"
    if chosen.cluster is not None and not is_sheet:
        raise InputError("cluster is for the samples of a sheet (.csv); leave it out")
    checks.writable(output)
    if output.exists() and reference.exists() and output.samefile(reference):
        raise InputError(f"{output} holds the model; give another folder for the results")
    refuse_earlier(output, overwrite=chosen.overwrite)
    if is_sheet:
        from stmfg.workflow._cohort import apply_to_cohort

        return apply_to_cohort(reference, source, output, chosen, progress=progress)
    with recording() as stages, collected_warnings() as messages, counts_read_once():
        from stmfg import tl
        from stmfg.model.estimator import STMFG  # loads torch, so after what can be refused without

        with showing(show=progress and is_watched()):  # in a file, a refusal is the only line
            with stage("model"):
                model = STMFG.load(reference, device=chosen.device)
            with stage("read"):
                adata = read(source, platform=chosen.platform) if isinstance(source, (str, Path)) else source
            add_image_features(adata, model.config)
            make_writable(adata)
            forget_training(adata)
            tl.apply(adata, model, layer=chosen.layer, library_key=chosen.library_key or slices_of(adata))
        slices, far = adata.uns[UNS]["slices"], adata.uns[UNS]["far"]
        kept = {name: getattr(chosen, name) for name in names if name != "overwrite"}
        record = describe(adata, source, {"model": str(reference), "use_rep": model.use_rep} | kept) | {
            "genes_shared": float(adata.uns[UNS]["genes_shared"]),
            "far": {str(name) or "all": float(share) for name, share in zip(slices, far, strict=True)},
            "device": str(model.device),
            "params": model.config.to_dict(),
            "stages": stages,
            "warnings": messages,
        }
        with showing(show=progress), reserved(output, overwrite=chosen.overwrite):
            write(adata, output, record)
    return record

"""A trained model on a new slice: from file to the same folder of results as a whole run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stmfg import pp
from stmfg._core import checks
from stmfg._core.blocks import counts_read_once
from stmfg._core.timing import recording, stage
from stmfg._keys import EMBEDDING, IMAGE_FEATURES, UNS, VIEW_WEIGHTS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.workflow._results import collected_warnings, describe, reserved, write

if TYPE_CHECKING:
    from anndata import AnnData


def run_apply(
    reference: str | Path,
    source: str | Path | AnnData,
    output: str | Path,
    *,
    platform: str | None = None,
    library_key: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Read a slice, find the domains of a model in it, and write result, table, figure, report and record.

    Parameters
    ----------
    reference
        Folder of an earlier run, its ``result.h5ad``, or the folder of a saved model.
    source, output, platform
        As in :func:`stmfg.workflow.run`.
    library_key, device
        As in :func:`stmfg.tl.apply`.

    Returns
    -------
    The record, as written to ``run.json``. Besides that of a run it has ``genes_shared``, and ``far``: the share of
    the spots of each slice that are unlike what the model was trained on.

    Raises
    ------
    InputError
        If there is no model, the data do not fit it, or the output folder cannot be used. Nothing is written then.
    """
    reference, output = Path(reference).expanduser(), Path(output).expanduser()
    checks.writable(output)
    if output.exists() and reference.exists() and output.samefile(reference):
        raise InputError(f"{output} holds the model; give another folder for the results")
    with recording() as stages, collected_warnings() as messages, counts_read_once():
        from stmfg import tl
        from stmfg.model.estimator import STMFG  # loads torch, so after what can be refused without

        with stage("model"):
            model = STMFG.load(reference, device=device)
        with stage("read"):
            adata = read(source, platform=platform) if isinstance(source, (str, Path)) else source
        if IMAGE_FEATURES in model.config.extra_views.values() and IMAGE_FEATURES not in adata.obsm:
            with stage("image"):
                pp.image(adata)
        for key, slot in ((EMBEDDING, adata.obsm), (VIEW_WEIGHTS, adata.obsm), (UNS, adata.uns)):
            slot.pop(key, None)  # of an earlier run
        tl.apply(adata, model, library_key=library_key)
        options = {"model": str(reference), "platform": platform, "library_key": library_key, "device": device}
        found = adata.uns[UNS]
        record = describe(adata, source, options) | {
            "genes_shared": float(found["genes_shared"]),
            "far": {
                str(name) or "all": float(share) for name, share in zip(found["slices"], found["far"], strict=True)
            },
            "device": str(model.device),
            "params": model.config.to_dict(),
            "stages": stages,
            "warnings": messages,
        }
        record["options"]["use_rep"] = model.use_rep
        with reserved(output):
            write(adata, output, record)
    return record

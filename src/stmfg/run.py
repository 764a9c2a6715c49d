"""One whole run: from a file or folder to a folder of results."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg import _validate, gr, pp
from stmfg._blocks import row_sums
from stmfg._errors import InputError
from stmfg._fingerprint import fingerprint
from stmfg._io_slices import read_slices
from stmfg._keys import CONFIDENCE, DOMAIN, EMBEDDING, IMAGE_FEATURES, SLICE, UNS, VIEW_WEIGHTS
from stmfg._stages import recording, stage
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.io import read

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

__all__ = ["OUTPUTS", "repeat", "run"]

logger = logging.getLogger("stmfg")

OUTPUTS: Final = ("result.h5ad", "domains.csv", "domains.png", "report.html", "run.json")
"""Files of a finished run; ``run.json`` is put in place last."""
CHECKPOINT: Final = "checkpoint.safetensors"
"""Left in the output folder by a run that was interrupted; ``--resume`` continues from it."""
_LIBRARIES: Final = ("anndata", "numpy", "pandas", "scikit-learn", "scipy", "torch")


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
    resume: bool = False,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Read, find domains, and write result, table, figure, report and record.

    Parameters
    ----------
    source
        ``.h5ad``, ``.zarr``, the folder of an instrument, or an AnnData (changed in place). Several files or folders
        are slices, see :func:`stmfg.read_slices`: their domains are found together and named alike.
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
    resume
        Continue an interrupted run of the same data and options from its checkpoint.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    The record, as written to ``run.json``; empty in all but the first of several processes (``torchrun``), which
    train together.

    Raises
    ------
    InputError
        If input, options or output folder cannot be used. Nothing is written then.
    """
    output = Path(output).expanduser()
    # All that can be known without reading the input is checked before it is read.
    config = Config.preset(preset).replace(**options)
    random_state = _validate.random_state(random_state)
    _validate.writable(output)
    state = fingerprint(source) if isinstance(source, (str, Path)) else {}  # as it is when it is read
    with recording() as stages, collected_warnings() as messages:
        with stage("read"):
            if isinstance(source, Sequence) and not isinstance(source, str):
                library_key = _slice_key(library_key)
            adata = _read(source, platform, use_rep)
        if IMAGE_FEATURES in config.extra_views.values() and IMAGE_FEATURES not in adata.obsm:
            with stage("image"):
                pp.image(adata)
        _check(adata, n_domains, use_rep, library_key, stacked=config.stacked)
        for key in config.extra_views.values():
            _validate.representation(adata, key)
        from stmfg import tl
        from stmfg.train import pick_device

        where = str(pick_device(device))  # loads torch, so after what can be refused without
        for key, slot in ((EMBEDDING, adata.obsm), (VIEW_WEIGHTS, adata.obsm), (UNS, adata.uns)):
            slot.pop(key, None)  # of an earlier run: this one trains anew
        if int(os.environ.get("RANK", "0")):  # helps the first process train; that one writes
            from stmfg.model import STMFG

            STMFG(config, random_state=random_state, device=device).fit(adata, use_rep=use_rep, library_key=library_key)
            return {}
        checkpoint = output / CHECKPOINT
        with reserved(output):
            if not resume:
                checkpoint.unlink(missing_ok=True)
            try:
                tl.domains(
                    adata,
                    n_domains=n_domains,
                    preset=preset,
                    use_rep=use_rep,
                    library_key=library_key,
                    random_state=random_state,
                    device=device,
                    checkpoint=checkpoint,
                    progress=progress,
                    **options,
                )
            except InputError:
                if not resume:
                    checkpoint.unlink(missing_ok=True)  # there is nothing to continue
                raise
            given = {
                "n_domains": n_domains,
                "preset": preset,
                "platform": platform,
                "use_rep": use_rep,
                "library_key": library_key,
                "random_state": random_state,
                "device": device,
                **options,
            }
            about = {"device": where, "params": config.to_dict(), "stages": stages, "warnings": messages}
            record = describe(adata, source, given) | about | {"input_state": state}
            write(adata, output, record)
            checkpoint.unlink(missing_ok=True)
    return record


def describe(
    adata: AnnData, source: str | Path | Sequence[str | Path] | AnnData, options: dict[str, Any]
) -> dict[str, Any]:
    """Return what the record of a run says of its data, options, versions and training."""
    return {
        "version": __version__,
        "input": _named(source),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "n_domains": int(adata.uns[UNS]["n_domains"]),
        "options": options,
        "versions": _versions(),
        "history": {k: np.asarray(v).tolist() for k, v in adata.uns[UNS]["history"].items()},
    }


def _read(source: str | Path | Sequence[str | Path] | AnnData, platform: str | None, use_rep: str | None) -> AnnData:
    """Read one input, or several as slices."""
    if isinstance(source, (str, Path)):
        return read(source, platform=platform)
    return read_slices(source, platform=platform, use_rep=use_rep) if isinstance(source, Sequence) else source


def _named(source: str | Path | Sequence[str | Path] | AnnData) -> str | list[str]:
    """Return what to read again to repeat a run; nothing where the data were in memory."""
    if isinstance(source, (str, Path)):
        return str(source)
    return list(map(str, source)) if isinstance(source, Sequence) else ""


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
        options, params = dict(record["options"]), Config(**record["params"]).to_dict()
        preset = Config.preset(options["preset"]).to_dict()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no record of a run ({reason}); give the run.json of one") from error
    if not record.get("input"):
        raise InputError(f"{path} is of data that were in memory; give INPUT too")
    if record.get("version") != __version__:
        logger.warning("the record is of stmfg %s, this is %s", record.get("version"), __version__)
    return {"source": record["input"]} | options | {k: v for k, v in params.items() if v != preset[k]}


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Make the output folder and keep other runs out of it; leave no empty folder behind."""
    made = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    lock = output / ".lock"
    try:
        with lock.open("w") as file:
            if not _locked(file, lock):
                made = False  # it is the other run's
                raise InputError(f"another run is writing to {output}; wait for it to end or give another folder")
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
    finally:
        if made and not any(output.iterdir()):
            output.rmdir()


def _locked(file: IO[str], path: Path) -> bool:
    """Lock a file for this process, until it ends in whatever way; False where another one has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())  # not one the other run has just removed
    except OSError:
        return False


def _check(
    adata: AnnData, n_domains: int | str, use_rep: str | None, library_key: str | None, *, stacked: bool
) -> None:
    """Run every check that needs no computing, so that bad input is refused at once."""
    _validate.observations(adata)
    gr.apart(_validate.coordinates(adata), None, stacked=stacked)
    if use_rep is None:
        used = int((row_sums(_validate.counts(adata))[1] > 0).sum())
        if used < _validate.MIN_OBSERVATIONS:
            raise InputError(f"only {used} spots have counts; at least {_validate.MIN_OBSERVATIONS} are needed")
        if n_domains != "auto" and used < _validate.n_domains(n_domains, adata.n_obs):
            raise InputError(f"{n_domains} domains were asked for, but only {used} spots have counts")
    else:
        _validate.representation(adata, use_rep)
    if library_key is not None:
        gr.library_names(adata, library_key)
    if n_domains != "auto":
        _validate.n_domains(n_domains, adata.n_obs)


def write(adata: AnnData, output: Path, record: dict[str, Any]) -> None:
    """Write all files next to their place, then move them there."""
    from matplotlib.figure import Figure

    from stmfg import pl, report

    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=output))
    try:
        with stage("figures"):
            table = adata.obs[[DOMAIN, CONFIDENCE]].set_axis(["domain", "confidence"], axis=1)
            if isinstance(record["input"], list):
                table.insert(0, "slice", adata.obs[SLICE])
                table.index = pd.Index(
                    [spot.removesuffix(f"_{name}") for spot, name in zip(table.index, table["slice"], strict=True)]
                )  # as in the slice's own file
            table.to_csv(partial / "domains.csv", index_label="spot", float_format="%.4f")
            figure = Figure(figsize=(8, 7), layout="constrained")
            pl.domains(adata, ax=figure.add_subplot(), library_key=record["options"]["library_key"])
            figure.savefig(partial / "domains.png", dpi=150)
        with stage("result"):
            adata.write_h5ad(partial / "result.h5ad")
        with stage("report"):
            report.write(adata, partial / "report.html", run=record)
        (partial / "run.json").write_text(json.dumps(record, indent=1) + "\n")
        for name in OUTPUTS:
            (partial / name).replace(output / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # installed without metadata
            found[name] = str(getattr(sys.modules.get(name), "__version__", "unknown"))
    return found


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Keep what is logged as a warning, for the record and the report."""
    handler = _Collector()
    logger.addHandler(handler)
    try:
        yield handler.messages
    finally:
        logger.removeHandler(handler)

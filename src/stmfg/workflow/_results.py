"""The folder of results: who may write to it, what is in it, and how it appears whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import platform as platforms
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

from stmfg._core.timing import stage
from stmfg._keys import CONFIDENCE, DOMAIN, SLICE, UNS
from stmfg._version import __version__
from stmfg.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

logger = logging.getLogger("stmfg")

OUTPUTS: Final = ("result.h5ad", "domains.csv", "domains.png", "report.html", "run.json")
"""Files of a finished run. ``run.json`` is taken away first and put in place last: where it is, the others are its."""
BETWEEN: Final = ("composition.csv", "abundance.csv")
"""Tables of a run of several slices: how much of each every domain takes, and how conditions differ in that."""
CHECKPOINT: Final = "checkpoint.safetensors"
"""Left in the output folder by a run that was interrupted; ``--resume`` continues from it."""
_PARTIAL: Final = ".partial-"
_LIBRARIES: Final = ("anndata", "numpy", "pandas", "scikit-learn", "scipy", "torch")


@contextmanager
def reserved(output: Path) -> Iterator[None]:
    """Make the output folder and keep other runs out of it; leave no empty folder behind."""
    made = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    lock = output / ".lock"
    try:
        if lock.is_symlink():
            lock.unlink()  # what it leads to is not ours to open
        with lock.open("a") as file, _removed(file, lock), _removed(file, lock):  # twice: Ctrl-C may stop the first
            if not _locked(file, lock):
                made = False  # it is the other run's
                raise InputError(f"another run is writing to {output}; wait for it to end or give another folder")
            for left in output.glob(f"{_PARTIAL}*"):  # by a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield
    finally:
        if made and not any(output.iterdir()):
            output.rmdir()


@contextmanager
def _removed(file: IO[str], path: Path) -> Iterator[None]:
    """Remove a lock at the end, unless another process has it or has taken its place."""
    try:
        yield
    finally:
        if path.exists() and _locked(file, path):
            path.unlink(missing_ok=True)


def _locked(file: IO[str], path: Path) -> bool:
    """Lock a file for this process, until it ends in whatever way; False where another one has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())  # not one the other run has just removed
    except OSError:
        return False


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
        "computer": _computer(),
        "versions": _versions(),
        "history": {k: np.asarray(v).tolist() for k, v in adata.uns[UNS]["history"].items()},
    }


def _named(source: str | Path | Sequence[str | Path] | AnnData) -> str | list[str]:
    """Return what to read again to repeat a run; nothing where the data were in memory."""
    if isinstance(source, (str, Path)):
        return str(Path(source).expanduser().absolute())
    return [str(Path(one).expanduser().absolute()) for one in source] if isinstance(source, Sequence) else ""


def write(adata: AnnData, output: Path, record: dict[str, Any]) -> None:
    """Write all files next to their place, then move them there.

    A run that is killed on the way leaves the earlier results, or a folder without a record; never a mixture with one.
    """
    from matplotlib.figure import Figure

    from stmfg import pl, report

    joined = record["options"]["library_key"] == SLICE
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=output))
    try:
        with stage("figures"):
            table = adata.obs[[DOMAIN, CONFIDENCE]].set_axis(["domain", "confidence"], axis=1)
            if joined:
                table.insert(0, "slice", adata.obs[SLICE])
                table.index = pd.Index(
                    [spot.removesuffix(f"_{name}") for spot, name in zip(table.index, table["slice"], strict=True)]
                )  # as in the slice's own file
            table.to_csv(partial / "domains.csv", index_label="spot", float_format="%.4f")
            figure = Figure(figsize=(8, 7), layout="constrained")
            pl.domains(adata, ax=figure.add_subplot(), library_key=record["options"]["library_key"])
            figure.savefig(partial / "domains.png", dpi=150)
            between = _between(adata) if joined else {}
            for name, found in between.items():
                found.to_csv(partial / name, index=False, float_format="%.6g")
        with stage("result"):
            _write_result(adata, partial / "result.h5ad")
        with stage("report"):
            report.write(adata, partial / "report.html", run=record)
        (partial / "run.json").write_text(json.dumps(record, indent=1) + "\n")
        names = (*between, *OUTPUTS)
        for name in names:
            with (partial / name).open("rb+") as file:
                os.fsync(file.fileno())  # a name must not reach the disk before what it names
        for name in (OUTPUTS[-1], *BETWEEN):
            (output / name).unlink(missing_ok=True)
        for name in names:
            (partial / name).replace(output / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_result(adata: AnnData, path: Path) -> None:
    """Write the AnnData; say what of the user's own, in ``uns`` for example, has no form in a file."""
    try:
        adata.write_h5ad(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the result cannot be written, since the input holds what no file can ({reason})") from error


def _between(adata: AnnData) -> dict[str, pd.DataFrame]:
    """Return the tables of several slices; conditions are compared where each has at least two."""
    from stmfg.tl import _abundance

    found = {BETWEEN[0]: _abundance.composition(adata, sample_key=SLICE)}
    about = adata.obs.drop_duplicates(SLICE)
    if "condition" in about and about["condition"].nunique() > 1:
        donors = "donor" if "donor" in about else None
        try:
            found[BETWEEN[1]] = _abundance.abundance(
                adata, sample_key=SLICE, condition_key="condition", donor_key=donors
            )
        except InputError as error:
            logger.warning("conditions are not compared: %s", error)
    return found


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # installed without metadata
            found[name] = str(getattr(sys.modules.get(name), "__version__", "unknown"))
    return found


def _computer() -> dict[str, Any]:
    """Return what rounding depends on, besides the versions."""
    import torch

    return {"system": platforms.system(), "processor": platforms.machine(), "threads": torch.get_num_threads()}


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

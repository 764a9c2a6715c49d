"""Many samples, one after the other or side by side: from a sheet to a folder of results for each, and an overview."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.auto import tqdm

from stmfg._core import checks
from stmfg.errors import InputError
from stmfg.io import sheet as _sheet
from stmfg.workflow import _sample, _workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

__all__ = ["Batch", "batch"]

logger = logging.getLogger("stmfg")


class Batch(NamedTuple):
    """What came of a batch: the rows of ``summary.csv``, and why samples failed."""

    summary: pd.DataFrame
    failures: dict[str, _sample.Failure]


def batch(
    sheet: str | Path,
    output: str | Path,
    *,
    jobs: int | None = None,
    slurm: Mapping[str, str] | None = None,
    progress: bool = False,
    **options: Any,
) -> Batch:
    """Run every sample of a sheet by itself; those that are finished are not run again.

    A sample is finished if its folder holds all files of a run with the same options and an input of the same path,
    size and time of change. One that was interrupted continues from its checkpoint. One that fails leaves the others
    alone.

    Parameters
    ----------
    sheet
        CSV with the columns ``sample`` and ``path`` (relative to the sheet), and where wanted ``donor``, ``condition``
        and the options ``platform``, ``n_domains``, ``preset``, ``use_rep``, ``library_key``, ``seed``. A cell that is
        filled counts more than ``options``.
    output
        Folder for the results; made when missing.
    jobs
        Samples at a time, each in a process of its own; 1 when not given, on Slurm as many as it allows.
    slurm
        Run the samples as jobs of Slurm, with these options of ``sbatch``; their names are submitit's.
    progress
        Whether to show how many samples are done.
    options
        Options of :func:`stmfg.workflow.run`, for every sample.

    Returns
    -------
    The table that ``summary.csv`` holds, and the samples that failed. Written to ``output``: one folder a sample with
    what :func:`stmfg.workflow.run` writes, ``summary.csv`` and ``index.html``.

    Raises
    ------
    InputError
        If sheet, options or output folder cannot be used. Nothing is run then.
    """
    output = Path(output).expanduser()
    samples = _sheet.read(sheet)
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}; give how many samples to run at a time, at least 1")
    _sample.check(options)
    checks.writable(output)
    tasks = [_task(sample, output, options) for sample in samples]
    records = {task.name: record for task in tasks if (record := _sample.finished(task)) is not None}
    todo = [task for task in tasks if task.name not in records]
    logger.info("%d of %d samples are finished already", len(records), len(tasks))
    failures: dict[str, _sample.Failure] = {}
    if todo:
        results = (
            _workers.here(todo, min(jobs or 1, len(todo)))
            if slurm is None
            else _workers.slurm(todo, min(jobs or len(todo), len(todo)), output / ".slurm", slurm)
        )
        bar = tqdm(total=len(tasks), initial=len(records), unit="sample", disable=not progress)
        with closing(results), bar:
            for name, failure in results:
                if failure is not None:
                    failures[name] = failure
                    logger.warning("%s: %s", name, failure.reason)
                bar.update()
    for task in todo:
        if task.name not in failures:
            record = _sample.finished(task)
            if record is None:
                failures[task.name] = _sample.Failure(
                    f"{task.folder} has been changed since; run again", bad_input=False
                )
            else:
                records[task.name] = record
    from stmfg.report import write_overview  # loads matplotlib, when the processes that need the memory have ended

    output.mkdir(parents=True, exist_ok=True)
    reasons = {name: failure.reason for name, failure in failures.items()}
    return Batch(write_overview(samples, records, reasons, output), failures)


def _task(sample: _sheet.Sample, output: Path, options: dict[str, Any]) -> _sample.Task:
    """Return the run of a sample; refuse to write into what it reads."""
    folder, source = output.absolute() / sample.name, sample.source
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"output folder {output} lies in {source}, the input of {sample.name!r}; give another folder")
    return _sample.Task(sample.name, str(source), str(folder), options | sample.options)

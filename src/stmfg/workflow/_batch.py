"""Many samples, one after the other or side by side: from a sheet to a folder of results for each, and an overview."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from stmfg._core import checks
from stmfg.errors import InputError
from stmfg.io.sheet import read_samples
from stmfg.workflow import _workers
from stmfg.workflow._sample import Failure, Task, finished_record
from stmfg.workflow.options import SHEET_COLUMNS, RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from stmfg.io.sheet import Sample

__all__ = ["BatchResult", "batch"]

logger = logging.getLogger("stmfg")


class BatchResult(NamedTuple):
    """What came of a batch: the rows of ``summary.csv``, and why samples failed."""

    summary: pd.DataFrame
    failures: dict[str, Failure]


def batch(
    sheet: str | Path,
    output: str | Path,
    options: RunOptions | None = None,
    *,
    jobs: int | None = None,
    slurm: Mapping[str, str] | None = None,
    progress: bool = False,
    **changes: Any,
) -> BatchResult:
    """Run every sample of a sheet by itself; those that are finished are not run again.

    A sample is finished if its folder holds all files of a run with the same options and an input of the same path,
    size and time of change. One that was interrupted continues from its checkpoint. One that fails leaves the others
    alone.

    Parameters
    ----------
    sheet
        CSV with the columns ``sample`` and ``path`` (relative to the sheet), and where wanted ``donor``, ``condition``
        and the options ``platform``, ``use_rep``, ``layer``, ``library_key``, ``n_domains``, ``preset`` and ``seed``.
        A cell that is filled counts more than ``options``.
    output
        Folder for the results; made when missing.
    options, changes
        As in :func:`stmfg.workflow.run`, for every sample.
    jobs
        Samples at a time, each in a process of its own; 1 when not given, on Slurm as many as it allows.
    slurm
        Run the samples as jobs of Slurm, with these options of ``sbatch``; their names are submitit's.
    progress
        Whether to show how many samples are done.

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
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}; give how many samples to run at a time, at least 1")
    options = RunOptions.of(options, **changes)
    samples = read_samples(sheet, SHEET_COLUMNS)
    checks.writable(output)
    tasks = [_task(sample, output, options) for sample in samples]
    records = {task.name: record for task in tasks if (record := finished_record(task)) is not None}
    todo = [task for task in tasks if task.name not in records]
    logger.info("%d of %d samples are finished already", len(records), len(tasks))
    failures: dict[str, Failure] = {}
    if todo:
        if slurm is None:
            results = _workers.run_here(todo, min(jobs or 1, len(todo)))
        else:
            results = _workers.run_on_slurm(todo, min(jobs or len(todo), len(todo)), output / ".slurm", slurm)
        failures = _collect(results, tqdm(total=len(tasks), initial=len(records), unit="sample", disable=not progress))
    for task in todo:
        if task.name not in failures and (record := finished_record(task)) is not None:
            records[task.name] = record
        else:
            failures.setdefault(task.name, Failure(f"{task.folder} has been changed since; run again", bad_input=False))
    from stmfg.report import write_overview  # loads matplotlib, when the processes that need the memory have ended

    output.mkdir(parents=True, exist_ok=True)
    reasons = {name: failure.reason for name, failure in failures.items()}
    return BatchResult(write_overview(samples, records, reasons, output), failures)


def _task(sample: Sample, output: Path, options: RunOptions) -> Task:
    """Return the run of a sample; refuse to write into what it reads."""
    folder, source = output.absolute() / sample.name, sample.source
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"output folder {output} lies in {source}, the input of {sample.name!r}; give another folder")
    return Task(sample.name, str(source), str(folder), options.for_sample(sample).to_dict())


def _collect(results: _workers.Results, bar: tqdm[Any]) -> dict[str, Failure]:
    """Wait for the samples to end, and return why some failed."""
    failures: dict[str, Failure] = {}
    with closing(results), bar:
        for name, failure in results:
            if failure is not None:
                failures[name] = failure
                logger.warning("%s: %s", name, failure.reason)
            bar.update()
    return failures

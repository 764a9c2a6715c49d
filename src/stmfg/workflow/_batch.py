"""Many samples, one after the other or side by side: from a sheet to a folder of results for each, and an overview."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tqdm import tqdm

from stmfg._core import checks
from stmfg._core.progress import is_watched, tick, time_left
from stmfg.errors import SHELL, InputError, make_all
from stmfg.io.sheet import read_samples
from stmfg.workflow import _workers
from stmfg.workflow._earlier import refuse_earlier, refuse_foreign_page
from stmfg.workflow._preflight import check_samples, check_source
from stmfg.workflow._sample import Failure, Task, finished_record
from stmfg.workflow.options import SHEET_COLUMNS, RunOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from stmfg.io.sheet import Sample

__all__ = ["BatchResult", "batch"]

logger = logging.getLogger("stmfg")

_BAR: Final = "{n_fmt} of {total_fmt} samples |{bar:20}| {elapsed}{postfix}"


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
        CSV with the columns ``sample`` and ``path`` (relative to the sheet), and where wanted ``donor``, ``condition``,
        the options ``platform``, ``use_rep``, ``layer``, ``library_key``, ``n_domains``, ``preset`` and ``seed``, and
        any others, which become columns of ``obs``. A cell that is filled counts more than ``options``.
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
        If sheet, options or output folder cannot be used, or a sample has a path that cannot be read, names a key that
        is not there, or would replace results without ``overwrite``: all of them are logged, and nothing is run.
    """
    output = Path(output).expanduser()
    if jobs is not None and jobs < 1:
        raise InputError(f"jobs is {jobs}; give how many samples to run at a time, at least 1")
    options = RunOptions.of(options, **changes)
    samples = read_samples(sheet, SHEET_COLUMNS)
    checks.writable(output)
    refuse_foreign_page(output)
    tasks, records = _plan(samples, output, options)
    todo = [task for task in tasks if task.name not in records]
    if records:
        logger.info("%d of %d samples are finished already", len(records), len(tasks))
    failures: dict[str, Failure] = {}
    if todo:
        n_jobs = min(jobs or (1 if slurm is None else len(todo)), len(todo))
        results = (
            _workers.run_here(todo, n_jobs)
            if slurm is None
            else _workers.run_on_slurm(todo, n_jobs, output / ".slurm", slurm)
        )
        failures = _collect(results, [task.name for task in todo], n_jobs, progress)
    for task in todo:
        if task.name not in failures and (record := finished_record(task)) is not None:
            records[task.name] = record
        else:
            failures.setdefault(task.name, Failure(f"{task.folder} has been changed since; run again", bad_input=False))
    from stmfg.report import write_overview  # loads matplotlib, when the processes that need the memory have ended

    output.mkdir(parents=True, exist_ok=True)
    reasons = {name: failure.reason for name, failure in failures.items()}
    return BatchResult(write_overview(samples, records, reasons, output), failures)


def _plan(samples: Sequence[Sample], output: Path, options: RunOptions) -> tuple[list[Task], dict[str, dict[str, Any]]]:
    """Return the run of every sample, and the records of those that are finished, once nothing is wrong with any."""
    tasks: list[Task] = []
    records: dict[str, dict[str, Any]] = {}

    def check(sample: Sample) -> None:
        folder, source = output.absolute() / sample.name, sample.source
        try:
            chosen = options.for_sample(sample)
        except InputError:  # and what else is wrong with the row
            make_all(lambda: options.for_sample(sample), lambda: check_source(source, RunOptions()))
            raise
        if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
            raise InputError(f"output folder {output} lies in {source}; give another folder")
        tasks.append(Task(sample.name, str(source), str(folder), chosen.to_dict(), sample.metadata, SHELL.get()))
        if (record := finished_record(tasks[-1])) is not None:
            records[sample.name] = record
        else:
            check_source(source, chosen)
            refuse_earlier(folder, overwrite=chosen.overwrite, resume=True)

    check_samples(samples, check)
    return tasks, records


def _collect(results: _workers.Results, names: list[str], jobs: int, progress: bool) -> dict[str, Failure]:
    """Wait for the samples to end, say which run and how long it may take, and return why some failed."""
    failures: dict[str, Failure] = {}
    waiting, began = list(names), time.monotonic()

    def wait() -> str:
        n_done = len(names) - len(waiting)
        return time_left((time.monotonic() - began) / n_done * len(waiting)) if n_done and waiting else ""

    def tell(bar: tqdm[Any]) -> None:
        running = f"running {', '.join(waiting[:jobs])}" if waiting else ""
        bar.set_postfix_str(", ".join(filter(None, (running, wait()))), refresh=False)

    closed, shown = threading.Event(), progress and is_watched()
    with closing(results), tqdm(total=len(names), bar_format=_BAR, disable=not shown) as bar:
        if shown:
            tell(bar)
            tick(bar, closed, tell)
        try:
            for name, failure in results:
                waiting.remove(name)
                if failure is not None:
                    failures[name] = failure
                    logger.warning("%s: %s", name, failure.reason)
                if progress and not shown:
                    ended = "finished" if failure is None else "failed"
                    count = f"{len(names) - len(waiting)} of {len(names)} samples"
                    logger.info("%s", ", ".join(filter(None, (f"{name}: {ended}", count, wait()))))
                tell(bar)
                bar.update()
        finally:
            closed.set()
    return failures

"""Where the samples of a batch are run: each in a process of its own on this machine, or as a job of Slurm.

One process a sample, and none is used twice: its memory goes back to the system when it ends, so that a batch needs
what its largest sample needs, and a process the system kills takes no other sample with it, as it would in a pool.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from stmfg.errors import InputError, MissingDependencyError
from stmfg.workflow._sample import Failure, analyse

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from stmfg.workflow._sample import Task

_GRACE: Final = 3.0
"""Seconds in which a process that was interrupted together with this one is left to tidy up."""
_LAST: Final = 30.0
"""Seconds it then has to save a checkpoint."""
_POLL: Final = 10.0
"""Seconds between two looks at the jobs of Slurm."""
_MINUTES: Final = "240"
"""What a Slurm job may take unless ``time`` is given; submitit's own five minutes are too few."""


def here(tasks: Sequence[Task], jobs: int) -> Generator[tuple[str, Failure | None]]:
    """Run samples on this machine, so many at a time.

    Parameters
    ----------
    tasks
        The runs.
    jobs
        How many at a time. They share the processors: each has its part of the threads, unless ``OMP_NUM_THREADS``
        says how many.

    Yields
    ------
    Name of a sample and what went wrong with it, or None, as the samples end. Closing the iterator interrupts those
    that run, which leave a checkpoint.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | ({"OMP_NUM_THREADS": str(threads)} if jobs > 1 else {}) | os.environ
    running: set[subprocess.Popen[str]] = set()
    starting, ended = threading.Lock(), threading.Event()

    def alone(task: Task) -> Failure | None:
        with starting:  # so that none starts unseen after the last look at those that run
            if ended.is_set():
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "stmfg.workflow._sample"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
            )
            running.add(process)
        try:
            said, errors = process.communicate(json.dumps(task))
        finally:
            running.discard(process)
        return _failure(process.returncode, said, errors)

    pool = ThreadPoolExecutor(jobs)  # its threads only wait for the processes
    try:
        names = {pool.submit(alone, task): task.name for task in tasks}
        for future in as_completed(names):
            yield names[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with starting:
            ended.set()
        deadline = time.monotonic() + _GRACE
        for process in list(running):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _LAST
        for process in list(running):
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:  # it ignores the signal, as all do that a shell starts in the background
                process.kill()
        pool.shutdown()


def _failure(status: int, said: str, errors: str) -> Failure | None:
    """Return what went wrong in a process that has ended."""
    if status < 0:
        killed = signal.Signals(-status).name
        hint = ": most often the memory was too small" if killed == "SIGKILL" else ""
        return Failure(f"the process was ended by {killed}{hint}; run again to continue", bad_input=False)
    if status:
        last = errors.strip().splitlines()[-1:] or ["no message"]
        return Failure(f"the process ended with status {status} ({last[0]})", bad_input=False)
    failure = json.loads(said.splitlines()[-1])
    return None if failure is None else Failure(*failure)


def slurm(
    tasks: Sequence[Task], jobs: int, folder: Path, settings: Mapping[str, str]
) -> Generator[tuple[str, Failure | None]]:
    """Run samples as one array of Slurm jobs, and wait for them.

    Parameters
    ----------
    tasks
        The runs. Files and results must lie where the nodes see them.
    jobs
        How many at a time.
    folder
        For what the jobs say and what submitit keeps.
    settings
        Options of ``sbatch`` by the names submitit gives them: ``partition``, ``time``, ``mem``, ``cpus_per_task``...

    Yields
    ------
    As :func:`here`; closing the iterator cancels the jobs.

    Raises
    ------
    MissingDependencyError
        Without submitit.
    InputError
        If there is no Slurm here, it knows no such setting, or refuses the jobs.
    """
    try:
        import submitit
    except ImportError as error:
        raise MissingDependencyError('Slurm needs submitit: pip install "stmfg[slurm]"') from error
    chosen = {k: int(v) if v.isdecimal() else v for k, v in ({"time": _MINUTES} | dict(settings)).items()}
    if not isinstance(chosen["time"], int):
        raise InputError(f"Slurm's time is {chosen['time']!r}; give whole minutes, as in time=120")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        parameters = chosen | {"array_parallelism": jobs}
        executor.update_parameters(name="stmfg", **{f"slurm_{name}": value for name, value in parameters.items()})
        submitted = dict(zip(executor.map_array(analyse, tasks), (task.name for task in tasks), strict=True))
    except (RuntimeError, NameError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Slurm cannot take the samples ({reason}); see sbatch --help") from error
    try:
        for job in submitit.helpers.as_completed(list(submitted), poll_frequency=_POLL):
            lost = job.exception()
            if lost is None:
                yield submitted[job], job.result()
            else:
                reason = str(lost).splitlines()[0]
                failure = Failure(
                    f"Slurm job {job.job_id} failed ({reason}); {folder} has what it said", bad_input=False
                )
                yield submitted[job], failure
    finally:
        for job in submitted:
            with suppress(Exception):  # one that has ended, or is gone
                if not job.done():
                    job.cancel()

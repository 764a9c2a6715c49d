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
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from stmfg.errors import InputError, MissingDependencyError, reason
from stmfg.workflow._sample import Failure, Task, run_sample

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    Results: TypeAlias = Generator[tuple[str, Failure | None]]
    """Name of a sample and what went wrong with it, or None, as the samples end."""

_TO_END: Final = 3.0
"""Seconds in which a process that was interrupted together with this one is left to end by itself."""
_TO_SAVE: Final = 30.0
"""Seconds it then has to save a checkpoint."""
_POLL: Final = 10.0
"""Seconds between two looks at the jobs of Slurm."""
_MINUTES: Final = "240"
"""What a Slurm job may take unless ``time`` is given; submitit's own five minutes are too few."""


def run_here(tasks: Sequence[Task], jobs: int) -> Results:
    """Run samples on this machine, `jobs` at a time; closing the iterator interrupts them, and they leave a checkpoint.

    They share the processors: each has its part of the threads, unless ``OMP_NUM_THREADS`` says how many.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | ({"OMP_NUM_THREADS": str(threads)} if jobs > 1 else {}) | os.environ
    running: set[subprocess.Popen[str]] = set()
    starting, closed = threading.Lock(), threading.Event()

    def run_alone(task: Task) -> Failure | None:
        with starting:  # so that none starts unseen after the last look at those that run
            if closed.is_set():
                return None
            command = [sys.executable, "-m", "stmfg.workflow._sample"]
            pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            process = subprocess.Popen(command, **pipes, text=True, errors="replace", env=environment)
            running.add(process)
        try:
            output, errors = process.communicate(json.dumps(task))
        finally:
            running.discard(process)
        return _failure(process.returncode, output, errors)

    pool = ThreadPoolExecutor(jobs)  # its threads only wait for the processes
    try:
        names = {pool.submit(run_alone, task): task.name for task in tasks}
        for future in as_completed(names):
            yield names[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        with starting:
            closed.set()
        for process in _still_running(running, _TO_END):
            process.send_signal(signal.SIGINT)
        for process in _still_running(running, _TO_SAVE):  # it ignores the signal, as all do that run in the background
            process.kill()
        pool.shutdown()


def _still_running(processes: set[subprocess.Popen[str]], seconds: float) -> list[subprocess.Popen[str]]:
    """Wait for processes, at most so many seconds in all, and return those that run on."""
    deadline, still_running = time.monotonic() + seconds, []
    for process in list(processes):
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            still_running.append(process)
    return still_running


def _failure(status: int, output: str, errors: str) -> Failure | None:
    if status < 0:
        killed = signal.Signals(-status).name
        hint = ": most often the memory was too small" if killed == "SIGKILL" else ""
        return Failure(f"the process was ended by {killed}{hint}; run again to continue", bad_input=False)
    if status:
        last = errors.strip().splitlines()[-1:] or ["no message"]
        return Failure(f"the process ended with status {status} ({last[0]})", bad_input=False)
    failure = json.loads(output.splitlines()[-1])
    return None if failure is None else Failure(*failure)


def run_on_slurm(tasks: Sequence[Task], jobs: int, folder: Path, settings: Mapping[str, str]) -> Results:
    """Run samples as one array of Slurm jobs, `jobs` at a time, and wait for them; closing the iterator cancels them.

    The output of the jobs goes to `folder`; `settings` are options of ``sbatch`` by the names submitit gives them.
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
        submitted = dict(zip(executor.map_array(run_sample, tasks), (task.name for task in tasks), strict=True))
    except (RuntimeError, NameError, ValueError, OSError) as error:
        what = " ".join(str(error).split())[:200]
        raise InputError(f"Slurm cannot take the samples ({what}); see sbatch --help") from error
    try:
        for job in submitit.helpers.as_completed(list(submitted), poll_frequency=_POLL):
            lost = job.exception()
            if lost is None:
                yield submitted[job], job.result()
            else:
                what = f"Slurm job {job.job_id} failed ({reason(lost)}); its output is in {folder}"
                yield submitted[job], Failure(what, bad_input=False)
    finally:
        for job in submitted:
            with suppress(Exception):  # one that has ended, or is gone
                if not job.done():
                    job.cancel()

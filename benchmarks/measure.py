"""Run a command under a time and a memory limit, and say what it used and how it ended.

Memory is the resident memory of the whole process tree, read from ``/proc`` twenty times a second (Linux), so a limit
can be overstepped for a moment by what is written between two readings.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.05
OUT_OF_MEMORY = re.compile(r"MemoryError|Unable to allocate|can't allocate memory|Cannot allocate memory|bad_alloc")


@dataclass(frozen=True)
class Usage:
    """What a run used: seconds, CPU seconds, peak MB (1e6 bytes) of the process tree, and how it ended."""

    wall: float
    cpu: float
    peak_mb: float
    exit: str


def run(
    command: list[str], *, time_limit: float, memory_limit_mb: float, cwd: Path, env: dict[str, str] | None = None
) -> Usage:
    """Run ``command`` to its end or to a limit; whatever goes wrong is in ``exit``, nothing is raised.

    ``exit`` is ``ok``, ``timeout``, ``out of memory`` or ``crash: `` and the last line of the standard error output.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=cwd, env=env, start_new_session=True
        )
        peak, verdict = 0.0, ""
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, _tree_mb(process.pid))
            if peak > memory_limit_mb:
                verdict = "out of memory"
            elif time.perf_counter() - started > time_limit:
                verdict = "timeout"
            if verdict:
                _kill(process.pid)
                _, status, used = os.wait4(process.pid, 0)
                break
            time.sleep(INTERVAL)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        _kill(process.pid)  # what it may have left behind
        errors.seek(0)
        message = errors.read().decode(errors="replace")
    return Usage(wall, used.ru_utime + used.ru_stime, peak, verdict or _reason(process.returncode, message))


def _reason(status: int, message: str) -> str:
    if status == 0:
        return "ok"
    if status == -signal.SIGKILL or OUT_OF_MEMORY.search(message):
        return "out of memory"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit status {status}"
    last = re.sub(r"(?<![\w.])/(?:[^\s/'\":]+/)+", "", last)  # no folders of this machine in a table
    return "crash: " + last.replace("\t", " ")[:160]


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _tree_mb(root: int) -> float:
    """Sum the resident memory of a process and its descendants; of one process alone, its own high-water mark."""
    family, queue = [], [root]
    while queue:
        pid = queue.pop()
        family.append(pid)
        for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                queue += [int(child) for child in tasks.read_text().split()]
    return max(sum(_status_mb(pid, "VmRSS") for pid in family), *(_status_mb(pid, "VmHWM") for pid in family))


def _status_mb(pid: int, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0

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
PATIENCE = 8
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
    The time limit counts CPU seconds, so that other work on the machine changes no verdict; a run that waits and
    computes nothing ends after ``PATIENCE`` times as many seconds on the clock.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=cwd, env=env, start_new_session=True
        )
        peak, cpu, verdict = 0.0, 0.0, ""
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            family = _tree(process.pid)
            peak, cpu = max(peak, _memory_mb(family)), max(cpu, sum(map(_cpu_seconds, family)))
            if peak > memory_limit_mb:
                verdict = "out of memory"
            elif cpu > time_limit or time.perf_counter() - started > PATIENCE * time_limit:
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
    # Of a run that was stopped the system counts the first process alone.
    return Usage(wall, max(cpu, used.ru_utime + used.ru_stime), peak, verdict or _reason(process.returncode, message))


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


def _tree(root: int) -> list[int]:
    """Return a process and its descendants."""
    family, queue = [], [root]
    while queue:
        pid = queue.pop()
        family.append(pid)
        with contextlib.suppress(OSError):  # it may end while it is looked at
            for thread in Path(f"/proc/{pid}/task").iterdir():
                queue += [int(child) for child in (thread / "children").read_text().split()]
    return family


def _memory_mb(family: list[int]) -> float:
    """Sum the resident memory of processes; of one process alone, its own high-water mark."""
    return max(sum(_status_mb(pid, "VmRSS") for pid in family), *(_status_mb(pid, "VmHWM") for pid in family))


def _status_mb(pid: int, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that have ended."""
    with contextlib.suppress(OSError):
        # Behind the name, which is in brackets and may hold anything: the fields from the third on.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0

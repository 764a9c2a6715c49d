"""Seconds and memory of the stages of a run, recorded where the work is done.

``with stage("features"): ...`` costs nothing unless a caller records or shows it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import resource
import sys
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from stmfg._core.progress import begin

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("stmfg")

_MUCH = 1 / 16
"""Of the memory there is."""
_records: ContextVar[list[dict[str, Any]] | None] = ContextVar("stages", default=None)


@contextmanager
def recording() -> Iterator[list[dict[str, Any]]]:
    """Collect the stages run inside: name, wall seconds, CPU seconds, peak memory of the process so far in MB."""
    records: list[dict[str, Any]] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time one stage."""
    wall, cpu = time.perf_counter(), time.process_time()
    logger.debug("stage %s begins", name)
    with begin(name):
        yield
    release_memory()
    seconds, peak = time.perf_counter() - wall, peak_mb()
    logger.debug("stage %s took %.2f s, memory so far at most %.0f MB", name, seconds, peak)
    if (records := _records.get()) is not None:
        cpu_seconds = time.process_time() - cpu
        records.append(
            {
                "name": name,
                "seconds": round(seconds, 3),
                "cpu_seconds": round(cpu_seconds, 3),
                "peak_mb": round(peak, 1),
            }
        )


def release_memory() -> None:
    """Give what was freed back to the system where there is much of it: C libraries keep it, and need it again."""
    from stmfg._core.blocks import memory

    if 1e6 * peak_mb() > _MUCH * memory():
        with suppress(AttributeError, OSError):  # other systems than Linux
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def loading() -> Iterator[None]:
    """Load libraries without looking for garbage among the half million objects that they leave.

    In a process of our own, which begins by freezing what there is, nor later.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count():
            gc.freeze()
        if collects:
            gc.enable()


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (1e6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

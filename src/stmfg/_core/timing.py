"""Seconds and memory of the stages of a run, recorded where the work is done.

``with stage("features"): ...`` costs nothing unless a caller records.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("stmfg")

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
    records = _records.get()
    wall, cpu = time.perf_counter(), time.process_time()
    logger.debug("stage %s begins", name)
    yield
    logger.debug("stage %s took %.2f s, memory so far at most %.0f MB", name, time.perf_counter() - wall, peak_mb())
    if records is not None:
        records.append(
            {
                "name": name,
                "seconds": round(time.perf_counter() - wall, 3),
                "cpu_seconds": round(time.process_time() - cpu, 3),
                "peak_mb": round(peak_mb(), 1),
            }
        )


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (1e6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6

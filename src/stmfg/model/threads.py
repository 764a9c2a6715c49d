"""One thread for what is learnt, and threads for what can be done side by side."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import ThreadpoolController

WORTH_THREADS = 1_000_000
"""Products of fewer numbers take less time than threads take to begin."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


_lock = threading.Lock()
_limited: list[tuple[int, Any]] = []
"""The threads of torch, and the limits of other libraries, from before: one for each block that is under way."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that a result does not depend on the number of cores.

    Threads add numbers in another order, and hundreds of steps of training turn that rounding into other domains: on a
    Visium slice a third of the spots got another number. Nor do threads pay: there, two took six times the CPU seconds
    for the features and as long on the clock. Several threads may be inside at a time; the last to leave ends it.
    """
    with _lock:
        # Some limits are those of the thread that sets them.
        before = torch.get_num_threads(), _find_libraries(len(sys.modules)).limit(limits=1)
        _limited.append(_limited[0] if _limited else before)
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            n_threads, limits = _limited.pop()
            if not _limited:
                limits.restore_original_limits()
                torch.set_num_threads(n_threads)


@lru_cache(maxsize=1)
def _find_libraries(n_modules: int) -> ThreadpoolController:  # noqa: ARG001
    """Return what limits the threads of libraries: looking for them takes 5 ms, so again when modules were loaded."""
    return ThreadpoolController()


def count_cores() -> int:
    """Return the number of threads to use: the cores this process may run on, or fewer, as ``OMP_NUM_THREADS`` says."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, int(asked))) if asked.isdecimal() else cores


def map_in_order(
    function: Callable[[Item], Outcome], items: Iterable[Item], *, n_threads: int | None = None
) -> Iterator[Outcome]:
    """Yield ``function`` of every item, in order, computed side by side: each by one thread that adds in a fixed order.

    Items are asked for one at a time, in this thread, and at most one more than there are threads is under way: they
    may be large. What is computed must release Python's lock to gain by it, as products of matrices do.

    Parameters
    ----------
    function
        Does not change what other calls read.
    items
        What it is called with.
    n_threads
        Those of :func:`count_cores` when not given.
    """
    n_threads = count_cores() if n_threads is None else n_threads
    with one_thread():
        if n_threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(n_threads) as pool:
            running: deque[Future[Outcome]] = deque()
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > n_threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()


def multiply(matrix: sparse.csr_matrix, block: NDArray[Any]) -> NDArray[Any]:
    """Return the product of a sparse matrix (n, m) and a block (m, d), a part of the rows by each core.

    Every row is added up by itself, so that no number hangs on how many there are.
    """
    cores = count_cores()
    if cores == 1 or matrix.nnz * block.shape[1] < WORTH_THREADS:
        return np.asarray(matrix @ block)

    def multiply_part(ends: tuple[int, int]) -> NDArray[Any]:
        start, stop = ends
        at = matrix.indptr[start : stop + 1]
        entries = slice(at[0], at[-1])
        parts = matrix.data[entries], matrix.indices[entries], at - at[0]  # views: a slice of the matrix is a copy
        return np.asarray(sparse.csr_matrix(parts, shape=(stop - start, matrix.shape[1])) @ block)

    with ThreadPoolExecutor(cores) as pool:
        ends = np.linspace(0, matrix.shape[0], cores + 1).astype(int)
        return np.vstack(list(pool.map(multiply_part, pairwise(ends))))


def beside(function: Callable[..., Outcome], *args: Any) -> Callable[[], Outcome]:
    """Begin to compute in a thread of its own, and return what waits for the outcome; one core does it when asked.

    The thread cannot be stopped: not for what takes long.
    """
    if count_cores() == 1:
        return cache(lambda: function(*args))
    pool = ThreadPoolExecutor(1)
    future = pool.submit(copy_context().run, one_thread()(function), *args)
    pool.shutdown(wait=False)
    return future.result


@contextmanager
def meanwhile(function: Callable[..., object], *args: Any) -> Iterator[None]:
    """Compute while the block runs; when it is left, also by an error, nothing is computed any longer."""
    outcome = beside(function, *args)
    try:
        yield
    except BaseException:
        if count_cores() > 1:
            with suppress(Exception):
                outcome()
        raise
    outcome()

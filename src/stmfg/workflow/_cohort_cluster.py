"""Where the parts of a cohort are worked on: in this process, or by the workers of a Dask cluster.

Dask schedules, ships, and gives the part of a worker that was lost to another one. Parts are files: what a task returns
is a few numbers.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from tqdm import tqdm

from stmfg._core.progress import is_watched
from stmfg.errors import InputError, MissingDependencyError, StmfgError
from stmfg.workflow.options import CLUSTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

logger = logging.getLogger("stmfg")

_INSTALL: Final = 'a cluster needs Dask: pip install "stmfg[cohort]"'
_SLURM: Final = "run it where jobs are submitted, with cores, memory and queue in ~/.config/dask/jobqueue.yaml"
_KEPT_IF_FREED: Final = {-1: 64_000_000, -3: 32_000_000}
"""``mallopt``'s M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, bytes: where any process arrives that frees arrays."""

Answer = TypeVar("Answer")


class Here:
    """The process that asks, one part after the other."""

    def __init__(self, *, progress: bool = False) -> None:
        self.progress = progress

    def each(self, name: str, function: Callable[..., Answer], parts: Sequence[Any], *args: Any) -> list[Answer]:
        """Return what a function makes of every part, in their order; parts are named by their first field."""
        return [function(part, *args) for part in self._follow(name, parts, len(parts))]

    def dismiss(self) -> None:
        """Let the workers go, beside what this process does alone."""

    def _follow(self, name: str, things: Any, total: int) -> Any:
        shown = self.progress and is_watched()
        if self.progress and not shown:
            logger.info("%s: %d", name, total)
        return tqdm(things, total=total, desc=name, unit="sample", disable=not shown)


class Workers(Here):
    """The workers of a Dask cluster."""

    def __init__(self, client: Any, owner: Any, *, progress: bool = False) -> None:
        super().__init__(progress=progress)
        self.client = client
        self._leaving = Thread(target=self._leave, args=(owner,))

    def each(self, name: str, function: Callable[..., Answer], parts: Sequence[Any], *args: Any) -> list[Answer]:
        """Return what a function makes of every part, in their order; the first are begun first."""
        from distributed import as_completed

        # A scheduler may serve several runs at a time. Keys that begin alike are alike to it, and come in their order.
        step = f"{name}-{uuid4().hex}"
        keys = [(step, f"{i:06d} {part[0] if isinstance(part, tuple) else ''}") for i, part in enumerate(parts)]
        futures = self.client.map(partial(_compute, function, len(parts) == 1, args), parts, key=keys, pure=False)
        if len(parts) == 1:  # this process waits, and a core may: time to load what it needs at the end
            import stmfg.report  # noqa: F401
        answers: dict[Any, Answer] = {}
        with _lost_workers():
            for future, answer in self._follow(name, as_completed(futures, with_results=True), len(parts)):
                answers[future.key] = answer
        return [answers[key] for key in keys]

    def _leave(self, owner: Any) -> None:
        self.client.close()
        if owner is not None:
            owner.close()

    def dismiss(self) -> None:
        """Begin to let the workers go."""
        self._leaving.start()

    def wait(self) -> None:
        """Wait until they are gone."""
        if self._leaving.ident is None:
            self.dismiss()
        self._leaving.join()


def _compute(function: Callable[..., Answer], alone: bool, args: tuple[Any, ...], part: Any) -> Answer:
    """Compute a part on a worker, and the only one there is with the cores of the machine, on which others wait.

    Dask gives a worker one core, and has what is freed given back at once: a new page for every array took half of the
    time, and more of it the more workers there were.
    """
    with suppress(AttributeError, OSError):  # other systems than Linux
        for option, size in _KEPT_IF_FREED.items():
            ctypes.CDLL(None).mallopt(option, size)
    given = os.environ.pop("OMP_NUM_THREADS", None) if alone else None
    try:
        return function(part, *args)
    finally:
        if given is not None:
            os.environ["OMP_NUM_THREADS"] = given


@contextmanager
def _lost_workers() -> Iterator[None]:
    """Say in plain words that a part ended one worker after the other."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        name = f"{error.task[0].rpartition('-')[0]} {error.task[1].partition(' ')[2]}".strip()
        raise StmfgError(
            f"the step {name!r} ended one worker after the other, most often because its memory was too small; give "
            "workers more memory, or fewer of them, and run the same command again to continue"
        ) from error


@contextmanager
def connect(cluster: str | None, n_parts: int, *, progress: bool = False) -> Iterator[Here]:
    """Start a cluster, or find one, by what ``--cluster`` says; without it, this process does the work.

    Raises
    ------
    InputError
        If the cluster is unknown or cannot be reached.
    MissingDependencyError
        Without Dask.
    """
    kind, number = check_cluster(cluster or "here")
    if kind == "here":
        yield Here(progress=progress)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(_INSTALL) from error
    for name in ("distributed", "tornado"):  # workers that come and go are no matter of the user
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        owner = _start(kind, number, n_parts)
        client = Client(cluster if owner is None else owner, timeout="30s")
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        fix = _SLURM if kind == "slurm" else f"give {CLUSTERS}"
        raise InputError(f"cluster {cluster!r} cannot be used ({reason}); {fix}") from error
    workers = Workers(client, owner, progress=progress)
    try:
        if not client.scheduler_info()["workers"]:
            logger.info("no worker is there yet; waiting for the first")
        yield workers
    finally:
        workers.wait()


def check_cluster(cluster: str) -> tuple[str, int | None]:
    """Return the kind of a cluster, and how many workers it is to have.

    Raises
    ------
    InputError
        If it is none that there is.
    """
    if re.fullmatch(r"(tcp|tls|ucx|wss?)://\S+", cluster):
        return "address", None
    match = re.fullmatch(r"(here|(?:local|slurm)(?::([1-9]\d{0,5}))?)", cluster)
    if match is None:
        raise InputError(f"cluster is {cluster!r}; it must be {CLUSTERS}")
    return match[1].partition(":")[0], int(match[2]) if match[2] else None


def _start(kind: str, number: int | None, n_parts: int) -> Any:
    """Start workers; of a scheduler that runs already, none."""
    if kind == "address":
        return None
    if kind == "slurm":
        try:
            from dask_jobqueue import SLURMCluster
            from distributed.core import Status
        except ImportError as error:
            raise MissingDependencyError(_INSTALL) from error
        jobs = SLURMCluster()  # queue, cores, memory and time are the user's, in Dask's own configuration
        for _ in range(number or n_parts):
            jobs.worker_spec.update(jobs.new_worker_spec())

        async def submit() -> None:  # ``jobs.scale`` would wait for ever for jobs that Slurm refused
            await jobs

        try:
            jobs.sync(submit)
        except (OSError, RuntimeError):
            for job in jobs.workers.values():  # else closing takes those that never began for lost
                job.status = Status.failed
            jobs.close()
            raise
        return jobs
    from distributed import LocalCluster

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return LocalCluster(
        n_workers=number or min(cores, n_parts),
        threads_per_worker=1,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": ":0"},  # else it asks for a port that another run may have
        silence_logs=logging.CRITICAL,
    )  # which leaves OMP_NUM_THREADS=1 here too: the report made by two threads took 250 MB more, for half a second

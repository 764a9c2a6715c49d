"""How far a run is, stage by stage: bars where someone is watching, a line a stage where the output is kept."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("stmfg")

_NO_STEPS: Final = "{desc}: {elapsed}"
_STEPS: Final = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def is_watched() -> bool:
    """Whether progress is shown to someone, and not kept in a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def time_left(seconds: float) -> str:
    """Return a time to wait in words, no finer than it can be known."""
    if seconds < 45:
        return "less than a minute left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 100 else f"about {minutes / 60:.0f} h left"


class Stage:
    """One stage of a run, which may count its steps; it shows nothing until :meth:`show` is called.

    A bar rewrites its line, which would fill the log of a cluster with copies of it. So bars are for terminals and
    notebooks; elsewhere one message of level INFO, at the end of the stage, takes their place.
    """

    def __init__(self, name: str) -> None:
        self._name, self._began = name, time.perf_counter()
        self._bar: tqdm[Any] | None = None
        self._log, self._loss = False, ""

    def show(self) -> None:
        """Show the stage."""
        if is_watched():
            self._bar = self._bar or tqdm(desc=self._name, bar_format=_NO_STEPS)
        else:
            self._log = True

    def expect(self, done: int, total: int) -> None:
        """Say how many steps there are, and how many of them an earlier run did."""
        if self._bar is not None:
            self._bar.bar_format, self._bar.total, self._bar.n = _STEPS, total, done

    def step(self, loss: float) -> None:
        """Count one more step."""
        self._loss = f"loss {loss:.4f}"
        if self._bar is not None:
            self._bar.set_postfix_str(self._loss, refresh=False)
            self._bar.update()

    def log(self) -> None:
        """Log what the stage took, where that is how it is shown."""
        if self._log:
            seconds = f"{time.perf_counter() - self._began:.1f} s"
            logger.info("%s: %s", self._name, f"{seconds}, {self._loss}" if self._loss else seconds)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


_shown: ContextVar[bool] = ContextVar("shown", default=False)
_current: ContextVar[Stage | None] = ContextVar("stage", default=None)


@contextmanager
def showing(*, show: bool) -> Iterator[None]:
    """Show every stage inside the block, or none."""
    token = _shown.set(show)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def begin(name: str) -> Iterator[None]:
    """Begin a stage; it ends with the block."""
    stage = Stage(name)
    token = _current.set(stage)
    if _shown.get():
        stage.show()
    try:
        yield
        stage.log()
    finally:
        _current.reset(token)
        stage.close()


def follow(done: int, total: int, *, show: bool) -> Stage:
    """Return the stage that counts the steps of a training, shown where `show` says so."""
    stage = _current.get() or Stage("train")
    if show:
        stage.show()
    stage.expect(done, total)
    return stage

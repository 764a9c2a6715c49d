"""How far a run is, stage by stage and to its end: bars where someone watches, a line a stage where output is kept."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger("stmfg")

WORDS: Final = {
    "libraries": "loading libraries", "tree": "levels of domains", "halves": "which domains are found again",
}  # fmt: skip
"""What a stage is called to those who wait, where its name in ``run.json`` does not say."""
_NO_STEPS: Final = "{desc}: {elapsed}{postfix}"
_STEPS: Final = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_REFRESH_SECONDS: Final = 1.0
_TELLING: Final = 0.1
"""Share of a run that must be over before the time of the rest is told."""


def is_watched() -> bool:
    """Whether progress is shown to someone, and not kept in a file."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def time_left(seconds: float) -> str:
    """Return a time to wait in words, no finer than it can be known."""
    if seconds < 15:
        return "a few seconds left"
    if seconds < 90:
        return f"about {10 * round(seconds / 10)} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 100 else f"about {minutes / 60:.0f} h left"


def tick(bar: tqdm[Any], closed: threading.Event, tell: Callable[[tqdm[Any]], None]) -> None:
    """Move the clock of a bar on, and what it tells, until it is closed, whatever the program is busy with."""

    def refresh() -> None:
        while not closed.wait(_REFRESH_SECONDS):
            tell(bar)
            bar.refresh()

    threading.Thread(target=refresh, daemon=True).start()


class Plan:
    """The stages of a whole run, each with its usual share of the time: how many there are, and how long they may take.

    Stages that are not in it take no part.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = dict(shares)
        self._left = dict(shares)
        self._began = self._ended = time.perf_counter()

    def place(self, name: str) -> str:
        """Return which of the stages one is, or nothing."""
        names = list(self._shares)
        return f"{names.index(name) + 1} of {len(names)}" if name in names else ""

    def wait(self, name: str, done: float = 0.0) -> str:
        """Return how long it is to the end of the run, in words, when a share of a stage is done."""
        share = self._shares.get(name, 0.0) * done
        total = sum(self._shares.values())
        over = total - sum(self._left.values()) + share
        if over < _TELLING * total or not self._left:
            return ""
        now = time.perf_counter()
        seconds = (now if done else self._ended) - self._began
        return time_left(seconds / over * (total - over) - (0.0 if done else now - self._ended))

    def end(self, name: str) -> None:
        """Say that a stage is over."""
        self._left.pop(name, None)
        self._ended = time.perf_counter()


class Stage:
    """One stage of a run, which may count its steps; it shows nothing until :meth:`show` is called.

    A bar rewrites its line, which would fill the log of a cluster with copies of it. So bars are for terminals and
    notebooks; elsewhere one message of level INFO, at the end of the stage, takes their place.
    """

    def __init__(self, name: str, plan: Plan | None = None) -> None:
        self._name, self._plan, self._began = name, plan, time.perf_counter()
        self._bar: tqdm[Any] | None = None
        self._log, self._loss, self._done, self._step = False, "", 0.0, 0.0
        self._closed = threading.Event()

    def show(self) -> None:
        """Show the stage."""
        if not is_watched():
            self._log = True
        elif self._bar is None:
            place = self._plan.place(self._name) if self._plan else ""
            words = WORDS.get(self._name, self._name)
            self._bar = tqdm(desc=f"{words} ({place})" if place else words, bar_format=_NO_STEPS)
            tick(self._bar, self._closed, self._tell)

    def _tell(self, bar: tqdm[Any]) -> None:
        wait = self._plan.wait(self._name, self._done) if self._plan else ""
        bar.set_postfix_str(", ".join(filter(None, (self._loss, wait))), refresh=False)

    def expect(self, done: int, total: int) -> None:
        """Say how many steps there are, and how many of them an earlier run did."""
        self._step = 1 / max(total, 1)
        if self._bar is not None:
            self._bar.bar_format, self._bar.total, self._bar.n = _STEPS, total, done

    def step(self, loss: float) -> None:
        """Count one more step."""
        self._loss = f"loss {loss:.4f}"
        self._done += self._step
        if self._bar is not None:
            self._tell(self._bar)
            self._bar.update()

    def log(self) -> None:
        """Log what the stage took, where that is how it is shown."""
        if self._log:
            took = ", ".join(filter(None, (f"{time.perf_counter() - self._began:.1f} s", self._loss)))
            plan = self._plan and ", ".join(filter(None, (self._plan.place(self._name), self._plan.wait(""))))
            logger.info("%s: %s", WORDS.get(self._name, self._name), f"{took} ({plan})" if plan else took)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._closed.set()
        if self._bar is not None:
            self._bar.set_postfix_str(self._loss, refresh=False)
            self._bar.close()


_shown: ContextVar[bool] = ContextVar("shown", default=False)
_plan: ContextVar[Plan | None] = ContextVar("plan", default=None)
_current: ContextVar[Stage | None] = ContextVar("stage", default=None)


@contextmanager
def _within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def showing(*, show: bool) -> AbstractContextManager[None]:
    """Show every stage inside the block, or none."""
    return _within(_shown, show)


def asked_for(progress: bool | None) -> AbstractContextManager[None]:
    """Show every stage inside the block, if it is asked for; in a notebook also where nothing is said."""
    wanted = "ipykernel" in sys.modules if progress is None else progress
    return showing(show=True) if wanted else nullcontext()


def planned(shares: Mapping[str, float]) -> AbstractContextManager[None]:
    """Let stages inside the block say which of all they are, and how long it is to the end."""
    return _within(_plan, Plan(shares))


@contextmanager
def begin(name: str) -> Iterator[None]:
    """Begin a stage; it ends with the block."""
    plan = _plan.get() if _shown.get() or _current.get() is None else None
    stage = Stage(name, plan)
    if _shown.get():
        stage.show()
    with _within(_current, stage), closing(stage):
        yield
        if plan:
            plan.end(name)
        stage.log()


def follow(done: int, total: int, *, show: bool) -> Stage:
    """Return the stage that counts the steps of a training, shown where `show` says so."""
    stage = _current.get() or Stage("train")
    if show:
        stage.show()
    stage.expect(done, total)
    return stage

"""A Ctrl-C that Python drops comes again."""

from __future__ import annotations

import _thread
import signal
import sys
import time
from collections.abc import Iterator

import pytest

from stmfg.cli._main import insistent_interrupts


@pytest.fixture(autouse=True)
def _ctrl_c_interrupts() -> Iterator[None]:
    """Tests that run in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dropping:
    """Is interrupted while it is destroyed."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


@insistent_interrupts()
def interrupted_in_a_destructor() -> None:
    Dropping()
    for _ in range(500):
        time.sleep(0.01)


@insistent_interrupts()
def interrupted() -> None:
    _thread.interrupt_main()
    time.sleep(5)


def test_an_interrupt_in_a_destructor_is_not_lost() -> None:
    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        interrupted_in_a_destructor()
    assert sys.unraisablehook is before


def test_other_dropped_exceptions_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __del__(self) -> None:
            raise ValueError("dropped")

    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: seen.append(dropped.exc_type))
    with insistent_interrupts():
        Failing()
    assert seen == [ValueError]


def test_an_interrupt_elsewhere_is_raised_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    time.sleep(0.2)

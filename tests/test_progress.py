"""Progress: a bar on a terminal, a line every tenth elsewhere, nothing where none is asked for."""

from __future__ import annotations

import logging
import sys

import pytest

from stmfg._core.progress import follow


@pytest.mark.parametrize(("start", "total", "expected"), [(0, 200, 10), (0, 3, 3), (100, 200, 5)])
def test_lines_in_a_file(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, start: int, total: int, expected: int
) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    progress = follow(start, total, show=True)
    for _ in range(start, total):
        progress.step(1.5)
    assert len(caplog.messages) == expected
    assert caplog.messages[-1] == f"training: epoch {total} of {total}, loss 1.5000"
    assert "\r" not in capsys.readouterr().err


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = follow(0, 5, show=True)
    for _ in range(5):
        progress.step(0.25)
    said = capsys.readouterr().err
    assert "\r" in said
    assert "5/5" in said
    assert "loss=0.2500" in said


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_is_shown(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    caplog.set_level(logging.DEBUG, "stmfg")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    progress = follow(0, 2, show=False)
    progress.step(1.0)
    progress.step(1.0)
    assert capsys.readouterr().err == ""
    assert caplog.messages == []

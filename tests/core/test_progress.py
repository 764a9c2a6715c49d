"""Progress: bars by stage on a terminal, a line a stage elsewhere, nothing where none is asked for."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from anndata import AnnData

import stmfg
from stmfg._core.progress import follow, planned, showing, time_left
from stmfg._core.timing import recording, stage


def run_two_stages(*, show: bool, train: bool = False) -> list[str]:
    with showing(show=show), recording() as stages:
        with stage("read"):
            pass
        with stage("train"):
            progress = follow(1, 3, show=train)
            for _ in range(2):
                progress.step(0.25)
    return [recorded["name"] for recorded in stages]


def test_a_line_a_stage_in_a_file(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    assert run_two_stages(show=True) == ["read", "train"]
    assert caplog.messages == ["read: 0.0 s", "train: 0.0 s, loss 0.2500"]
    assert capsys.readouterr().err == ""


def test_a_plan_says_which_of_all_stages_one_is_and_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    clock = [0.0]
    monkeypatch.setattr("stmfg._core.progress.time.perf_counter", lambda: clock[0])
    with planned({"read": 1.0, "train": 2.0, "write": 1.0}), showing(show=True):
        for name, seconds in (("read", 100.0), ("other", 0.0), ("train", 100.0), ("write", 50.0)):
            with stage(name):
                clock[0] += seconds
    assert caplog.messages == [
        "read: 100.0 s (1 of 3, about 5 min left)",
        "other: 0.0 s (about 5 min left)",  # not in the plan
        "train: 100.0 s (2 of 3, about 70 s left)",  # a third of the 200 seconds that three quarters took
        "write: 50.0 s (3 of 3)",
    ]
    assert [time_left(seconds) for seconds in (3, 130, 3 * 3600)] == [
        "a few seconds left", "about 2 min left", "about 3 h left",
    ]  # fmt: skip


def test_bars_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_two_stages(show=True)
    said = capsys.readouterr().err
    assert "read: 00:00" in said
    assert "train: 100%" in said
    assert "3/3" in said
    assert "loss 0.2500" in said


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_unasked(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    run_two_stages(show=False)
    assert (capsys.readouterr().err, caplog.messages) == ("", [])
    run_two_stages(show=False, train=True)  # of a model on its own, the training alone
    assert ("train" in capsys.readouterr().err, len(caplog.messages)) == (terminal, not terminal)


def test_a_stage_that_fails_logs_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    with pytest.raises(KeyboardInterrupt), showing(show=True), stage("train"):
        raise KeyboardInterrupt
    assert caplog.messages == []


def test_the_stages_of_a_call_in_python(
    section: AnnData, quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stmfg")
    stmfg.tl.domains(section, n_domains=3, progress=True, **quick)
    stages = [message.split(":")[0] for message in caplog.messages if ":" in message]
    assert stages[:5] == ["check", "features", "train", "graphs", "embedding"]
    assert "domains" in stages[5:]

"""The folder of results: who may write to it, and what is in it when a run fails, is interrupted or is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata as ad
import pytest

import stmfg
import stmfg.workflow
from _runs import FILES, QUICK, contents, go, tissue
from stmfg import report, tl
from stmfg.errors import InputError

pytestmark = pytest.mark.usefixtures("single_thread")

EARLIER = json.dumps({"version": "0.1.0", "options": {}, "n_obs": 9, "n_domains": 2})


def test_a_second_run_replaces_the_first(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    go(tissue(), tmp_path, n_domains=2)
    (tmp_path / "mine.txt").write_text("notes")
    (tmp_path / "composition.csv").write_text("of an earlier run of several slices")
    source = finished[0].parent / "input.h5ad"
    with pytest.raises(InputError, match=r"2 domains of 150 spots, .*; add overwrite=True to replace them, or give an"):
        stmfg.workflow.run(source, tmp_path, n_domains=3, **QUICK)
    stmfg.workflow.run(source, tmp_path, n_domains=3, overwrite=True, **QUICK)
    assert {p.name for p in tmp_path.iterdir()} == FILES | {"mine.txt"}
    assert (tmp_path / "domains.csv").read_bytes() == (finished[0] / "domains.csv").read_bytes()
    assert json.loads((tmp_path / "run.json").read_text())["n_domains"] == 3
    assert ad.read_h5ad(tmp_path / "result.h5ad").obs["stmfg_domain"].nunique() == 3


def failing(monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException) -> None:
    """Make a run fail when it looks for domains, or at the very end, when it writes the report."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(*((tl, "domains") if where == "domains" else (report, "write")), fail)


@pytest.mark.parametrize("error", [InputError("late"), RuntimeError("late"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["domains", "report"])
def test_a_late_failure_leaves_earlier_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str
) -> None:
    for name in FILES:
        (tmp_path / name).write_text(EARLIER if name == "run.json" else "earlier")
    before = contents(tmp_path)
    failing(monkeypatch, where, error)
    with pytest.raises(type(error)):
        stmfg.workflow.run(tissue(), tmp_path, n_domains=2, overwrite=True, **QUICK)
    left = contents(tmp_path)
    left.pop("checkpoint.safetensors", None)  # what --resume continues from
    assert left == before
    if where == "domains":
        with pytest.raises(type(error)):
            stmfg.workflow.run(tissue(), tmp_path / "new", n_domains=2, **QUICK)
        assert not (tmp_path / "new").exists()


def test_an_unusable_option_leaves_the_checkpoint_of_an_interrupted_run(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"an hour of training")
    for options in ({"library_key": "absent"}, {"use_rep": "none"}, {"device": "tpu"}):
        with pytest.raises(InputError):
            stmfg.workflow.run(tissue(), tmp_path, n_domains=2, resume=True, **QUICK, **options)
    assert contents(tmp_path) == {"checkpoint.safetensors": b"an hour of training"}


def test_interrupted_and_resumed(
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import stmfg.model.checkpoint
    import stmfg.model.train

    source, save, calls = finished[0].parent / "input.h5ad", stmfg.model.checkpoint.Checkpoint.save, []

    def interrupted(*args: Any) -> None:
        save(*args)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stmfg.model.train, "CHECKPOINT_SECONDS", 0.0)
        patch.setattr(stmfg.model.checkpoint.Checkpoint, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stmfg.workflow.run(source, tmp_path / "out", n_domains=3, **QUICK)
    assert set(contents(tmp_path / "out")) == {"checkpoint.safetensors"}
    with caplog.at_level("INFO", "stmfg"):
        record = go(source, tmp_path / "out", resume=True)
    assert "continuing at epoch 3" in caplog.text
    assert record["history"] == finished[1]["history"]
    assert (tmp_path / "out" / "domains.csv").read_bytes() == (finished[0] / "domains.csv").read_bytes()


def test_nothing_is_resumed_or_lost_unasked(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    source = finished[0].parent / "input.h5ad"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"of another run")
    with pytest.raises(InputError, match=r"interrupted .*; add resume=True to continue it, overwrite=True to begin"):
        go(source, tmp_path / "out")
    assert contents(tmp_path / "out") == {"checkpoint.safetensors": b"of another run"}
    record = go(source, tmp_path / "out", overwrite=True)
    assert record["warnings"] == []
    with pytest.raises(InputError, match="add overwrite=True to replace them"):
        go(source, tmp_path / "out", resume=True)  # there is nothing to continue
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"damaged")
    record = go(finished[0].parent / "input.h5ad", tmp_path / "out", resume=True)
    assert "cannot be read" in record["warnings"][0]


@pytest.mark.parametrize("name", ["report.html", "run.json", "abundance.csv"])
def test_a_file_of_another_program_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"version": 1}')
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match=f"holds {name}, which no run of stMFG has left there"):
            stmfg.workflow.run(tissue(), tmp_path, n_domains=2, **QUICK, **options)
    assert contents(tmp_path) == {name: b'{"version": 1}'}


def test_ctrl_c_while_the_lock_is_removed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink, pressed = Path.unlink, []

    def interrupted(path: Path, *, missing_ok: bool = False) -> None:
        if path.name == ".lock" and not pressed:
            pressed.append(path)
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(tissue(), tmp_path / "out")
    assert pressed
    assert set(contents(tmp_path / "out")) == FILES


def test_two_runs_into_one_folder(section: ad.AnnData, quick: dict[str, Any], tmp_path: Path) -> None:
    import fcntl

    output = tmp_path / "out"
    output.mkdir()
    with (output / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another run is writing to"):
            stmfg.workflow.run(section.copy(), output, n_domains=3, **quick)
        assert [path.name for path in output.iterdir()] == [".lock"]
    stmfg.workflow.run(section, output, n_domains=3, **quick)  # what a killed run leaves behind is no lock
    assert {path.name for path in output.iterdir()} == set(stmfg.workflow.OUTPUTS)

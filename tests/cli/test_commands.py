"""The command line: exit statuses, and what is said where; what is refused is in test_cli_refusals."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

import stmfg.workflow
from _commands import ENVIRONMENT, ctrl_c_interrupts, good, stmfg_command
from _runs import FILES
from stmfg import cli
from stmfg.datasets import simulate

pytestmark = pytest.mark.usefixtures("single_thread")


# -- what goes wrong inside ----------------------------------------------------------------------------


NO_MEMORY = "not enough memory (MemoryError); use a larger machine, or leave out what is not needed"
NO_SPACE = "no space is left on the disk ([Errno 28] No space left on device); make room, and --resume continues"
INTERRUPTED = "stmfg: interrupted; the same command with --resume continues from the last checkpoint\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("no luck\nsecond line"), 1, "stmfg: internal error (RuntimeError): no luck\n"),
        (ValueError(), 1, "stmfg: internal error (ValueError): no message\n"),
        (MemoryError(), 1, f"stmfg: {NO_MEMORY}\n"),
        (OSError(28, "No space left on device"), 1, f"stmfg: {NO_SPACE}\n"),
        (stmfg.StmfgError("not finite"), 1, "stmfg: internal error: not finite\n"),
        (KeyboardInterrupt(), 130, INTERRUPTED),
    ],
)
def test_errors_inside(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(stmfg.workflow, "run", fail)
    assert cli.main(["run", "input.h5ad", "-o", str(tmp_path / "out")]) == status
    assert capfd.readouterr() == ("", said)
    assert not (tmp_path / "out").exists()


def test_verbose_tells_where_an_internal_error_arose(tmp_path: Path) -> None:
    good(tmp_path / "input.h5ad")
    program = """if True:
        import sys
        import stmfg.cli, stmfg.tl

        def fail(*_, **__):
            raise RuntimeError("no luck")

        stmfg.tl.domains = fail
        sys.exit(stmfg.cli.main(["run", "input.h5ad", "-o", "out", sys.argv[1]]))
    """
    said = {}
    for option in ("--quiet", "--verbose"):
        line = [sys.executable, "-c", program, option]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=ENVIRONMENT, check=False)
        assert done.returncode == 1
        said[option] = done.stderr
    assert said["--quiet"] == "stmfg: internal error (RuntimeError): no luck\n"
    assert "stmfg: DEBUG: stage read took" in said["--verbose"]
    assert "Traceback" in said["--verbose"]
    assert "in fail" in said["--verbose"]


def test_ctrl_c(tmp_path: Path) -> None:
    simulate(100, 40, n_domains=3).write_h5ad(tmp_path / "input.h5ad")
    program = """if True:
        import sys
        import stmfg.cli, stmfg.model.train
        stmfg.model.train.CHECKPOINT_SECONDS = 0.0
        line = ["run", "input.h5ad", "-o", "out", "--n-domains", "3", "--quiet", "--set", "epochs=1000000"]
        sys.exit(stmfg.cli.main(line))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ctrl_c_interrupts,
        start_new_session=True,  # a terminal sends Ctrl-C to the command, not to the tests
    )  # fmt: skip
    try:
        training = tmp_path / "out" / "checkpoint.safetensors"
        for _ in range(600):
            if training.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (130, "", INTERRUPTED)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint.safetensors"]


# -- good runs -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """One run by a process of its own, with everything it says."""
    folder = tmp_path_factory.mktemp("process")
    adata = simulate(120, 40, n_domains=3, difficulty=0.4)
    keep = ~np.isin(np.arange(120), [4, 50]) * 1.0
    adata.X = sparse.csr_matrix(sparse.diags_array(keep) @ adata.X, dtype=np.float32)
    adata.write_h5ad(folder / "input.h5ad")
    return folder, stmfg_command("run", "input.h5ad", "-o", "deep/out", "--n-domains", "3", "--seed", "5", cwd=folder)


def test_run(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, process = done
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert re.fullmatch(r"3 domains of 120 spots in \d+ s; open deep/out/report\.html", lines[0])
    assert any(re.match(r"\d+\.\d% of the spots are uncertain, .*; domain [123] the most", line) for line in lines)
    assert re.match(r"\d warnings? (is|are) in the report; read", lines[-1])
    assert re.search(
        r"^stmfg: INFO: train: .* s, loss \d.*\(\d+ of \d+, .* left\)$", process.stderr, flags=re.MULTILINE
    )
    stages = re.findall(r"^stmfg: INFO: (\w[\w ]*): \d", process.stderr, flags=re.MULTILINE)
    assert stages[0] == "read"
    assert set(stages[-2:]) == {"result", "report"}  # side by side
    assert "\r" not in process.stderr  # no bar, as it is no terminal
    assert "spot5, spot51" in process.stderr  # the warning
    assert "Warning" not in process.stderr.replace("WARNING", "")  # and no library's
    assert {path.name for path in (folder / "deep" / "out").iterdir()} == FILES
    record = json.loads((folder / "deep" / "out" / "run.json").read_text())
    assert record["input"] == str(folder / "input.h5ad")  # so that --from works from anywhere
    assert record["options"]["n_domains"] == 3
    assert record["options"]["random_state"] == 5
    assert record["n_obs"] == 120


def test_a_second_process_gives_the_same_bytes(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = done
    again = stmfg_command("run", "input.h5ad", "-o", "again", "--n-domains", "3", "--seed", "5", "--quiet", cwd=folder)
    assert again.returncode == 0
    assert again.stdout == ""
    assert len(set(again.stderr.splitlines())) == 1  # the warning stays
    first, second = ((folder / name / "domains.csv").read_bytes() for name in ("deep/out", "again"))
    assert first == second


def test_demo(tmp_path: Path) -> None:
    demo = stmfg_command("demo", "--seed", "3", cwd=tmp_path)
    assert demo.returncode == 0
    summary, *_, truth = demo.stdout.splitlines()
    assert summary.startswith("7 domains of 3,000 spots in ")
    assert re.fullmatch(r"agreement with the simulated truth: ARI 0\.\d\d", truth)
    assert {path.name for path in (tmp_path / "demo").iterdir()} == FILES
    assert json.loads((tmp_path / "demo" / "run.json").read_text())["options"]["random_state"] == 3


def test_earlier_results_are_not_lost_unasked(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = done
    page = folder / "deep" / "out" / "report.html"
    before = page.stat().st_mtime_ns
    again = stmfg_command("run", "input.h5ad", "-o", "deep/out", "--n-domains", "2", cwd=folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert re.fullmatch(
        r"stmfg: deep/out holds the results of a run \(3 domains of 120 spots, \d{4}-\d\d-\d\d \d\d:\d\d\); "
        r"add --overwrite to replace them, or give another folder\n",
        again.stderr,
    )
    assert page.stat().st_mtime_ns == before


def test_a_reader_that_has_seen_enough(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """As `stmfg info DATA | head -1`: the end of the pipe is no error to speak of."""
    for arguments, status in ((["info", "input.h5ad"], 141), (["run", "--help"], 0)):  # of help, argparse ends it
        line = [sys.executable, "-m", "stmfg", *arguments]
        process = subprocess.Popen(
            line, cwd=done[0], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == status
        process.stderr.close()


# -- help ----------------------------------------------------------------------------------------------


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    contract = "--n-domains --preset --seed --use-rep --layer --library-key --platform --view --device --resume --title"
    contract += " --overwrite"
    for arguments, mentioned in (
        ([], "run info apply batch export report compare demo completion --version"),
        (["run"], f"INPUT -o K|auto examples: --config --from --set {contract}"),
        (["batch"], "SHEET -o --jobs --slurm --n-domains --layer --from"),
        (["apply"], "MODEL INPUT -o --platform --layer --library-key --device --title"),
        (["export"], "RESULT --to -o --key --slice"),
        (["report"], "RESULT -o --title"),
        (["demo"], "-o --seed"),
        (["info"], "INPUT --platform"),
        (["completion"], "bash zsh fish"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--help"])
        assert ended.value.code == 0
        out, err = capfd.readouterr()
        assert err == ""
        assert all(word in out for word in mentioned.split())


def test_report(done: tuple[Path, subprocess.CompletedProcess[str]], capfd: pytest.CaptureFixture[str]) -> None:
    page = done[0] / "again.html"
    assert cli.main(["report", str(done[0] / "deep" / "out"), "--title", "My slice", "-o", str(page)]) == 0
    assert capfd.readouterr().out == f"open {page}\n"
    assert "<h1>My slice" in page.read_text()


def test_version_needs_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys, contextlib, stmfg.cli\n"
        "with contextlib.suppress(SystemExit): stmfg.cli.main(['--version'])\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'scanpy', 'sklearn', 'anndata')))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False
    )
    assert (shown.returncode, shown.stdout) == (0, f"stmfg {stmfg.__version__}\n")

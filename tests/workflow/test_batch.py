"""Many samples from one sheet: what is run and what is not, whatever fails or is killed, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import pytest

import stmfg.workflow
from _finished import finished, run_record
from _runs import FILES
from stmfg import cli
from stmfg.datasets import simulate
from stmfg.errors import InputError
from stmfg.io.sheet import Sample
from stmfg.report import write_overview
from stmfg.workflow import RunOptions, _sample, _workers, batch
from stmfg.workflow._sample import Failure, Task

QUICK: dict[str, Any] = {"n_domains": 3, "epochs": 2, "n_votes": 1, "n_starts": 1, "redraws": 2}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four small slices; each test writes its own sheet beside them."""
    folder = tmp_path_factory.mktemp("slices")
    for i in range(4):
        simulate(300, 60, n_domains=3, difficulty=0.3, random_state=i).write_h5ad(folder / f"{i}.h5ad")
    no_counts = simulate(300, 60, n_domains=3, random_state=4)
    no_counts.X = no_counts.X * 0.5
    no_counts.write_h5ad(folder / "-1.h5ad")
    return folder


def sheet(path: Path, slices: Path, names: str = "abcd", **columns: list[str]) -> Path:
    """Write a sheet: samples a, b, c and d are the slices 0 to 3, any other has no counts."""
    files = [slices / f"{'abcd'.find(name)}.h5ad" for name in names]
    pd.DataFrame({"sample": list(names), "path": map(str, files)} | columns).to_csv(path, index=False)
    return path


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run samples in this process, which spares its start; return the names of those that were run."""
    ran: list[str] = []

    def here(tasks: list[Task], jobs: int) -> Iterator[tuple[str, Failure | None]]:
        for task in tasks:
            ran.append(task.name)
            yield task.name, _sample.run_sample(task)

    monkeypatch.setattr(_workers, "run_here", here)
    return ran


def records(output: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("*/run.json")}


# -- what comes out ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A batch by two processes at a time, with one sample that fails."""
    folder = tmp_path_factory.mktemp("done")
    columns = {"condition": ["x", "<y>", "x", "<y>"], "donor": list("pqrs"), "n_domains": ["", "4", "", ""]}
    columns |= {"age": ["61", "", "58", "70"]}
    found = batch(sheet(folder / "s.csv", slices, "abcz", **columns), folder / "out", jobs=2, **QUICK)
    return folder / "out", found


def test_a_folder_for_each_sample_is_that_of_a_run(done: tuple[Path, Any], slices: Path, tmp_path: Path) -> None:
    output, _ = done
    assert {path.name for path in output.iterdir()} == {"a", "b", "c", "index.html", "matched.csv", "summary.csv"}
    assert all({path.name for path in (output / name).iterdir()} == FILES for name in "abc")
    record = json.loads((output / "b" / "run.json").read_text())
    assert (record["n_domains"], record["options"]["epochs"]) == (4, 2)  # the sheet's, and that of all
    assert set(ad.read_h5ad(output / "a" / "result.h5ad").obs["age"]) == {"61"}
    stmfg.workflow.run(slices / "0.h5ad", tmp_path / "alone", **QUICK)
    assert (tmp_path / "alone" / "domains.csv").read_bytes() == (output / "a" / "domains.csv").read_bytes()


def test_summary(done: tuple[Path, Any]) -> None:
    output, (summary, failures) = done
    table = pd.read_csv(output / "summary.csv").set_index("sample")
    assert table.index.tolist() == list("abcz") == summary["sample"].tolist()
    assert table["status"].tolist() == ["finished"] * 3 + ["failed"]
    assert table.loc["b", ["condition", "donor", "n_obs", "n_domains"]].tolist() == ["<y>", "q", 300, 4]
    assert table["age"].dropna().to_dict() == {"a": 61, "c": 58, "z": 70}
    confidence = pd.read_csv(output / "a" / "domains.csv")["confidence"]
    assert table.loc["a", "uncertain"] == pytest.approx((confidence < 0.5).mean(), abs=1e-4)
    stages = json.loads((output / "a" / "run.json").read_text())["stages"]
    assert table.loc["a", "seconds"] == pytest.approx(sum(stage["seconds"] for stage in stages), abs=1e-3)
    assert table.loc["a", "peak_mb"] > 100
    assert "non-integer values" in table.loc["z", "reason"]
    assert list(failures) == ["z"]
    assert failures["z"].bad_input


def test_page(done: tuple[Path, Any]) -> None:
    output, _ = done
    text = (output / "index.html").read_text()
    for name in "abc":
        assert text.count(f'href="{name}/report.html"') == 2  # from the map and from the name
        assert (output / name / "report.html").exists()
    assert text.count("data:image/webp;base64,") == 3
    assert "non-integer values" in text
    assert "&lt;y&gt;" in text
    assert "<y>" not in text
    assert not re.search(r'(src|href)="(?!data:|[abc]/report\.html|#)', text)


def test_slices_of_one_sample_are_side_by_side_on_its_map(tmp_path: Path) -> None:
    adata = finished(10)
    adata.obs["slice"] = pd.Categorical(["p", "q"] * 50)
    (tmp_path / "a").mkdir()
    adata.write_h5ad(tmp_path / "a" / "result.h5ad")
    pages = []
    for key in (None, "slice"):
        record = run_record(adata, n_domains=4, options={"library_key": key})
        write_overview([Sample("a", tmp_path / "in.h5ad")], {"a": record}, {}, tmp_path)
        pages.append((tmp_path / "index.html").read_text())
    pictures = [re.findall(r"data:image/webp;base64,[^\"]+", page) for page in pages]
    assert pictures[0] != pictures[1]


# -- what is run again ---------------------------------------------------------------------------------


def test_finished_samples_are_not_run_again(slices: Path, tmp_path: Path, in_process: list[str]) -> None:
    path, output = sheet(tmp_path / "s.csv", slices, "ab"), tmp_path / "out"
    batch(path, output, **QUICK)
    before = records(output)
    batch(path, output, **QUICK)
    assert in_process == ["a", "b"]
    assert records(output) == before
    in_process.clear()

    other_seed = RunOptions.of(**QUICK, random_state=1)
    with pytest.raises(InputError, match="2 of 2 samples cannot be run"):  # not lost unasked
        batch(path, output, other_seed)
    assert records(output) == before
    assert in_process == []
    batch(path, output, other_seed, overwrite=True)
    assert in_process == ["a", "b"]
    in_process.clear()
    sheet(tmp_path / "s.csv", slices, "ab", seed=["1", "2"])
    batch(path, output, overwrite=True, **QUICK)  # the seed of a comes from the sheet now, and is the same
    assert in_process == ["b"]
    in_process.clear()
    (output / "a" / "domains.png").unlink()
    batch(path, output, overwrite=True, **QUICK)
    assert in_process == ["a"]


def test_a_changed_input_is_run_again(slices: Path, tmp_path: Path, in_process: list[str]) -> None:
    for name in "01":
        (tmp_path / f"{name}.h5ad").write_bytes((slices / f"{name}.h5ad").read_bytes())
    path = sheet(tmp_path / "s.csv", tmp_path, "ab")
    batch(path, tmp_path / "out", **QUICK)
    in_process.clear()
    os.utime(tmp_path / "1.h5ad", ns=(1, 1))
    batch(path, tmp_path / "out", overwrite=True, **QUICK)
    assert in_process == ["b"]


def test_a_failed_sample_is_tried_again(slices: Path, tmp_path: Path, in_process: list[str]) -> None:
    (tmp_path / "0.h5ad").write_bytes((slices / "-1.h5ad").read_bytes())
    path, output = sheet(tmp_path / "s.csv", tmp_path, "a"), tmp_path / "out"
    assert "non-integer" in batch(path, output, **QUICK).failures["a"].reason
    (tmp_path / "0.h5ad").write_bytes((slices / "0.h5ad").read_bytes())
    assert batch(path, output, **QUICK).failures == {}
    assert "Not finished" not in (output / "index.html").read_text()


def test_killed_half_way_and_run_again(slices: Path, tmp_path: Path) -> None:
    """SIGKILL of the whole process group: nothing can tidy up."""
    (tmp_path / "quick.toml").write_text("\n".join(f"{name} = {value}" for name, value in QUICK.items()))
    path, output = sheet(tmp_path / "s.csv", slices), tmp_path / "out"
    command = [sys.executable, "-m", "stmfg", "batch", str(path), "-o", str(output), "--quiet"]
    command += ["--config", str(tmp_path / "quick.toml")]
    started = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
    deadline = time.monotonic() + 200
    while not records(output) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    before = records(output)
    assert 1 <= len(before) < 4
    assert not (output / "index.html").exists()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    after = records(output)
    assert set(after) == set("abcd")
    assert {name: after[name] for name in before} == before
    assert (output / "index.html").exists()
    assert (pd.read_csv(output / "summary.csv")["status"] == "finished").all()


# -- processes -----------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a shell script in the place of the process of a sample."""

    def use(script: str) -> None:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\nread task\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(_workers.sys, "executable", str(path))

    return use


def tasks(names: str) -> list[Task]:
    return [Task(name, "in.h5ad", "out", {}, {}) for name in names]


def test_a_process_that_is_killed_takes_no_other_with_it(program: Callable[[str], None]) -> None:
    program("case $task in *'\"b\"'*) kill -9 $$;; *) echo null;; esac")
    found = dict(_workers.run_here(tasks("abc"), 2))
    assert (found["a"], found["c"]) == (None, None)
    assert found["b"] is not None
    assert "ended by SIGKILL: most often the memory was too small" in found["b"].reason
    assert not found["b"].bad_input


def test_processes_share_the_processors(program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program('echo "[\\"threads $OMP_NUM_THREADS\\", true]"')
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for jobs, threads in ((1, ""), (2, "4"), (16, "1")):
        ((_, failure),) = _workers.run_here(tasks("a"), jobs)
        assert failure == Failure(f"threads {threads}", bad_input=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ((_, failure),) = _workers.run_here(tasks("a"), 2)
    assert failure == Failure("threads 3", bad_input=True)


@pytest.mark.parametrize("deaf", ["", "trap '' INT; "])
def test_an_end_ends_the_processes(deaf: str, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program(deaf + "case $task in *'\"a\"'*) echo null;; *) exec sleep 100;; esac")
    monkeypatch.setattr(_workers, "_TO_END", 0.1)
    monkeypatch.setattr(_workers, "_TO_SAVE", 0.5)
    begun = time.monotonic()
    with closing(_workers.run_here(tasks("abcd"), 2)) as results:
        assert next(results) == ("a", None)
    assert time.monotonic() - begun < 30


# -- Slurm ---------------------------------------------------------------------------------------------


SLURM = {
    # Runs the array's jobs at once, as a cluster with room for all does.
    "sbatch": """
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
cp "$1" "$FAKE_SLURM/script"
for i in $(seq 0 $last); do
  (SLURM_JOB_ID=7$i SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$i SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 \\
  SLURM_NNODES=1 SLURM_NODEID=0 SLURM_JOB_NODELIST=node sh "$1" >"$FAKE_SLURM/said-$i" 2>&1
  touch "$FAKE_SLURM/ended-$i") >/dev/null 2>&1 &
done
echo "Submitted batch job 7"
""",
    "srun": 'while [ "${1#-}" != "$1" ]; do case $1 in --*=*|--unbuffered) shift;; *) shift 2;; esac; done; exec "$@"',
    "sacct": """
echo "JobID|State|NodeList"
for i in 0 1; do
  state=RUNNING; [ -e "$FAKE_SLURM/ended-$i" ] && state=COMPLETED
  echo "7_$i|$state|node"
done
""",
    "scancel": "exit 0",
}


def test_slurm(slices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the sheet to the page, by stand-ins for the commands of Slurm."""
    pytest.importorskip("submitit", reason='needs pip install "stmfg[slurm]"')
    (tmp_path / "bin").mkdir()
    for name, script in SLURM.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    monkeypatch.setattr(_workers, "_POLL", 0.2)
    settings = {"partition": "long", "mem": "4G", "time": "30"}
    output = tmp_path / "out"
    found = batch(sheet(tmp_path / "s.csv", slices, "az"), output, slurm=settings, jobs=5, **QUICK)
    assert {path.name for path in (output / "a").iterdir()} == FILES
    assert list(found.failures) == ["z"]
    assert "non-integer" in found.failures["z"].reason
    script = (tmp_path / "script").read_text()
    for line in ("--array=0-1%2", "--partition=long", "--mem=4G", "--time=30", "--job-name=stmfg"):
        assert f"#SBATCH {line}\n" in script


def test_slurm_that_is_not_here(
    slices: Path, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason='needs pip install "stmfg[slurm]"')
    monkeypatch.setenv("PATH", str(tmp_path))
    path = sheet(tmp_path / "s.csv", slices, "a")
    assert "Slurm cannot take the samples (Could not detect" in refused(batch, path, tmp_path / "out", slurm={})
    assert "give whole minutes" in refused(batch, path, tmp_path / "out", slurm={"time": "1:00:00"})
    assert not (tmp_path / "out").exists()


# -- the command ---------------------------------------------------------------------------------------


def test_exit_status_of_bad_input(slices: Path, tmp_path: Path) -> None:
    sheet(tmp_path / "s.csv", slices, "z")
    done = subprocess.run(
        [sys.executable, "-m", "stmfg", "batch", "s.csv", "-o", "out", "--quiet"],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    in_words_of_the_shell = r"^stmfg: WARNING: z: .* non-integer values .*and its name with --use-rep"
    assert re.search(in_words_of_the_shell, done.stderr, flags=re.MULTILINE)
    assert done.stderr.splitlines()[-1] == "stmfg: 1 of 1 samples failed (z); out/index.html says why"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html", "matched.csv", "summary.csv"}


def test_exit_status_of_success_and_of_failures_of_the_machine(
    slices: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    in_process: list[str],
) -> None:
    stmfg.workflow.run(slices / "1.h5ad", tmp_path / "quick", **QUICK)
    line = ["batch", str(sheet(tmp_path / "s.csv", slices, "a")), "-o", str(tmp_path / "out")]
    line += ["--from", str(tmp_path / "quick")]
    assert cli.main(line) == 0
    out, _ = capfd.readouterr()
    assert out == f"1 samples, 300 spots; open {tmp_path}/out/index.html\n"

    monkeypatch.setattr(_sample, "run", lambda *_, **__: 1 / 0)
    assert cli.main([*line, "--seed", "1", "--quiet", "--overwrite"]) == 1
    _, err = capfd.readouterr()
    assert "ZeroDivisionError: division by zero" in (tmp_path / "out" / "index.html").read_text()
    assert err.splitlines()[-1].startswith("stmfg: internal error: 1 of 1 samples failed (a)")


def test_ctrl_c_says_how_to_continue(
    slices: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(_workers, "run_here", interrupted)
    path = sheet(tmp_path / "s.csv", slices, "a")
    assert cli.main(["batch", str(path), "-o", str(tmp_path / "out"), "--quiet"]) == 130
    assert capfd.readouterr().err == "stmfg: interrupted; the same command continues where it stopped\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--slurm", "partition"], "'partition' is not KEY=VALUE"),
        (["--jobs", "0"], "jobs is 0"),
        (["--resume"], "unrecognized arguments: --resume"),
        (["--from", "absent.json"], "no record of a run"),
    ],
)
def test_bad_options(
    slices: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    line = ["batch", str(sheet(tmp_path / "s.csv", slices, "a")), "-o", str(tmp_path / "out"), *arguments]
    assert cli.main(line) == 2
    out, err = capfd.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert said in err
    assert not (tmp_path / "out").exists()

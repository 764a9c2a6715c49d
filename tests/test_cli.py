"""The command line: exit statuses, what is said where, and one clear line for every bad input."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from threadpoolctl import threadpool_limits

import stmfg
from stmfg import cli
from stmfg.datasets import simulate

FILES = {"result.h5ad", "domains.csv", "domains.png", "report.html", "run.json"}
# One thread: short runs gain nothing from more, and the tests share the machine.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def stmfg_command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``stmfg`` as a process of its own."""
    command = [sys.executable, "-m", "stmfg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, **options)


def make(n: int = 30, genes: int = 20, *, scale: float = 1.0) -> ad.AnnData:
    """Spots named s0, s1, ... on a grid, with Poisson counts."""
    counts = np.random.default_rng(0).poisson(2.0, (n, genes)).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(counts) * scale, obs=pd.DataFrame(index=[f"s{i}" for i in range(n)]))
    adata.obsm["spatial"] = np.column_stack(np.divmod(np.arange(n), 6)).astype(np.float64)
    return adata


def _changed(change: Callable[[ad.AnnData], Any], *args: Any, **kwargs: Any) -> Callable[[Path], None]:
    """Return a function that writes an .h5ad with something wrong in it."""

    def write(path: Path) -> None:
        adata = make(*args, **kwargs)
        change(adata)
        adata.write_h5ad(path)

    return write


def _position(value: float) -> Callable[[Path], None]:
    def change(adata: ad.AnnData) -> None:
        adata.obsm["spatial"][7, 1] = value

    return _changed(change)


def _value(value: float) -> Callable[[Path], None]:
    def change(adata: ad.AnnData) -> None:
        adata.X.data[5] = value

    return _changed(change)


def _names(adata: ad.AnnData) -> None:
    adata.obs_names = ["s0", *adata.obs_names[:-1]]


def _same_place(adata: ad.AnnData) -> None:
    adata.obsm["spatial"][:] = 4.5


def _no_counts(adata: ad.AnnData) -> None:
    adata.X = None


def _zero(adata: ad.AnnData) -> None:
    adata.X = sparse.csr_matrix(adata.shape, dtype=np.float32)


def _some_named(adata: ad.AnnData) -> None:
    adata.obs["slice"] = pd.Categorical(["a", None] * 15)


def _logged(adata: ad.AnnData) -> None:
    adata.X = adata.X.log1p()


def _bad_embedding(adata: ad.AnnData) -> None:
    adata.obsm["X_bad"] = np.full((adata.n_obs, 3), np.nan)


def _three_used(adata: ad.AnnData) -> None:
    adata.X = sparse.vstack([adata.X[:3], sparse.csr_matrix((27, 20), dtype=np.float32)], format="csr")


def _five_used(adata: ad.AnnData) -> None:
    adata.X = sparse.vstack([adata.X[:5], sparse.csr_matrix((25, 20), dtype=np.float32)], format="csr")


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["numbers"] = np.arange(5)


def _cut_short(path: Path) -> None:
    make().write_h5ad(path)
    path.write_bytes(path.read_bytes()[:3000])


def _nothing(path: Path) -> None:
    """Write no file at all."""


def _good(path: Path) -> None:
    make().write_h5ad(path)


COUNTS = r"expected raw counts; give raw counts in layers\['counts'\], or use an embedding with --use-rep KEY"
UNREADABLE = r"input\.h5ad as h5ad cannot be read \(.*\); check that the copy is complete"
BAD_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing file": (_nothing, r"input\.h5ad: no such file or folder; give an \.h5ad file"),
    "text": (
        lambda path: path.write_text("not this\n"),
        r"input\.h5ad as h5ad cannot be read \(.*\); check that the copy is complete",
    ),
    "empty file": (
        lambda path: path.write_bytes(b""),
        r"input\.h5ad as h5ad cannot be read \(.*\); check that the copy is complete",
    ),
    "other HDF5": (_hdf5, r"input\.h5ad"),
    "cut short": (_cut_short, UNREADABLE),
    "no positions": (_changed(lambda a: a.obsm.clear()), r"obsm\['spatial'\] is missing \(obsm has: nothing\)"),
    "NaN position": (_position(np.nan), r"obsm\['spatial'\] has NaN or infinite values for 1 of 30 spots \(first 's7'"),
    "infinite position": (_position(np.inf), r"obsm\['spatial'\] has NaN or infinite values for 1 of 30 spots"),
    "one place": (_changed(_same_place), r"obsm\['spatial'\] puts all 30 spots at one point \(4\.5, 4\.5\)"),
    "same names": (_changed(_names), r"1 of 30 spot names repeat an earlier one \(first 's0'\)"),
    "negative": (_value(-2.0), r"X has 1 negative values \(first -2\), " + COUNTS),
    "fractions": (_changed(lambda a: None, scale=0.37), r"X has \d+ non-integer values \(first [\d.]+\), " + COUNTS),
    "logarithms": (_changed(_logged), r"X has \d+ non-integer values .*" + COUNTS),
    "NaN count": (_value(np.nan), r"X has 1 NaN or infinite values .*" + COUNTS),
    "all zero": (_changed(_zero), r"X is zero everywhere, " + COUNTS),
    "no counts": (_changed(_no_counts), r"X is empty and raw counts are expected; .*--use-rep"),
    "no genes": (_changed(lambda a: None, genes=0), r"raw counts are expected; .*--use-rep"),
    "three spots": (_changed(lambda a: None, 3), r"the data has 3 spots; at least 4 are needed"),
    "no spots": (_changed(lambda a: None, 0), r"the data has 0 spots; at least 4 are needed"),
    "five spots with counts": (_changed(_five_used), r"7 domains were asked for, but only 5 spots have counts"),
    "three spots with counts": (_changed(_three_used), r"only 3 spots have counts; at least 4 are needed"),
}
BAD_OPTIONS: dict[str, tuple[list[str], str]] = {
    "one domain": (["--n-domains", "1"], r"n_domains is 1, expected at least 2"),
    "no domains": (["--n-domains", "0"], r"n_domains is 0, expected at least 2"),
    "fewer than none": (["--n-domains=-3"], r"n_domains is -3, expected at least 2"),
    "more than spots": (["--n-domains", "31"], r"n_domains is 31 but there are fewer spots \(30\)"),
    "many domains": (["--n-domains", "many"], r"--n-domains: 'many' is neither a number nor 'auto'"),
    "half a domain": (["--n-domains", "2.5"], r"--n-domains: '2\.5' is neither a number nor 'auto'"),
    "unknown option": (["--resolution", "1"], r"unrecognized arguments: --resolution 1 \(see stmfg"),
    "two inputs": (["second.h5ad"], r"unrecognized arguments: second\.h5ad"),
    "unknown preset": (
        ["--preset", "fast"],
        r"--preset: invalid choice: 'fast' \(choose from .*paper",
    ),
    "unknown device": (["--device", "tpu"], r"--device: invalid choice: 'tpu'"),
    "seed in words": (["--seed", "seven"], r"--seed: .*'seven'"),
    "unknown embedding": (["--use-rep", "X_none"], r"obsm\['X_none'\] is missing \(obsm has: spatial\)"),
    "NaN in embedding": (
        ["--use-rep", "X_bad"],
        r"obsm\['X_bad'\] has NaN or infinite values for 30 of 30",
    ),
    "no such view": (["--view", "protein=ADT"], r"obsm\['ADT'\] is missing"),
    "a view without a key": (["--view", "protein"], r"--view: 'protein' is not NAME=KEY"),
    "no image": (["--view", "image"], r"there is no single tissue image"),
    "unknown library": (["--library-key", "slide"], r"obs\['slide'\] is missing \(obs has: nothing\)"),
    "library of some": (["--library-key", "slice"], r"obs\['slice'\] .*missing.* 15 of 30 spots"),
    "negative seed": (["--seed=-1"], r"-1; the seed must be an integer from 0 to"),
    "seed too large": (["--seed", str(2**32)], r"4294967296; the seed must be an integer from 0 to 4294967295"),
    "no such GPU": (["--device", "cuda"], r"this machine has no usable GPU; use device 'cpu' or 'auto'"),
}


@pytest.fixture
def one_line(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a bad command and returns the one line it says.

    It runs twice: with an output folder that is not there, which must not appear, and with one that holds
    earlier results and a checkpoint, which must stay as they are.
    """

    def run_badly(*arguments: str | Path, output: bool = True) -> str:
        new, old = tmp_path / "new", tmp_path / "old"
        old.mkdir()
        earlier = {name: f"earlier {name}".encode() for name in (*FILES, "checkpoint.safetensors")}
        for name, content in earlier.items():
            (old / name).write_bytes(content)
        said = set()
        for folder in (new, old):
            with caplog.at_level(logging.WARNING, "stmfg"):
                status = cli.main([*map(str, arguments), *(["-o", str(folder)] if output else [])])
            out, err = capfd.readouterr()
            assert status == 2, err
            assert out == ""
            assert err.startswith("stmfg: ")
            assert len(err.splitlines()) == 1, err
            # Outside pytest each record would be one more line.
            assert not [record for record in caplog.records if record.name == "stmfg"]
            said.add(err)
        assert len(said) == 1
        assert not new.exists()
        assert {path.name: path.read_bytes() for path in old.iterdir()} == earlier
        return said.pop()

    return run_badly


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(one_line: Callable[..., str], tmp_path: Path, case: str) -> None:
    write, said = BAD_FILES[case]
    write(tmp_path / "input.h5ad")
    k = "7" if case == "five spots with counts" else "2"
    line = one_line("run", tmp_path / "input.h5ad", "--n-domains", k)
    assert re.search(said, line), line


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    "case",
    BAD_OPTIONS,
)
def test_bad_option(one_line: Callable[..., str], tmp_path: Path, case: str) -> None:
    options, said = BAD_OPTIONS[case]
    change = {"X_bad": _bad_embedding, "slice": _some_named}.get(options[-1], lambda adata: None)
    _changed(change)(tmp_path / "input.h5ad")
    line = one_line("run", tmp_path / "input.h5ad", "--n-domains", "2", *options)
    assert re.search(said, line), line


def test_other_kinds_of_input(one_line: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("spot,gene\n")
    assert "is a file of a kind stMFG does not read; give an .h5ad file, a .zarr store" in one_line(
        "run", tmp_path / "table.txt"
    )


@pytest.mark.parametrize("kind", ["empty", "photographs", "zarr", "Space Ranger"])
def test_bad_folder(one_line: Callable[..., str], tmp_path: Path, kind: str) -> None:
    folder = tmp_path / ("input.zarr" if kind == "zarr" else "input")
    folder.mkdir()
    if kind != "empty":
        (folder / "photo.jpg").write_bytes(b"")
    if kind == "Space Ranger":
        (folder / "spatial").mkdir()
    line = one_line("run", folder, "--n-domains", "2")
    assert str(folder) in line


@pytest.mark.parametrize("inside", ["", "results", "results/today"])
def test_output_that_cannot_be_written(one_line: Callable[..., str], tmp_path: Path, inside: str) -> None:
    _good(tmp_path / "input.h5ad")
    (tmp_path / "file").write_text("in the way")
    line = one_line("run", tmp_path / "input.h5ad", "-o", tmp_path / "file" / inside, output=False)
    assert f"{tmp_path / 'file'} is not a folder; give another folder or move that file" in line
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: COMMAND (see stmfg --help)"),
        (["cluster", "input.h5ad"], "invalid choice: 'cluster'"),
        (["run", "-o", "out"], "the following arguments are required: INPUT (see stmfg run --help)"),
        (["run", "input.h5ad"], "the following arguments are required: -o/--output (see stmfg run --help)"),
        (["run", "input.h5ad", "-o"], "argument -o/--output: expected one argument"),
        (["demo", "--n-domains", "3"], "unrecognized arguments: --n-domains 3"),
        (["run", "input.h5ad", "--quiet", "--verbose"], "--verbose: not allowed with argument --quiet"),
        (["run", "input.h5ad", "--set", "epoch=3"], "'epoch' is no hyperparameter; did you mean 'epochs'?"),
        (["run", "input.h5ad", "--config", "absent.toml"], "absent.toml cannot be read (No such file or directory)"),
    ],
)
def test_bad_command(one_line: Callable[..., str], arguments: list[str], said: str) -> None:
    assert said in one_line(*arguments, output=False)


@pytest.mark.parametrize("case", ["missing file", "negative", "unknown option"])
def test_bad_input_to_a_process(tmp_path: Path, case: str) -> None:
    write, said = BAD_FILES.get(case) or (_good, BAD_OPTIONS[case][1])
    write(tmp_path / "input.h5ad")
    done = stmfg_command("run", "input.h5ad", "-o", "out", *BAD_OPTIONS.get(case, ([], ""))[0], cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.search(said, done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_with_line_breaks_and_commands_to_a_terminal_stay_in_one_line(tmp_path: Path) -> None:
    adata = make()
    adata.X = sparse.csr_matrix(adata.X.multiply(np.arange(30)[:, None] > 0), dtype=np.float32)
    adata.obs_names = ["a\nb\x1b[2J", *adata.obs_names[1:]]
    adata.write_h5ad(tmp_path / "input.h5ad")
    done = stmfg_command("run", "input.h5ad", "-o", "out", "--n-domains", "2", "--quiet", cwd=tmp_path)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert r"a\nb\x1b[2J" in done.stderr


def test_bad_input_to_a_process_that_has_begun(tmp_path: Path) -> None:
    # Here torch and the rest are loaded and spots were left out before the refusal: still one line.
    _changed(_five_used)(tmp_path / "input.h5ad")
    done = stmfg_command("run", "input.h5ad", "-o", "out", "--n-domains", "2", "--device", "cuda", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no usable GPU" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_gene(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _changed(lambda adata: None, genes=1)(tmp_path / "input.h5ad")
    output = tmp_path / "out"
    status = cli.main(["run", str(tmp_path / "input.h5ad"), "-o", str(output), "--n-domains", "2", "--quiet"])
    out, err = capfd.readouterr()
    assert status == 2
    assert out == ""
    assert "do not differ once scaled to the same depth" in err
    assert len(err.splitlines()) == 1
    assert not output.exists()


# -- what goes wrong inside ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (RuntimeError("no luck\nsecond line"), 1, "stmfg: internal error (RuntimeError): no luck"),
        (ValueError(), 1, "stmfg: internal error (ValueError): no message"),
        (
            MemoryError(),
            1,
            "stmfg: not enough memory (MemoryError); use a larger machine, or leave out what is not needed",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "stmfg: no space is left on the disk ([Errno 28] No space left on device); make room, and --resume "
            "continues",
        ),
        (stmfg.StmfgError("not finite"), 1, "stmfg: internal error: not finite"),
        (
            KeyboardInterrupt(),
            130,
            "stmfg: interrupted; the same command with --resume continues from the last checkpoint",
        ),
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

    import stmfg.run

    monkeypatch.setattr(stmfg.run, "read", fail)
    assert cli.main(["run", "input.h5ad", "-o", str(tmp_path / "out")]) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err == said + "\n"
    assert not (tmp_path / "out").exists()


def test_verbose_tells_where_an_internal_error_arose(tmp_path: Path) -> None:
    _good(tmp_path / "input.h5ad")
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
    # The command has no option for the length of the training, so the process is given one that never ends.
    simulate(100, 40, n_domains=3).write_h5ad(tmp_path / "input.h5ad")
    program = """if True:
        import functools, sys
        import stmfg.cli, stmfg.run, stmfg.train
        stmfg.train.CHECKPOINT_SECONDS = 0.0
        stmfg.run.run = functools.partial(stmfg.run.run, epochs=1_000_000)
        sys.exit(stmfg.cli.main(["run", "input.h5ad", "-o", "out", "--n-domains", "3", "--quiet"]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal sends Ctrl-C to the command, not to the tests
    )
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
    assert process.returncode == 130
    assert out == ""
    assert err == "stmfg: interrupted; the same command with --resume continues from the last checkpoint\n"
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
    assert re.fullmatch(r"3 domains of 120 spots in \d+ s; open deep/out/report\.html\n", process.stdout)
    assert "training: epoch 20 of 20" in process.stderr
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
    demo = stmfg_command("demo", "--quiet", cwd=tmp_path)
    assert (demo.returncode, demo.stdout, demo.stderr) == (0, "", "")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == FILES
    domains = pd.read_csv(tmp_path / "demo" / "domains.csv")
    assert (len(domains), domains["domain"].nunique()) == (3000, 7)


def test_demo_says_how_well_it_did(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import stmfg.datasets

    seen = []

    def small(n_obs: int, n_genes: int, *, random_state: int) -> ad.AnnData:
        seen.append(random_state)
        return simulate(150, 60, random_state=random_state)

    monkeypatch.setattr(stmfg.datasets, "simulate", small)
    assert cli.main(["demo", "-o", str(tmp_path / "out"), "--seed", "3"]) == 0
    assert seen == [3]
    summary, truth = capfd.readouterr().out.splitlines()
    assert summary.startswith("7 domains of 150 spots in ")
    assert re.fullmatch(r"agreement with the simulated truth: ARI -?\d\.\d\d", truth)


# -- help ----------------------------------------------------------------------------------------------


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    contract = [
        "-o",
        "--n-domains",
        "--preset",
        "--seed",
        "--use-rep",
        "--library-key",
        "--view",
        "--device",
        "--resume",
    ]
    for arguments, mentioned in (
        ([], ["run", "batch", "demo", "info", "completion", "--version"]),
        (["run"], ["INPUT", "K|auto", "examples:", *contract]),
        (["batch"], ["SHEET", "-o", "--jobs", "--slurm", "--n-domains", "--from"]),
        (["demo"], ["-o", "--seed"]),
        (["info"], ["INPUT", "--platform"]),
        (["completion"], ["bash", "zsh", "fish"]),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main([*arguments, "--help"])
        assert ended.value.code == 0
        out, err = capfd.readouterr()
        assert err == ""
        assert all(word in out for word in mentioned)


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


def test_a_run_is_repeated_from_its_record(tmp_path: Path) -> None:
    stmfg.datasets.simulate(200, 60, n_domains=3).write_h5ad(tmp_path / "input.h5ad")
    line = ["run", str(tmp_path / "input.h5ad"), "--quiet", "--n-domains", "3", "--seed", "4"]
    assert cli.main([*line, "-o", str(tmp_path / "a")]) == 0
    assert cli.main(["run", "--from", str(tmp_path / "a"), "-o", str(tmp_path / "b"), "--quiet"]) == 0
    assert (tmp_path / "a" / "domains.csv").read_bytes() == (tmp_path / "b" / "domains.csv").read_bytes()
    other = ["run", "--from", str(tmp_path / "a"), "-o", str(tmp_path / "c"), "--quiet", "--n-domains", "2"]
    assert cli.main(other) == 0
    record = json.loads((tmp_path / "c" / "run.json").read_text())
    assert (record["n_domains"], record["options"]["random_state"]) == (2, 4)


def test_the_input_is_needed(one_line: Callable[..., str]) -> None:
    assert "INPUT" in one_line("run")


def test_a_record_that_is_absent(one_line: Callable[..., str], tmp_path: Path) -> None:
    assert "no record of a run" in one_line("run", "--from", str(tmp_path / "absent.json"))

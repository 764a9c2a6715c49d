"""One clear line for everything the command line refuses, and nothing lost or left; core/ and io/ test each check."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from _commands import ENVIRONMENT, changed, good, make, stmfg_command
from _runs import FILES
from stmfg import cli

pytestmark = pytest.mark.usefixtures("single_thread")


def first_spots(n: int) -> Callable[[ad.AnnData], None]:
    """Return a function that leaves counts to the first n spots."""

    def change(adata: ad.AnnData) -> None:
        adata.X = sparse.csr_matrix(adata.X.multiply(np.arange(30)[:, None] < n), dtype=np.float32)
        adata.X.eliminate_zeros()

    return change


def negative(adata: ad.AnnData) -> None:
    adata.X.data[5] = -2.0


COUNTS = (
    r"expected raw counts; give raw counts in layers\['counts'\], or an embedding in obsm and its name with --use-rep"
)
BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda path: None, r"input\.h5ad: no such file or folder; give an \.h5ad file"),
    "text": (lambda path: path.write_text("no\n"), r"as h5ad cannot be read \(.*\); check that the copy is complete"),
    "no positions": (changed(lambda a: a.obsm.clear()), r"obsm\['spatial'\] is missing \(obsm has: nothing\)"),
    "negative": (changed(negative), r"X has 1 negative values \(first -2\), " + COUNTS),
    "no genes": (changed(lambda a: None, genes=0), r"raw counts are expected; .*--use-rep"),
    "five with counts": (changed(first_spots(5)), r"n_domains is 7 but there are fewer spots \(5\) with counts"),
    "three with counts": (changed(first_spots(3)), r"only 3 spots have counts; at least 4 are needed"),
}
BAD_OPTIONS: dict[str, tuple[list[str], str]] = {
    "more domains than spots": (["--n-domains", "31"], r"n_domains is 31 but there are fewer spots \(30\)"),
    "unknown option": (["--resolution", "1"], r"unrecognized arguments: --resolution 1 \(see stmfg"),
    "two inputs": (["second.h5ad"], r"unrecognized arguments: second\.h5ad"),
    "unknown embedding": (["--use-rep", "X_none"], r"obsm\['X_none'\] is missing \(obsm has: spatial\)"),
    "no such view": (["--view", "protein=ADT"], r"obsm\['ADT'\] is missing"),
    "no image": (["--view", "image"], r"there is no single tissue image"),
    "unknown library": (["--library-key", "slide"], r"obs\['slide'\] is missing \(obs has: nothing\)"),
    "unknown layer": (["--layer", "umis"], r"layers\['umis'\] is missing"),
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
            allowed = ["--overwrite"] if output and arguments[0] in ("run", "apply") and folder == old else []
            with caplog.at_level(logging.WARNING, "stmfg"):
                status = cli.main([*map(str, arguments), *(["-o", str(folder)] if output else []), *allowed])
            out, err = capfd.readouterr()
            assert (status, out) == (2, ""), err
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


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_file(one_line: Callable[..., str], tmp_path: Path, case: str) -> None:
    write, said = BAD_FILES[case]
    write(tmp_path / "input.h5ad")
    k = "7" if case == "five with counts" else "2"
    line = one_line("run", tmp_path / "input.h5ad", "--n-domains", k)
    assert re.search(said, line), line


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_option(one_line: Callable[..., str], tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    options, said = BAD_OPTIONS[case]
    good(tmp_path / "input.h5ad")
    line = one_line("run", tmp_path / "input.h5ad", "--n-domains", "2", *options)
    assert re.search(said, line), line


@pytest.mark.parametrize("inside", ["", "results/today"])
def test_output_that_cannot_be_written(one_line: Callable[..., str], tmp_path: Path, inside: str) -> None:
    good(tmp_path / "input.h5ad")
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
        (["run", "--from", "absent.json", "-o", "out"], "no record of a run"),
        (["demo", "--n-domains", "3"], "unrecognized arguments: --n-domains 3"),
        (["run", "input.h5ad", "--quiet", "--verbose"], "--verbose: not allowed with argument --quiet"),
        (["run", "input.h5ad", "--set", "epoch=3"], "'epoch' is no hyperparameter; did you mean 'epochs'?"),
        (["run", "input.h5ad", "--config", "absent.toml"], "absent.toml cannot be read (No such file or directory)"),
        (["export", "out", "--to", "loupe", "-o", "x.csv", "--table", "t"], "--table goes with --to spatialdata"),
    ],
)
def test_bad_command(one_line: Callable[..., str], arguments: list[str], said: str) -> None:
    assert said in one_line(*arguments, output=False)


@pytest.mark.parametrize("case", ["negative", "unknown option", "no such GPU"])
def test_bad_input_to_a_process(tmp_path: Path, case: str) -> None:
    # At the last one, torch and the rest are loaded: still one line.
    write, said = BAD_FILES.get(case) or (good, BAD_OPTIONS[case][1])
    write(tmp_path / "input.h5ad")
    done = stmfg_command("run", "input.h5ad", "-o", "out", *BAD_OPTIONS.get(case, ([], ""))[0], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
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


def test_a_disk_without_room_is_told_before_the_run(tmp_path: Path) -> None:
    good(tmp_path / "input.h5ad")
    (tmp_path / "disk").mkdir()
    mount = "mount -t tmpfs -o size=300k tmpfs disk"
    inside = {"cwd": tmp_path, "env": ENVIRONMENT, "capture_output": True, "text": True, "check": False}
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], **inside).returncode:
        pytest.skip("no small file system can be mounted here")
    run = f"{sys.executable} -m stmfg run input.h5ad -o disk/out --n-domains 2"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", f"{mount} && {run}; s=$?; ls disk; exit $s"], **inside)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    said = r"stmfg: output folder disk/out has room for 0\.3 MB, the results need about 0\.\d MB; make room .*\n"
    assert re.fullmatch(said, done.stderr), done.stderr

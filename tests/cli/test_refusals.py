"""One clear line for everything the command line refuses, and nothing lost or left."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from _commands import changed, good, make, stmfg_command
from _runs import FILES, one_thread
from stmfg import cli


def _position(value: float) -> Callable[[Path], None]:
    def change(adata: ad.AnnData) -> None:
        adata.obsm["spatial"][7, 1] = value

    return changed(change)


def _value(value: float) -> Callable[[Path], None]:
    def change(adata: ad.AnnData) -> None:
        adata.X.data[5] = value

    return changed(change)


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


COUNTS = (
    r"expected raw counts; give raw counts in layers\['counts'\], or an embedding in obsm and its name with --use-rep"
)


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
    "no positions": (changed(lambda a: a.obsm.clear()), r"obsm\['spatial'\] is missing \(obsm has: nothing\)"),
    "NaN position": (_position(np.nan), r"obsm\['spatial'\] has NaN or infinite values for 1 of 30 spots \(first 's7'"),
    "infinite position": (_position(np.inf), r"obsm\['spatial'\] has NaN or infinite values for 1 of 30 spots"),
    "one place": (changed(_same_place), r"obsm\['spatial'\] puts all 30 spots at one point \(4\.5, 4\.5\)"),
    "same names": (changed(_names), r"1 of 30 spot names repeat an earlier one \(first 's0'\)"),
    "negative": (_value(-2.0), r"X has 1 negative values \(first -2\), " + COUNTS),
    "fractions": (changed(lambda a: None, scale=0.37), r"X has \d+ non-integer values \(first [\d.]+\), " + COUNTS),
    "logarithms": (changed(_logged), r"X has \d+ non-integer values .*" + COUNTS),
    "NaN count": (_value(np.nan), r"X has 1 NaN or infinite values .*" + COUNTS),
    "all zero": (changed(_zero), r"X is zero everywhere, " + COUNTS),
    "no counts": (changed(_no_counts), r"X is empty and raw counts are expected; .*--use-rep"),
    "no genes": (changed(lambda a: None, genes=0), r"raw counts are expected; .*--use-rep"),
    "three spots": (changed(lambda a: None, 3), r"the data has 3 spots; at least 4 are needed"),
    "no spots": (changed(lambda a: None, 0), r"the data has 0 spots; at least 4 are needed"),
    "five spots with counts": (changed(_five_used), r"n_domains is 7 but there are fewer spots \(5\) with counts"),
    "three spots with counts": (changed(_three_used), r"only 3 spots have counts; at least 4 are needed"),
}


BAD_OPTIONS: dict[str, tuple[list[str], str]] = {
    "one domain": (["--n-domains", "1"], r"--n-domains is '?1'?; it must be an integer of at least 2"),
    "more than spots": (["--n-domains", "31"], r"n_domains is 31 but there are fewer spots \(30\)"),
    "many domains": (["--n-domains", "many"], r"--n-domains is 'many'; it must be an integer of at least 2, or 'auto'"),
    "unknown option": (["--resolution", "1"], r"unrecognized arguments: --resolution 1 \(see stmfg"),
    "two inputs": (["second.h5ad"], r"unrecognized arguments: second\.h5ad"),
    "unknown preset": (
        ["--preset", "fast"],
        r"--preset: invalid choice: 'fast' \(choose from .*paper",
    ),
    "unknown device": (["--device", "tpu"], r"--device: invalid choice: 'tpu'"),
    "seed in words": (["--seed", "seven"], r"--seed is 'seven'; it must be an integer from 0 to"),
    "unknown embedding": (["--use-rep", "X_none"], r"obsm\['X_none'\] is missing \(obsm has: spatial\)"),
    "NaN in embedding": (
        ["--use-rep", "X_bad"],
        r"obsm\['X_bad'\] has NaN or infinite values for 30 of 30",
    ),
    "no such view": (["--view", "protein=ADT"], r"obsm\['ADT'\] is missing"),
    "a view without a key": (["--view", "protein"], r"--view is \('protein',\); it must be NAME=KEY"),
    "no image": (["--view", "image"], r"there is no single tissue image"),
    "unknown library": (["--library-key", "slide"], r"obs\['slide'\] is missing \(obs has: nothing\)"),
    "library of some": (["--library-key", "slice"], r"obs\['slice'\] .*missing.* 15 of 30 spots"),
    "unknown layer": (["--layer", "umis"], r"layers\['umis'\] is missing"),
    "empty title": (["--title", ""], r"--title is ''; it must be text"),
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
    with one_thread():
        yield


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


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
    changed(change)(tmp_path / "input.h5ad")
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
    write, said = BAD_FILES.get(case) or (good, BAD_OPTIONS[case][1])
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
    changed(_five_used)(tmp_path / "input.h5ad")
    done = stmfg_command("run", "input.h5ad", "-o", "out", "--n-domains", "2", "--device", "cuda", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no usable GPU" in done.stderr
    assert not (tmp_path / "out").exists()


def test_one_gene(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changed(lambda adata: None, genes=1)(tmp_path / "input.h5ad")
    output = tmp_path / "out"
    status = cli.main(["run", str(tmp_path / "input.h5ad"), "-o", str(output), "--n-domains", "2", "--quiet"])
    out, err = capfd.readouterr()
    assert status == 2
    assert out == ""
    assert "do not differ once scaled to the same depth" in err
    assert len(err.splitlines()) == 1
    assert not output.exists()


def test_the_input_is_needed(one_line: Callable[..., str]) -> None:
    assert "INPUT" in one_line("run")


def test_a_record_that_is_absent(one_line: Callable[..., str], tmp_path: Path) -> None:
    assert "no record of a run" in one_line("run", "--from", str(tmp_path / "absent.json"))

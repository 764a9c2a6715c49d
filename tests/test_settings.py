"""Options from a file and from NAME=VALUE: names, values, precedence, and one line for what is wrong."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from stmfg.cli._common import Parser
from stmfg.cli._run import _add_arguments

from stmfg import Config
from stmfg.cli import _main as cli
from stmfg.datasets import simulate
from stmfg.errors import InputError
from stmfg.workflow import _settings


@pytest.fixture
def reader() -> Parser:
    parser = Parser(prog="stmfg run", argument_default=argparse.SUPPRESS)
    _add_arguments(parser)
    return parser


def read(reader: Parser, folder: Path, text: str) -> dict[str, Any]:
    (folder / "lab.toml").write_text(text, encoding="utf-8")
    return _settings.read(folder / "lab.toml", reader)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=12", "epochs", 12),
        ("learning_rate=1e-3", "learning_rate", 1e-3),
        ("min-spot-share = .5", "min_spot_share", 0.5),
        ("clusterer=kmeans", "clusterer", "kmeans"),
        ("log1p=false", "log1p", False),
        ("log1p=True", "log1p", True),
        ("widths=[0, 32]", "widths", [0, 32]),
        ("views=('spatial',)", "views", ("spatial",)),
    ],
)
def test_a_hyperparameter_of_the_line(text: str, name: str, value: object) -> None:
    assert _settings.hyperparameter(text) == (name, value)
    Config().replace(**{name: value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs", "'epochs' is not NAME=VALUE"),
        ("epoch=3", "'epoch' is no hyperparameter; did you mean 'epochs'?"),
        ("zzz=3", "'zzz' is no hyperparameter"),
    ],
)
def test_a_hyperparameter_that_is_none(text: str, said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        _settings.hyperparameter(text)
    assert str(caught.value) == said


def test_a_file(reader: Parser, tmp_path: Path) -> None:
    text = 'input = "a b.h5ad"\nn-domains = "auto"\nseed = 3\nuse_rep = "-odd"\nresume = false\nquiet = true\n'
    assert read(reader, tmp_path, text + "widths = [0]\n") == {
        "input": ["a b.h5ad"], "n_domains": "auto", "seed": 3, "use_rep": "-odd", "quiet": True, "widths": [0],
    }  # fmt: skip


def test_verbose_on_the_line_goes_before_quiet_in_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    simulate(60, 40, n_domains=2).write_h5ad("input.h5ad")
    Path("lab.toml").write_text("quiet = true\nn_domains = 2\nepochs = 1\nn_starts = 1\nn_votes = 2\n")
    line = ["run", "input.h5ad", "-o", "out", "--config", "lab.toml"]
    assert cli.main(line) == 0
    assert capsys.readouterr().out == ""
    assert cli.main([*line, "--verbose"]) == 0
    assert capsys.readouterr().out.startswith("2 domains of 60 spots")


def test_an_option_that_can_be_given_again_takes_a_list(reader: Parser, tmp_path: Path) -> None:
    several = read(reader, tmp_path, 'view = ["protein=X_protein", "image"]\n')
    assert several == {"more_views": ["protein=X_protein", "image=stmfg_image"]}
    assert read(reader, tmp_path, 'view = "image"\n') == {"more_views": ["image=stmfg_image"]}


def test_an_empty_file_changes_nothing(reader: Parser, tmp_path: Path) -> None:
    assert read(reader, tmp_path, "# nothing yet\n") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_domain = 7", "'n_domain' is no option; did you mean 'n_domains'?"),
        ("spatial_neighbours = 7", "'spatial_neighbours' is no option; did you mean 'spatial_neighbors'?"),
        ('config = "other.toml"', "'config' is no option"),
        ("n-domains = 7\nn_domains = 8", "gives 'n_domains' twice"),
        ('seed = "x"', "argument --seed: invalid int value: 'x'"),
        ('preset = "fast"', "argument --preset: invalid choice: 'fast'"),
        ("resume = 1", "resume is 1; it must be true or false"),
        ("use_rep = true", "use_rep is True; it must be a number or text"),
        ("seed = [1, 2]", "seed is [1, 2]; it must be a number or text"),
        ("[domains]\nseed = 1", "'domains' is no option"),
        ("epochs = ", "is not TOML"),
    ],
)
def test_a_bad_file(reader: Parser, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(reader, tmp_path, text)
    assert said in str(caught.value)
    assert "lab.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(reader: Parser, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"lab\.toml is not TOML"):
        _settings.read(tmp_path / "lab.toml", reader)
    with pytest.raises(InputError, match=r"absent\.toml cannot be read \(No such file or directory\)"):
        _settings.read(tmp_path / "absent.toml", reader)


def test_the_line_goes_before_the_file_and_that_before_the_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    simulate(120, 40, n_domains=3).write_h5ad("input.h5ad")
    first = ["run", "input.h5ad", "-o", "first", "--seed", "1", "--n-domains", "2", "--quiet"]
    assert cli.main([*first, "--set", "epochs=2", "--set", "n_starts=1", "--set", "n_votes=2"]) == 0
    Path("lab.toml").write_text('output = "second"\nn_domains = 3\nepochs = 3\nn_starts = 2\nquiet = true\n')
    assert cli.main(["run", "--from", "first", "--config", "lab.toml", "--set", "epochs=4"]) == 0
    record = json.loads(Path("second/run.json").read_text())
    assert (record["input"], record["options"]["random_state"], record["params"]["n_votes"]) == (
        str(Path("input.h5ad").absolute()),
        1,
        2,
    )
    assert (record["n_domains"], record["params"]["n_starts"]) == (3, 2)
    assert record["params"]["epochs"] == len(record["history"]["total"]) == 4

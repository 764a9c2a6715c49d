"""Options are the same wherever they are given: in Python, the shell, a sheet, a file or an earlier record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stmfg import Config, cli
from stmfg.datasets import simulate
from stmfg.workflow import RunOptions, batch, read_record, run
from stmfg.workflow.options import OPTIONS, SHEET_COLUMNS, parse_hyperparameter, read_file

CONTRACT = (
    *("--n-domains", "--preset", "--seed", "--use-rep", "--layer", "--library-key", "--platform", "--view"),
    *("--device", "--resume", "--title"),
)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working folder with a small input."""
    monkeypatch.chdir(tmp_path)
    simulate(120, 40, n_domains=3).write_h5ad("input.h5ad")
    return tmp_path


def record_of(output: str) -> dict[str, Any]:
    return json.loads(Path(output, "run.json").read_text())


def test_the_table_has_what_users_rely_on() -> None:
    assert {option.flag for option in OPTIONS.values()} >= set(CONTRACT)
    assert all("run" in OPTIONS[name].commands.split() for name in OPTIONS)
    assert list(SHEET_COLUMNS) == ["platform", "use_rep", "layer", "library_key", "n_domains", "preset", "seed"]
    fields = {field.name: field.default for field in dataclasses.fields(RunOptions) if field.metadata}
    assert fields == {name: option.default for name, option in OPTIONS.items()}


WRONG = [
    ("n_domains", 1, "an integer of at least 2, or 'auto'"),
    ("n_domains", "many", "an integer of at least 2, or 'auto'"),
    ("preset", "fast", "one of default, paper"),
    ("platform", "visum", "one of visium, "),
    ("seed", -1, "an integer from 0 to 4294967295"),
    ("seed", 2**32, "an integer from 0 to 4294967295"),
    ("stability", -1, "0 or a positive integer"),
    ("device", "tpu", "one of auto, cpu, cuda"),
    ("view", "protein", "NAME=KEY"),
    ("title", "", "text"),
]


@pytest.mark.parametrize(("word", "value", "expected"), WRONG)
def test_a_wrong_value_is_refused_in_the_words_of_where_it_was_given(
    word: str, value: Any, expected: str, folder: Path, capfd: pytest.CaptureFixture[str], refused: Callable[..., str]
) -> None:
    option = next(option for option in OPTIONS.values() if option.word == word)
    line = refused(run, "absent.h5ad", "out", **{option.name: value})  # before anything is read
    assert line.startswith(f"{option.name} is {value!r}; it must be {expected}")

    Path("lab.toml").write_text(f"{word} = {json.dumps(value)}\n")
    assert refused(read_file, "lab.toml").startswith(f"lab.toml: {word} is {value!r}; it must be {expected}")

    assert cli.main(["run", "input.h5ad", "-o", "out", f"{option.flag}={value}"]) == 2
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert option.flag in said
    assert ("invalid choice" if option.choices else expected) in said

    if option.in_sheet:
        pd.DataFrame({"sample": ["a"], "path": ["input.h5ad"], word: [value]}).to_csv("sheet.csv", index=False)
        line = refused(batch, "sheet.csv", "out")
        assert line.startswith(f"sheet.csv line 2: {word} is {value!r}; it must be {expected}")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("stability", 1.5), ("stability", True), ("random_state", "0"), ("n_domains", 2.5), ("resume", 1), ("layer", 5)],
)
def test_python_takes_plain_types(name: str, value: Any, refused: Callable[..., str]) -> None:
    assert refused(RunOptions, **{name: value}).startswith(f"{name} is {value!r}; it must be ")


def test_names_that_are_unknown(refused: Callable[..., str]) -> None:
    assert refused(RunOptions.of, n_domain=3) == "unknown option 'n_domain'; did you mean 'n_domains'?"
    assert refused(RunOptions.of, epoch=3) == "unknown option 'epoch'; did you mean 'epochs'?"
    assert "epochs is -1" in refused(RunOptions.of, epochs=-1)


def test_options_can_be_given_whole_and_changed() -> None:
    options = RunOptions.of(n_domains=7, epochs=3, view="image")
    changed = RunOptions.of(options, random_state=4, n_starts=2)
    assert (changed.n_domains, changed.random_state) == (7, 4)
    assert changed.config == Config(epochs=3, n_starts=2, views=("spatial", "feature", "image=stmfg_image"))
    assert RunOptions.of(**changed.to_dict()).to_dict() == changed.to_dict()
    assert RunOptions.of(stacked=True).config.stacked


# -- hyperparameters and files -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=12", "epochs", 12),
        ("min-spot-share = .5", "min_spot_share", 0.5),
        ("clusterer=kmeans", "clusterer", "kmeans"),
        ("log1p=false", "log1p", False),
        ("averages=true", "averages", True),
        ("views=('spatial',)", "views", ("spatial",)),
    ],
)
def test_a_hyperparameter_of_the_shell(text: str, name: str, value: object) -> None:
    assert parse_hyperparameter(text) == (name, value)
    Config().replace(**{name: value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs", "'epochs' is not NAME=VALUE"),
        ("epoch=3", "'epoch' is no hyperparameter; did you mean 'epochs'?"),
        ("zzz=3", "'zzz' is no hyperparameter"),
    ],
)
def test_a_hyperparameter_that_is_none(text: str, said: str, refused: Callable[..., str]) -> None:
    assert said in refused(parse_hyperparameter, text)


def test_a_file(folder: Path) -> None:
    Path("lab.toml").write_text(
        'input = "a b.h5ad"\nn-domains = "auto"\nseed = 3\nuse_rep = "-odd"\nresume = false\nquiet = true\n'
        'view = "image"\nn_layers = 2\n'
    )
    assert read_file("lab.toml") == {
        "source": ("a b.h5ad",), "n_domains": "auto", "random_state": 3, "use_rep": "-odd", "resume": False,
        "quiet": True, "view": ("image",), "n_layers": 2,
    }  # fmt: skip
    Path("lab.toml").write_text("# nothing yet\n")
    assert read_file("lab.toml") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_domain = 7", "'n_domain' is no option; did you mean 'n_domains'?"),
        ("spatial_neighbours = 7", "'spatial_neighbours' is no option; did you mean 'spatial_neighbors'?"),
        ('config = "other.toml"', "'config' is no option"),
        ("n-domains = 7\nn_domains = 8", "gives 'n_domains' twice"),
        ("resume = 1", "resume is 1; it must be true or false"),
        ("seed = [1, 2]", "seed is [1, 2]; it must be an integer"),
        ("[domains]\nseed = 1", "'domains' is no option"),
        ("epochs = ", "is not TOML"),
        ("\udcff", "is not TOML"),
    ],
)
def test_a_bad_file(text: str, said: str, folder: Path, refused: Callable[..., str]) -> None:
    Path("lab.toml").write_bytes(text.encode(errors="surrogateescape"))
    line = refused(read_file, "lab.toml")
    assert said in line
    assert "lab.toml" in line
    assert "absent.toml cannot be read (No such file or directory)" in refused(read_file, "absent.toml")


def test_verbose_in_the_shell_goes_before_quiet_in_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("lab.toml").write_text("quiet = true\nn_domains = 2\nepochs = 1\nn_starts = 1\nn_votes = 2\n")
    line = ["run", "input.h5ad", "-o", "out", "--config", "lab.toml"]
    assert cli.main(line) == 0
    assert capsys.readouterr().out == ""
    assert cli.main([*line, "--verbose", "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("2 domains of 120 spots")


def test_the_shell_goes_before_the_file_and_that_before_the_record(folder: Path) -> None:
    first = ["run", "input.h5ad", "-o", "first", "--seed", "1", "--n-domains", "2", "--quiet"]
    assert cli.main([*first, "--set", "epochs=2", "--set", "n_starts=1", "--set", "n_votes=2"]) == 0
    Path("lab.toml").write_text('output = "second"\nn_domains = 3\nepochs = 3\nn_starts = 2\nquiet = true\n')
    assert cli.main(["run", "--from", "first", "--config", "lab.toml", "--set", "epochs=4"]) == 0
    record = record_of("second")
    assert (record["input"], record["options"]["random_state"]) == (str(folder / "input.h5ad"), 1)
    assert (record["n_domains"], record["params"]["n_votes"], record["params"]["n_starts"]) == (3, 2, 2)
    assert record["params"]["epochs"] == len(record["history"]["total"]) == 4


# -- records -------------------------------------------------------------------------------------------


def test_a_record_repeats_its_run(folder: Path, quick: dict[str, Any]) -> None:
    run("input.h5ad", "a", n_domains=3, random_state=5, title="Mine", **quick)
    options = read_record("a/run.json")
    run(options.pop("source"), "b", **options)
    assert Path("a/domains.csv").read_bytes() == Path("b/domains.csv").read_bytes()
    assert record_of("a")["options"] == record_of("b")["options"]


def test_a_record_that_is_none_is_refused(folder: Path, quick: dict[str, Any], refused: Callable[..., str]) -> None:
    Path("run.json").write_text("{}")
    for path in (folder, "absent.json"):
        assert "no record of a run" in refused(read_record, path)
    run(simulate(60, 40, n_domains=2), "memory", n_domains=2, **quick)
    assert "in memory" in refused(read_record, "memory")

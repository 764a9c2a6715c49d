"""Every option of a run in one table: its name, type, default and meaning, and where it can be given.

The shell, sheets, files of options, the documentation and Python all read this table.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import logging
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmfg._keys import IMAGE_FEATURES
from stmfg._version import __version__
from stmfg.config import PRESETS, Config
from stmfg.errors import InputError, closest
from stmfg.io.platforms import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stmfg.io.sheet import Sample

__all__ = ["OPTIONS", "SHEET_COLUMNS", "Option", "RunOptions", "read_record"]

logger = logging.getLogger("stmfg")

HYPERPARAMETERS: Final = tuple(hyperparameter.name for hyperparameter in dataclasses.fields(Config))
_MOST_SEED: Final = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class Option:
    """One row of the table.

    Attributes
    ----------
    name
        Argument in Python.
    word
        Name in sheets and files; with ``--`` and dashes, the flag in the shell.
    default
        Value where it is not given.
    meaning
        What it does, in one line.
    expected
        What a value must be.
    valid
        Whether a value is that.
    metavar
        What the help calls the value; empty where the option takes none.
    choices
        All values, where they are few.
    numeric
        Whether a value can be a number.
    repeatable
        Whether it can be given several times.
    group
        Heading in the help.
    commands
        Commands that take it.
    in_sheet
        Whether it can be a column of a sheet.
    """

    name: str = ""
    word: str = ""
    default: Any = None
    meaning: str
    expected: str
    valid: Callable[[Any], bool]
    metavar: str = ""
    choices: tuple[str, ...] = ()
    numeric: bool = False
    repeatable: bool = False
    group: str = "data"
    commands: frozenset[str] = frozenset()
    in_sheet: bool = False

    @property
    def flag(self) -> str:
        """Name in the shell."""
        return "--" + self.word.replace("_", "-")

    def check(self, value: Any, label: str) -> Any:
        """Return a value in its plain type, or say under the name `label` what it must be."""
        if value is None and self.default is None:
            return None
        if self.repeatable:
            value = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = int(value)
        if not self.valid(value):
            raise InputError(f"{label} is {value!r}; it must be {self.expected}")
        return value

    def parse(self, text: str, label: str) -> Any:
        """Return the value that a word of the shell, or a cell of a sheet, stands for."""
        value: Any = text
        if self.numeric:
            with suppress(ValueError):
                value = int(text)
        return self.check(value, label)


def _option(default: Any, meaning: str, commands: str, **row: Any) -> Any:
    """Return a field of :class:`RunOptions` with its row of the table."""
    option = Option(default=default, meaning=meaning, commands=frozenset(commands.split()), **row)
    return field(default=default, metadata={"option": option})


def _text(default: Any, meaning: str, commands: str, **row: Any) -> Any:
    expected, valid = "text", lambda value: isinstance(value, str) and value != ""
    return _option(default, meaning, commands, expected=expected, valid=valid, **row)


def _choice(default: Any, meaning: str, commands: str, choices: Iterable[str], **row: Any) -> Any:
    choices = tuple(choices)
    expected = f"one of {', '.join(choices)}"
    return _option(default, meaning, commands, expected=expected, valid=choices.__contains__, choices=choices, **row)


def _number(default: int, meaning: str, commands: str, most: float = float("inf"), **row: Any) -> Any:
    expected = "0 or a positive integer" if most == float("inf") else f"an integer from 0 to {most}"

    def valid(value: Any) -> bool:
        return type(value) is int and 0 <= value <= most

    return _option(default, meaning, commands, expected=expected, valid=valid, numeric=True, **row)


def _switch(meaning: str, commands: str, **row: Any) -> Any:
    return _option(
        False, meaning, commands, expected="true or false", valid=lambda value: isinstance(value, bool), **row
    )


def _is_number_of_domains(value: Any) -> bool:
    return value == "auto" or (type(value) is int and value >= 2)


def _are_views(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(view, str) and (view == "image" or "=" in view) for view in value
    )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of one run, checked as far as they can be without the data.

    Made from keyword arguments here, from the shell, a row of a sheet, a TOML file or an earlier ``run.json`` by the
    other functions of this module.

    Raises
    ------
    InputError
        If an option cannot have its value.
    """

    platform: str | None = _choice(
        None, f"what wrote the folder: {', '.join(PLATFORMS)}", "run batch apply info", PLATFORMS,
        metavar="NAME", in_sheet=True,
    )  # fmt: skip
    use_rep: str | None = _text(
        None, "embedding in obsm to use instead of counts", "run batch", metavar="KEY", in_sheet=True
    )
    layer: str | None = _text(None, "layer that holds the raw counts", "run batch apply", metavar="KEY", in_sheet=True)
    view: tuple[str, ...] = _option(
        (), "one more view of the spots, described by obsm[KEY]; 'image' alone is the tissue image", "run batch",
        metavar="NAME=KEY", repeatable=True, expected="NAME=KEY, with KEY in obsm, or 'image'", valid=_are_views,
    )  # fmt: skip
    library_key: str | None = _text(
        None, "column of obs that names the slice", "run batch apply", metavar="KEY", in_sheet=True
    )
    stacked: bool = _switch("slices are aligned; z, the third coordinate, joins them", "run batch")
    n_domains: int | str = _option(
        "auto", "number of domains", "run batch", metavar="K|auto", group="domains", in_sheet=True,
        numeric=True, expected="an integer of at least 2, or 'auto'", valid=_is_number_of_domains,
    )  # fmt: skip
    preset: str = _choice("default", "hyperparameters", "run batch", PRESETS, group="domains", in_sheet=True)
    random_state: int = _number(
        0, "same seed, same result", "run batch demo", most=_MOST_SEED, metavar="S", word="seed", group="domains",
        in_sheet=True,
    )  # fmt: skip
    stability: int = _number(
        0, "number of further runs with other seeds, to see how far the result depends on the seed", "run batch",
        metavar="N", group="domains",
    )  # fmt: skip
    device: str = _choice("auto", "where to compute", "run batch apply", ("auto", "cpu", "cuda"), group="domains")
    title: str | None = _text(None, "heading of the report", "run apply report", metavar="TEXT", group="output")
    resume: bool = _switch("continue an interrupted run in OUTDIR", "run", group="output")
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters to change, by their names in :class:`stmfg.Config`."""

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.check(getattr(self, name), name))
        _ = self.config  # raises what is wrong with the hyperparameters

    @classmethod
    def of(cls, options: RunOptions | None = None, **given: Any) -> RunOptions:
        """Return options with changes: of the table by their names in Python, of hyperparameters by theirs.

        Raises
        ------
        InputError
            If a name is unknown or a value cannot be used.
        """
        for name in given:
            if name not in OPTIONS and name not in HYPERPARAMETERS:
                raise InputError(f"unknown option {name!r}{closest(name, [*OPTIONS, *HYPERPARAMETERS])}")
        fields = {name: value for name, value in given.items() if name in OPTIONS}
        changes = {name: value for name, value in given.items() if name not in OPTIONS}
        options = options or cls()
        return dataclasses.replace(options, **fields, changes={**options.changes, **changes})

    def for_sample(self, sample: Sample) -> RunOptions:
        """Return the options of a sample of a sheet: these, changed by its own.

        Raises
        ------
        InputError
            If a cell is not what the option of its column must be.
        """
        columns = {SHEET_COLUMNS[word]: text for word, text in sample.options.items()}
        own = {option.name: option.parse(text, f"{sample.where}: {option.word}") for option, text in columns.items()}
        return RunOptions.of(self, **own)

    @cached_property
    def hyperparameters(self) -> dict[str, Any]:
        """Those that differ from the preset because they were asked for."""
        hyperparameters = dict(self.changes)
        if self.view:
            views = tuple(hyperparameters.get("views", Config.preset(self.preset).views))
            more = [f"image={IMAGE_FEATURES}" if view == "image" else view for view in self.view]
            hyperparameters["views"] = (*views, *(view for view in more if view not in views))
        if self.stacked:
            hyperparameters["stacked"] = True
        return hyperparameters

    @cached_property
    def config(self) -> Config:
        """All hyperparameters."""
        return Config.preset(self.preset).replace(**self.hyperparameters)

    def for_domains(self) -> dict[str, Any]:
        """Return the arguments of :func:`stmfg.tl.domains`."""
        names = ("n_domains", "preset", "use_rep", "layer", "library_key", "random_state", "device")
        return {name: getattr(self, name) for name in names} | self.hyperparameters

    def to_dict(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps: all that tells what was done, by the names :meth:`of` takes."""
        left_out = ("view", "stacked", "resume")  # the first two are among the hyperparameters
        kept = {name: getattr(self, name) for name in OPTIONS if name not in left_out}
        return json.loads(json.dumps(kept | self.hyperparameters))  # type: ignore[no-any-return]


OPTIONS: Final[dict[str, Option]] = {
    row.name: dataclasses.replace(row.metadata["option"], name=row.name, word=row.metadata["option"].word or row.name)
    for row in dataclasses.fields(RunOptions)
    if "option" in row.metadata
}
"""The table, by the names in Python."""
SHEET_COLUMNS: Final = {option.word: option for option in OPTIONS.values() if option.in_sheet}
"""What can be a column of a sheet, by the name of the column."""
INPUT_AND_OUTPUT: Final = {
    "input": Option(
        name="source", word="input", meaning="", repeatable=True, expected="a path or several",
        valid=lambda value: isinstance(value, tuple) and all(isinstance(path, str) and path for path in value),
    ),
    "output": Option(
        name="output", word="output", meaning="", expected="a path", valid=lambda value: isinstance(value, str)
    ),
    **{
        word: Option(
            name=word, word=word, meaning="", expected="true or false", valid=lambda value: isinstance(value, bool)
        )
        for word in ("quiet", "verbose")
    },
}  # fmt: skip
"""What a file can give to ``stmfg run`` besides options and hyperparameters."""


def parse_hyperparameter(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``; the value is a Python or TOML literal, and what is neither is text that needs no quotes.

    Raises
    ------
    InputError
        If the text is not ``NAME=VALUE``, or there is no such hyperparameter.
    """
    name, equals, value = text.partition("=")
    name, value = name.strip().replace("-", "_"), value.strip()
    if not equals:
        raise InputError(f"--set {text!r} is not NAME=VALUE, as in epochs=50")
    if name not in HYPERPARAMETERS:
        raise InputError(f"--set: {name!r} is no hyperparameter{closest(name, HYPERPARAMETERS)}")
    try:
        return name, ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    except (ValueError, SyntaxError):
        return name, value


def read_file(path: str | Path, command: str = "run") -> dict[str, Any]:
    """Return the options that a TOML file gives to a command.

    Parameters
    ----------
    path
        File of ``name = value``. Names are the flags of the command, with ``-`` or ``_``, those of ``input``,
        ``output``, ``quiet`` and ``verbose`` for a run, and the hyperparameters of :class:`stmfg.Config`. Paths in it
        are taken from where the command runs, as in the shell.
    command
        ``"run"`` or ``"batch"``.

    Returns
    -------
    Options by their names in Python.

    Raises
    ------
    InputError
        If the file cannot be read, a name is unknown, or an option cannot have its value. Hyperparameters are checked
        where all of them are known, as they can come from several places.
    """
    path = Path(path).expanduser()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a TOML file of options") from error
    except ValueError as error:  # not TOML, not text
        raise InputError(f"{path} is not TOML ({error}); write lines like: n_domains = 7") from error
    known = {option.word: option for option in OPTIONS.values() if command in option.commands}
    known |= INPUT_AND_OUTPUT if command == "run" else {}
    options: dict[str, Any] = {}
    for written, value in table.items():
        word = written.replace("-", "_")
        if word not in known and word not in HYPERPARAMETERS:
            raise InputError(f"{path}: {written!r} is no option{closest(word, [*known, *HYPERPARAMETERS])}")
        name = known[word].name if word in known else word
        if name in options:
            raise InputError(f"{path} gives {word!r} twice; leave one of them")
        options[name] = known[word].check(value, f"{path}: {word}") if word in known else value
    return options


def read_record(path: str | Path) -> dict[str, Any]:
    """Return what a run was called with, from the ``run.json`` it wrote.

    Parameters
    ----------
    path
        The ``run.json``, or the folder it is in.

    Returns
    -------
    ``source``, and the options as :meth:`RunOptions.of` takes them. Hyperparameters whose defaults have changed since
    are among them.

    Raises
    ------
    InputError
        If the file cannot be read, is no record of a run, or the input was no file.
    """
    path = Path(path).expanduser()
    path = path / "run.json" if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if "model" in record["options"]:
            raise ValueError("it is of stmfg apply, which trains nothing")
        options, params = dict(record["options"]), Config.from_dict(record["params"]).to_dict()
        preset = Config.preset(options["preset"]).to_dict()
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no record of a run ({reason}); give the run.json of one") from error
    if not record.get("input"):
        raise InputError(f"{path} is of data that were in memory; give INPUT too")
    if record.get("version") != __version__:
        logger.warning("the record is of stmfg %s, this is %s", record.get("version"), __version__)
    return {"source": record["input"]} | options | {k: v for k, v in params.items() if v != preset[k]}

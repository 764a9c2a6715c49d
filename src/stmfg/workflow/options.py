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
from functools import cached_property, partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmfg._keys import IMAGE_FEATURES
from stmfg._version import __version__
from stmfg.config import PRESETS, Config
from stmfg.errors import InputError, closest, make_all, reason
from stmfg.io.platforms import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stmfg.io.sheet import Sample

__all__ = ["OPTIONS", "SHEET_COLUMNS", "Option", "RunOptions", "read_record"]

logger = logging.getLogger("stmfg")

HYPERPARAMETERS: Final = tuple(hyperparameter.name for hyperparameter in dataclasses.fields(Config))
_MOST_SEED: Final = 2**32 - 1
CLUSTERS: Final = "here (this process), local[:N] (N processes), slurm[:N] (N jobs), or tcp://HOST:PORT (Dask)"
_KINDS: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "": ("true or false", lambda value: isinstance(value, bool)),
    "TEXT": ("text", lambda value: isinstance(value, str) and value != ""),
    "K|auto": (
        "an integer of at least 2, or 'auto'",
        lambda value: value == "auto" or (type(value) is int and value >= 2),
    ),
    "S": (f"an integer from 0 to {_MOST_SEED}", lambda value: type(value) is int and 0 <= value <= _MOST_SEED),
    "N": ("0 or a positive integer", lambda value: type(value) is int and value >= 0),
    "K,...": (
        "integers of at least 2, as 4,7,10",
        lambda value: isinstance(value, (list, tuple)) and all(type(k) is int and k >= 2 for k in value),
    ),
    "NAME=KEY": (
        "NAME=KEY, with KEY in obsm, or 'image'",
        lambda value: value == "image" or (isinstance(value, str) and "=" in value),
    ),
}
"""What a value must be, and whether it is that, by what the help calls it; of all others, as of TEXT."""


@dataclass(frozen=True)
class Option:
    """One row of the table: a default, what the help calls the value (nothing where it takes none), a meaning.

    ``word`` is the name in sheets and files and, with dashes, the flag in the shell; ``name`` that in Python.
    """

    default: Any
    metavar: str
    meaning: str = ""
    commands: str = ""
    in_sheet: bool = False
    choices: tuple[str, ...] = ()
    group: str = "data"
    word: str = ""
    name: str = ""

    @property
    def flag(self) -> str:
        """Name in the shell."""
        return "--" + self.word.replace("_", "-")

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be given several times."""
        return self.metavar in ("NAME=KEY", "INPUT")

    def check(self, value: Any, label: str) -> Any:
        """Return a value in its plain type, or say under the name `label` what it must be."""
        if value is None and self.default is None:
            return None
        if self.is_repeatable:
            values = value if isinstance(value, (list, tuple)) else [value]
            return tuple(self._check_one(each, label) for each in values)
        return self._check_one(value, label)

    def _check_one(self, value: Any, label: str) -> Any:
        if isinstance(value, Integral) and not isinstance(value, bool):
            value = int(value)
        expected, is_valid = _KINDS.get(self.metavar, _KINDS["TEXT"])
        if self.choices:
            expected, is_valid = f"one of {', '.join(self.choices)}", self.choices.__contains__
        if not is_valid(value):
            raise InputError(f"{label} is {value!r}; it must be {expected}")
        return tuple(value) if isinstance(value, list) else value

    def parse(self, text: str, label: str) -> Any:
        """Return the value that a word of the shell, or a cell of a sheet, stands for."""
        value: Any = text
        if self.metavar in ("K|auto", "S", "N"):
            with suppress(ValueError):
                value = int(text)
        if self.metavar == "K,...":
            with suppress(ValueError):
                value = [int(number) for number in text.split(",")]
        return self.check(value, label)


def _option(*row: Any, **more: Any) -> Any:
    """Return a field of :class:`RunOptions` with its row of the table."""
    return field(default=row[0], metadata={"option": Option(*row, **more)})


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

    platform: str | None = _option(
        None, "NAME", "what wrote the folder", "run batch apply info", True, tuple(PLATFORMS)
    )
    use_rep: str | None = _option(None, "KEY", "embedding in obsm to use instead of counts", "run batch", True)
    layer: str | None = _option(None, "KEY", "layer that holds the raw counts", "run batch apply", True)
    view: tuple[str, ...] = _option(
        (), "NAME=KEY", "one more view of the spots, described by obsm[KEY]; 'image' is the tissue image", "run batch"
    )
    library_key: str | None = _option(
        None, "KEY", "column of obs that names the slice; none: all are one", "run batch apply", True
    )
    reference: str | None = _option(
        None, "NAME", "condition of the sheet that the others are compared with (default: the first by name)", "run"
    )
    stacked: bool = _option(False, "", "slices are aligned; z, the third coordinate, joins them", "run batch")
    n_domains: int | str = _option("auto", "K|auto", "number of domains", "run batch", True, group="domains")
    levels: tuple[int, ...] = _option(
        (), "K,...", "several numbers of nested domains, in place of one", "run batch", group="domains"
    )
    preset: str = _option("default", "PRESET", "hyperparameters", "run batch", True, PRESETS, "domains")
    random_state: int = _option(0, "S", "same seed, same result", "run batch demo", True, (), "domains", "seed")
    stability: int = _option(
        0, "N", "further runs with other seeds, to see how far the result depends on it", "run batch", group="domains"
    )
    device: str = _option(
        "auto", "DEVICE", "where to compute", "run batch apply", False, ("auto", "cpu", "cuda"), "domains"
    )
    joint: bool = _option(False, "", "samples of a sheet have common domains (what a run does anyway)", "run")
    cluster: str | None = _option(
        None, "WHERE", f"samples of a sheet one at a time in memory, by: {CLUSTERS}", "run apply"
    )
    title: str | None = _option(None, "TEXT", "heading of the report", "run apply report", group="output")
    resume: bool = _option(False, "", "continue an interrupted run in OUTDIR", "run", group="output")
    overwrite: bool = _option(
        False, "", "replace the results of an earlier run in OUTDIR", "run batch apply demo", group="output"
    )
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters to change, by their names in :class:`stmfg.Config`."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What is known of the sample, for ``obs`` of the result; it changes nothing that is computed."""

    def __post_init__(self) -> None:
        for name, option in OPTIONS.items():
            object.__setattr__(self, name, option.check(getattr(self, name), name))
        if self.levels and self.n_domains != "auto":
            raise InputError(
                f"levels are {','.join(map(str, self.levels))} and the number of domains is {self.n_domains}; give one "
                "of them: of several levels the one with the fewest domains is found first"
            )
        _ = self.config  # raises what is wrong with the hyperparameters

    @classmethod
    def of(cls, options: RunOptions | None = None, **given: Any) -> RunOptions:
        """Return options with changes: of the table by their names in Python, of hyperparameters by theirs."""
        for name in given:
            if name not in OPTIONS and name not in HYPERPARAMETERS:
                raise InputError(f"unknown option {name!r}{closest(name, [*OPTIONS, *HYPERPARAMETERS])}")
        fields = {name: value for name, value in given.items() if name in OPTIONS}
        changes = {name: value for name, value in given.items() if name not in OPTIONS}
        options = options or cls()
        return dataclasses.replace(options, **fields, changes={**options.changes, **changes})

    def for_sample(self, sample: Sample) -> RunOptions:
        """Return the options of a sample of a sheet: these, changed by its own."""
        columns = [(SHEET_COLUMNS[word], text) for word, text in sample.options.items()]
        values = make_all(*(partial(each.parse, text, f"{sample.where}: {each.word}") for each, text in columns))
        return RunOptions.of(self, **{each.name: value for (each, _), value in zip(columns, values, strict=True)})

    def for_samples(self, samples: Sequence[Sample]) -> RunOptions:
        """Return the options of samples that are run together: these, else what all of them say.

        Counts or embeddings in different places, which these options do not settle, are refused.
        """
        agreed: dict[str, Any] = {}
        for word in dict.fromkeys(word for sample in samples for word in sample.options if word != "platform"):
            option = SHEET_COLUMNS[word]
            one, *others = {sample.options.get(word, "") for sample in samples}
            if getattr(self, option.name) != option.default:
                continue
            if not others and word != "library_key":
                agreed[option.name] = option.parse(one, f"{samples[0].where}: {word}")
            elif option.group == "domains":
                logger.warning("the samples differ in %s; run together, they have that of the command", word)
            else:
                sample = next(sample for sample in samples if word in sample.options)
                raise InputError(
                    f"{sample.where}: sample {sample.name!r} has its own {word}, but samples with common domains share "
                    "it; empty the column, or run the samples by themselves with stmfg batch"
                )
        return RunOptions.of(self, **agreed)

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
        names = ("preset", "use_rep", "layer", "library_key", "random_state", "device")
        given = {name: getattr(self, name) for name in names} | self.hyperparameters
        return given | {"n_domains": self.levels or self.n_domains}

    def to_dict(self) -> dict[str, Any]:
        """Return what ``run.json`` keeps: all that tells what was done, by the names :meth:`of` takes."""
        # The first two are among the hyperparameters.
        left_out = ("view", "stacked", "resume", "overwrite", "joint", "cluster")
        kept = {name: getattr(self, name) for name in OPTIONS if name not in left_out}
        return json.loads(json.dumps(kept | self.hyperparameters))  # type: ignore[no-any-return]


OPTIONS: Final = {
    row.name: dataclasses.replace(option, name=row.name, word=option.word or row.name)
    for row in dataclasses.fields(RunOptions)
    if (option := row.metadata.get("option"))
}
"""The table, by the names in Python."""
SHEET_COLUMNS: Final = {option.word: option for option in OPTIONS.values() if option.in_sheet}
"""What can be a column of a sheet, by the name of the column."""
_INPUT_AND_OUTPUT: Final = {
    "input": Option((), "INPUT", name="source"),
    "output": Option("", "TEXT", name="output"),
    "quiet": Option(False, "", name="quiet"),
    "verbose": Option(False, "", name="verbose"),
}
"""What a file can give to ``stmfg run`` besides options and hyperparameters."""


def parse_hyperparameter(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``; the value is a Python or TOML literal, and what is neither is text that needs no quotes."""
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
    """Return the options that a TOML file gives to a command, by their names in Python.

    Names in the file are the flags of the command, with ``-`` or ``_``, for a run also ``input``, ``output``, ``quiet``
    and ``verbose``, and the hyperparameters of :class:`stmfg.Config`, which are checked once all of them are known.
    Paths are taken from where the command runs, as in the shell.
    """
    path = Path(path).expanduser()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a TOML file of options") from error
    except ValueError as error:  # not TOML, not text
        raise InputError(f"{path} is not TOML ({error}); write lines like: n_domains = 7") from error
    known = {option.word: option for option in OPTIONS.values() if command in option.commands.split()}
    known |= _INPUT_AND_OUTPUT if command == "run" else {}
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
        raise InputError(f"{path} is no record of a run ({reason(error)}); give the run.json of one") from error
    if not record.get("input"):
        raise InputError(f"{path} is of data that were in memory; give INPUT too")
    if record.get("version") != __version__:
        logger.warning("the record is of stmfg %s, this is %s", record.get("version"), __version__)
    params["neighborhoods"] = preset["neighborhoods"]  # the data decide again
    return {"source": record["input"]} | {k: v for k, v in params.items() if v != preset[k]} | options

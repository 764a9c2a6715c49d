"""Options of a command from elsewhere than its line: a TOML file, and hyperparameters as NAME=VALUE."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Final

from stmfg.config import Config
from stmfg.errors import InputError, closest

HYPERPARAMETERS: Final = tuple(field.name for field in dataclasses.fields(Config))
_LINE_ONLY: Final = {"help", "config", "set"}
_TRUTH: Final = {"true": True, "false": False}


def hyperparameter(text: str) -> tuple[str, Any]:
    """Read ``NAME=VALUE``, the type of an argument.

    The value is a Python or TOML literal; what is neither is text, so that names need no quotes.
    """
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    if name not in HYPERPARAMETERS:
        raise argparse.ArgumentTypeError(f"{name!r} is no hyperparameter{closest(name, HYPERPARAMETERS)}")
    value = value.strip()
    if value in _TRUTH:
        return name, _TRUTH[value]
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def read(path: str | Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the options that a TOML file gives to a command, checked as on its line.

    Parameters
    ----------
    path
        File of ``name = value``. Names are the long options of the command, with ``-`` or ``_``, ``input``, and the
        hyperparameters of :class:`stmfg.Config`. Paths in it are taken from where the command runs, as on its line.
    parser
        Of the command. What is not given must stay out of its result (``argument_default=SUPPRESS``).

    Returns
    -------
    Options by the names that the parser gives them, and hyperparameters by theirs.

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
    actions = {name: action for action in parser._actions for name in _names(action)}
    hyperparameters: dict[str, Any] = {}
    words: dict[str, list[str]] = {}
    for written, value in table.items():
        name = written.replace("-", "_")
        if name in hyperparameters or name in words:
            raise InputError(f"{path} gives {name!r} twice; leave one of them")
        if name in HYPERPARAMETERS:
            hyperparameters[name] = value
        elif name in actions:
            words[name] = _words(f"{path}: {name}", actions[name], value)
        else:
            raise InputError(f"{path}: {written!r} is no option{closest(name, [*actions, *HYPERPARAMETERS])}")
    try:
        options = vars(parser.parse_args([word for part in words.values() for word in part]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return options | hyperparameters


def _names(action: argparse.Action) -> set[str]:
    """Return what a file calls an argument."""
    names = {text[2:].replace("-", "_") for text in action.option_strings if text.startswith("--")}
    return (names or {action.dest}) - _LINE_ONLY


def _words(what: str, action: argparse.Action, value: Any) -> list[str]:
    """Return an argument as words of a command line."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(f"{what} is {value!r}; it must be true or false")
        return [action.option_strings[0]] if value else []
    again = isinstance(action, argparse._AppendAction)
    values = value if isinstance(value, list) and (again or action.nargs in ("*", "+")) else [value]
    if not values or any(isinstance(each, (bool, list, dict)) for each in values):
        raise InputError(f"{what} is {value!r}; it must be a number or text")
    if not action.option_strings:
        return [str(each) for each in values]
    if again or len(values) == 1:  # one word each, so that a value that begins with a dash is no option
        return [f"{action.option_strings[-1]}={each}" for each in values]
    return [action.option_strings[-1], *map(str, values)]

"""From the table of commands, and the table of options, to a parser, its help and what a shell can complete."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NoReturn

from stmfg._version import __version__
from stmfg.errors import InputError
from stmfg.workflow.options import OPTIONS, Option

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_GROUPS: Final = ("data", "domains", "output")


@dataclass(frozen=True)
class Argument:
    """An argument of a command that is not in the table of options.

    Its settings go to :meth:`argparse.ArgumentParser.add_argument`; of a path, a shell completes file names.
    """

    flags: tuple[str, ...]
    meaning: str
    is_path: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command: its name and help, what it takes besides its options of the table, and the function that does it."""

    name: str
    call: Callable[[dict[str, Any]], None]
    summary: str
    description: str
    arguments: tuple[Argument, ...]
    examples: str = ""


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as the error of a user."""
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser(commands: Sequence[Command], file_completion: object = None) -> Parser:
    """Return the parser of all commands; `file_completion` makes shtab complete file names where paths are taken."""
    parser = Parser(
        prog="stmfg",
        description="Find spatial domains in spatial transcriptomics data. No labels are used.",
        epilog="Each command has a --help of its own. A first try: stmfg demo",
    )
    parser.add_argument("--version", action="version", version=f"stmfg {__version__}")
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in commands:
        command_parser = parsers.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            argument_default=argparse.SUPPRESS,  # what is not given can come from a file or a record
        )
        for argument in command.arguments:
            action = command_parser.add_argument(*argument.flags, help=argument.meaning, **argument.settings)
            if argument.is_path:
                action.complete = file_completion  # type: ignore[attr-defined]
        options = [option for option in OPTIONS.values() if command.name in option.commands.split()]
        for name in _GROUPS:
            if any(option.group == name for option in options):
                group = command_parser.add_argument_group(name)
                for option in options:
                    if option.group == name:
                        group.add_argument(option.flag, dest=option.name, **_settings(option))
        messages = command_parser.add_argument_group("messages").add_mutually_exclusive_group()
        messages.add_argument("--quiet", action="store_true", help="no progress and no summary; warnings stay")
        messages.add_argument(
            "--verbose", action="store_true", help="every stage as it begins; where an internal error arose"
        )
    return parser


def _settings(option: Option) -> dict[str, Any]:
    """Return how argparse reads an option of the table; its values are checked by the table."""
    default = "" if option.default in (None, False, (), 0) and option.name != "random_state" else option.default
    meaning = f"{option.meaning}: {', '.join(option.choices)}" if option.choices else option.meaning
    meaning += "" if default == "" else f" (default: {default})"
    if not option.metavar:
        return {"help": meaning, "action": "store_true"}
    if option.is_repeatable:
        return {"help": f"{meaning} (repeatable)", "metavar": option.metavar, "action": "append"}
    return {"help": meaning, "metavar": option.metavar, "choices": option.choices or None}


def parse_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given in the shell with the values that the words stand for."""
    values = dict(given)
    for name in values.keys() & OPTIONS.keys():
        option = OPTIONS[name]
        if isinstance(values[name], str):
            values[name] = option.parse(values[name], option.flag)
        else:
            values[name] = option.check(values[name], option.flag)
    return values

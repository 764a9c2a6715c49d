"""What the commands share: the parser, types of arguments, how much is said, the last line of output."""

from __future__ import annotations

import argparse
import logging
from typing import Any, NoReturn

from stmfg.errors import InputError
from stmfg.io.platforms import PLATFORMS


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as the error of a user."""
        raise InputError(f"{message} (see {self.prog} --help)")


def one_line(said: str) -> str:
    """Return text in one line: names of strangers may hold line breaks, or what commands a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in said)


def n_domains(text: str) -> int | str:
    """Read ``K`` or ``auto``."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor 'auto'") from None


def add_platform(parser: argparse._ActionsContainer) -> None:
    """Add ``--platform``."""
    names = ", ".join(PLATFORMS)
    parser.add_argument(
        "--platform",
        choices=PLATFORMS,
        metavar="NAME",
        help=f"what wrote the folder: {names} (default: seen from its files)",
    )


def add_messages(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet`` and ``--verbose``."""
    group = parser.add_argument_group("messages").add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="no progress and no summary; warnings stay")
    group.add_argument("--verbose", action="store_true", help="every stage as it begins; where an internal error arose")


def take_messages(options: dict[str, Any]) -> bool:
    """Take what :func:`add_messages` added out of the options and set the log to it; returns whether to be quiet."""
    quiet, verbose = options.pop("quiet", False), options.pop("verbose", False)
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("stmfg").setLevel(level)
    return bool(quiet)


def print_summary(record: dict[str, Any], output: str) -> None:
    """Print what a run found and where to look at it."""
    seconds = sum(stage["seconds"] for stage in record["stages"])
    print(
        f"{record['n_domains']} domains of {record['n_obs']:,} spots in {seconds:.0f} s; "
        f"open {output.rstrip('/')}/report.html"
    )
    if record.get("stability"):
        from stmfg.report._sentences import describe_stability

        print(describe_stability(record["stability"]))

"""What the commands share: the parser, types of arguments, the last line of output."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from stmfg._errors import InputError


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


def print_summary(record: dict[str, Any], output: str) -> None:
    """Print what a run found and where to look at it."""
    seconds = sum(stage["seconds"] for stage in record["stages"])
    print(
        f"{record['n_domains']} domains of {record['n_obs']:,} spots in {seconds:.0f} s; "
        f"open {output.rstrip('/')}/report.html"
    )
    if record["stability"]:
        from stmfg._summary import stability

        print(stability(record["stability"]))

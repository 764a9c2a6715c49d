"""``stmfg info``: what a file or folder holds, and how to run on it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stmfg.cli._common import add_messages, add_platform, take_messages
from stmfg.errors import InputError

if TYPE_CHECKING:
    from stmfg.cli._common import Parser


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    info = commands.add_parser(
        "info",
        help="what a file or folder holds, and how to run on it",
        description="Say what INPUT is, what is in it, what a run would use, and the command for it.\n"
        "Nothing is written. The exit status is 2 where a run would be refused.",
        epilog="example:\n  stmfg info outs/\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    info.add_argument("input", metavar="INPUT", help=".h5ad, .zarr (AnnData or SpatialData) or an instrument's folder")
    add_platform(info)
    add_messages(info)
    info.set_defaults(call=call)


def call(options: dict[str, Any]) -> None:
    """Look at the input and print what was found."""
    from stmfg.workflow._inspection import lines, look

    options["quiet"] = options["quiet"] or not options["verbose"]  # what is read is among what is printed
    take_messages(options)
    seen = look(options["input"], platform=options["platform"])
    print("\n".join(lines(seen)))
    if seen.problems:
        raise InputError(f"{options['input']} cannot be run on as it is; what is in the way is listed above")

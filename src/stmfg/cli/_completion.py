"""``stmfg completion``: the script that lets a shell complete commands, options, choices and file names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from stmfg.cli._common import Parser

_EXAMPLES = """to have it in every new shell:
  bash   stmfg completion bash > ~/.local/share/bash-completion/completions/stmfg
  zsh    stmfg completion zsh > DIR/_stmfg, with DIR a folder of $fpath
  fish   stmfg completion fish > ~/.config/fish/completions/stmfg.fish
"""
_PATHS: Final = ("INPUT", "OUTDIR", "FILE", "MODEL", "NEW", "RESULT", "SHEET", "A", "B")
"""What the help calls arguments that are paths; those with a dot, such as ``RUN.json``, are, too."""


def add(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the command's parser."""
    completion = commands.add_parser(
        "completion",
        help="script for the completion of a shell",
        description="Print the script that lets a shell complete what follows stmfg.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    completion.set_defaults(call=call)


def call(options: dict[str, Any]) -> None:
    """Print the script."""
    import shtab

    from stmfg.cli._main import build

    parser = build()
    _complete_paths(parser, shtab.FILE)
    print(shtab.complete(parser, shell=options["shell"]))


def _complete_paths(parser: argparse.ArgumentParser, how: dict[str, Any]) -> None:
    """Say which arguments are paths, in the way shtab reads it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command, how)
        elif action.metavar in _PATHS or "." in str(action.metavar):
            action.complete = how  # type: ignore[attr-defined]

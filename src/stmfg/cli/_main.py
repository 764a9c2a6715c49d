"""The command line: one file a command (``_cli_*.py``); here errors become exit statuses."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import TYPE_CHECKING

from stmfg._version import __version__
from stmfg.cli import _apply as _cli_apply
from stmfg.cli import _batch as _cli_batch
from stmfg.cli import _compare as _cli_compare
from stmfg.cli import _completion as _cli_completion
from stmfg.cli import _demo as _cli_demo
from stmfg.cli import _export as _cli_export
from stmfg.cli import _info as _cli_info
from stmfg.cli import _run as _cli_run
from stmfg.cli._common import Parser, one_line
from stmfg.cli._interrupt import insistent_interrupts
from stmfg.errors import InputError, MissingDependencyError, StmfgError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MEMORY_FULL = ("allocate memory", "out of memory", "can't start new thread", "failed to map segment")
_DISK_FULL = ("No space left on device", "errno = 28")  # in Python's words and HDF5's
BAD_INPUT, INTERNAL, INTERRUPTED = 2, 1, 130
COMMANDS = (_cli_run, _cli_info, _cli_apply, _cli_batch, _cli_export, _cli_compare, _cli_demo, _cli_completion)
"""In the order of the help. Each has ``add(commands)``, which sets ``call``: a function of the options given."""


def build() -> Parser:
    """Return the parser with every command."""
    parser = Parser(
        prog="stmfg",
        description="Find spatial domains in spatial transcriptomics data. No labels are used.",
        epilog="Each command has a --help of its own. A first try: stmfg demo",
    )
    parser.add_argument("--version", action="version", version=f"stmfg {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 internal error, 2 bad input, 130 Ctrl-C."""
    # Threads that spin while they wait slow down those that work, where cores are shared; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="stmfg: %(levelname)s: %(message)s", level=logging.ERROR)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_in_one_line)
    logging.getLogger("stmfg").setLevel(logging.WARNING)
    try:
        options = vars(build().parse_args(argv))
        del options["command"]
        with insistent_interrupts():
            options.pop("call")(options)
    except KeyboardInterrupt as interrupt:
        how = str(interrupt) or "the same command with --resume continues from the last checkpoint"
        print(f"stmfg: interrupted; {how}", file=sys.stderr)
        return INTERRUPTED
    except (InputError, MissingDependencyError) as error:
        print(f"stmfg: {one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        if shortage := _shortage(error):
            print(f"stmfg: {shortage}", file=sys.stderr)
            return INTERNAL
        reason = str(error).splitlines()[0] if str(error) else "no message"
        kind = "" if isinstance(error, StmfgError) else f" ({type(error).__name__})"
        print(f"stmfg: internal error{kind}: {reason}", file=sys.stderr)
        logging.getLogger("stmfg").debug("traceback", exc_info=True)
        return INTERNAL
    return 0


def _in_one_line(record: logging.LogRecord) -> bool:
    """Bring the message of a record into one line."""
    record.msg, record.args = one_line(record.getMessage()), ()
    return True


def _shortage(error: Exception) -> str:
    """Say which resource of the machine has run out, or nothing where it is something else."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, MemoryError) or any(s in said for s in _MEMORY_FULL):
        return f"not enough memory ({said}); use a larger machine, or leave out what is not needed"
    if getattr(error, "errno", None) == errno.ENOSPC or any(s in str(error) for s in _DISK_FULL):
        return f"no space is left on the disk ({said}); make room, and --resume continues"
    return ""


if __name__ == "__main__":
    sys.exit(main())

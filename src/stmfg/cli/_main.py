"""``stmfg``: errors become exit statuses, each with one line."""

from __future__ import annotations

import _thread
import atexit
import ctypes
import errno
import gc
import logging
import os
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from stmfg.cli._commands import COMMANDS
from stmfg.cli._parser import build_parser, parse_options
from stmfg.errors import InputError, MissingDependencyError, StmfgError, in_shell

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BAD_INPUT, INTERNAL, INTERRUPTED = 2, 1, 130
UNREAD: Final = 141
"""As the shell says of a program that wrote to a pipe nobody reads any longer, as in ``stmfg info DATA | head``."""
_MEMORY_FULL: Final = ("allocate memory", "out of memory", "can't start new thread", "failed to map segment")
_DISK_FULL: Final = ("No space left on device", "errno = 28")  # in Python's words and HDF5's
_AGAIN_SECONDS: Final = 0.05
_MOST_HEAPS: Final = -8  # glibc: M_ARENA_MAX


def command() -> int:
    """Run the command line as a process of its own.

    It ends without taking its libraries apart, which takes long, and its threads share one heap: with one each (glibc)
    two cores spend a tenth more on mapping memory, and hold a seventh more.
    """
    status: list[int] = []

    def leave() -> None:
        if status:  # else an exit of another kind is under way
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status[0])

    atexit.register(leave)  # first, and so called last
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_MOST_HEAPS, 1)
    gc.freeze()
    status.append(main())
    return status[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 internal error, 2 bad input, 130 Ctrl-C, 141 unread."""
    try:
        try:
            return _run_command(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):  # what is left in them would be tried again as Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return UNREAD


def _run_command(argv: Sequence[str] | None) -> int:
    # Threads that spin while they wait slow down those that work, where cores are shared; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="stmfg: %(levelname)s: %(message)s", level=logging.ERROR, handlers=[_AboveBars()])
    for handler in logging.getLogger().handlers:
        handler.addFilter(_in_one_line)
    logging.getLogger("stmfg").setLevel(logging.WARNING)
    try:
        given = vars(build_parser(COMMANDS).parse_args(argv))
        name = given.pop("command")
        with insistent_interrupts(), in_shell():
            next(command for command in COMMANDS if command.name == name).call(parse_options(given))
    except KeyboardInterrupt as interrupt:
        advice = str(interrupt) or "the same command with --resume continues from the last checkpoint"
        print(f"stmfg: interrupted; {advice}", file=sys.stderr)
        return INTERRUPTED
    except (InputError, MissingDependencyError) as error:
        print(f"stmfg: {_one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        raise
    except Exception as error:
        print(f"stmfg: {_shortage(error) or _internal_error(error)}", file=sys.stderr)
        logging.getLogger("stmfg").debug("traceback", exc_info=True)
        return INTERNAL
    return 0


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Raise a KeyboardInterrupt again that Python dropped, as it does in destructors and callbacks of compiled code."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        # From another thread and later: raised from here it would be dropped again.
        again = threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


class _AboveBars(logging.StreamHandler[Any]):
    """Messages that do not end up in the line of a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def _one_line(text: str) -> str:
    """Return text in one line: names of strangers may hold line breaks, or commands to a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _in_one_line(record: logging.LogRecord) -> bool:
    record.msg, record.args = _one_line(record.getMessage()), ()
    return True


def _shortage(error: Exception) -> str:
    """Say which resource of the machine has run out, or nothing where it is something else."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, MemoryError) or any(text in first for text in _MEMORY_FULL):
        return f"not enough memory ({first}); use a larger machine, or leave out what is not needed"
    if getattr(error, "errno", None) == errno.ENOSPC or any(text in str(error) for text in _DISK_FULL):
        return f"no space is left on the disk ({first}); make room, and --resume continues"
    return ""


def _internal_error(error: Exception) -> str:
    kind = "" if isinstance(error, StmfgError) else f" ({type(error).__name__})"
    return f"internal error{kind}: {(str(error).splitlines() or ['no message'])[0]}"


if __name__ == "__main__":
    sys.exit(main())

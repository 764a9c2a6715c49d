"""Files that appear whole or not at all, a lock that keeps other runs out, and whether a file has changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTIAL: Final = ".partial-"
"""What the names of folders begin with in which files are written until they are whole."""
_MOST_FILES: Final = 300_000
"""Files that are looked at for changes: a path given by mistake may lead to all of a disk."""


@contextmanager
def partial_folder(beside: Path) -> Iterator[Path]:
    """Make a folder to write files in, on the file system of `beside`; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=beside, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_partial_folders(beside: Path) -> None:
    """Remove what processes that were killed left of :func:`partial_folder`."""
    for folder in beside.glob(f"{PARTIAL}*"):
        shutil.rmtree(folder, ignore_errors=True)


def flush(path: Path) -> None:
    """Bring a file to the disk: its name must not get there before what it names."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write a file or folder to; where the block ends well, it takes the place of `path` in one step."""
    with partial_folder(path.parent) as folder:
        written = folder / path.name
        yield written
        if written.is_file():
            flush(written)
        written.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other runs out of the folder of a lock file until the block, or this process, ends; then it is gone."""
    from filelock import FileLock, Timeout

    if path.is_symlink():
        path.unlink()  # what it leads to is not ours to open
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        advice = "wait for it to end or give another folder"
        raise InputError(f"another run is writing to {path.parent}; {advice}") from error
    try:
        yield
    finally:
        # The file goes while the lock is held: a run that opened it before finds it gone, and takes no lock on it.
        try:
            path.unlink(missing_ok=True)
        except KeyboardInterrupt:
            path.unlink(missing_ok=True)
            raise
        finally:
            lock.release()


def fingerprint(path: str | Path) -> dict[str, int]:
    """Count and measure the files at a path, to see without reading them whether they have changed.

    Returns ``files``, their ``bytes`` and ``modified_ns``, when the last one was changed (nanoseconds since 1970).
    """
    path = Path(path).expanduser()
    below = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118 - faster
    total = {"files": 0, "bytes": 0, "modified_ns": 0}
    for file in [path] if path.is_file() else islice(below, _MOST_FILES):
        with suppress(OSError):  # a link that leads nowhere
            state = os.stat(file)  # noqa: PTH116 - takes both
            total["files"] += 1
            total["bytes"] += state.st_size
            total["modified_ns"] = max(total["modified_ns"], state.st_mtime_ns)
    return total

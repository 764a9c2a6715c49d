"""What a file or folder looks like from outside: enough to see that it has changed, without reading it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def fingerprint(path: str | Path) -> dict[str, int]:
    """Count and measure the files at a path.

    Parameters
    ----------
    path
        A file, or a folder with all that is below it.

    Returns
    -------
    ``files``, their ``bytes`` and ``modified_ns``, when the last one was changed (nanoseconds since 1970); zeros where
    there is nothing.
    """
    path = Path(path).expanduser()
    below = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)  # noqa: PTH118 - faster
    found = {"files": 0, "bytes": 0, "modified_ns": 0}
    for file in [path] if path.is_file() else below:
        with suppress(OSError):  # a link that leads nowhere
            state = os.stat(file)  # noqa: PTH116 - takes both
            found["files"] += 1
            found["bytes"] += state.st_size
            found["modified_ns"] = max(found["modified_ns"], state.st_mtime_ns)
    return found

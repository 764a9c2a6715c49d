"""Ctrl-C that is not lost.

Python drops an exception that is raised while it runs a destructor or a callback of compiled code, a KeyboardInterrupt
too: the key was pressed and nothing happens.
"""

from __future__ import annotations

import _thread
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_AGAIN_SECONDS = 0.05


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Raise a KeyboardInterrupt that was dropped once more, a moment later."""
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

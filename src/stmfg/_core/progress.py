"""How far training is: a bar where someone is watching, a line every tenth where the output is kept."""

from __future__ import annotations

import logging
import sys
from typing import Final, Protocol

from tqdm import tqdm

logger = logging.getLogger("stmfg")

_LINES: Final = 10


class Progress(Protocol):
    """What the training loop tells."""

    def step(self, loss: float) -> None:
        """One more epoch is done."""


def follow(start: int, total: int, *, show: bool) -> Progress:
    """Return where to tell that epochs `start` to `total` pass.

    A bar rewrites its line, which would fill the log of a cluster with copies of it. So it is for terminals and
    notebooks; elsewhere ten messages of level INFO take its place.
    """
    if not show:
        return _Nothing()
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    return _Bar(start, total) if watched else _Lines(start, total)


class _Nothing:
    def step(self, loss: float) -> None: ...


class _Bar:
    def __init__(self, start: int, total: int) -> None:
        self._bar = tqdm(initial=start, total=total, desc="training")

    def step(self, loss: float) -> None:
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._bar.update()
        if self._bar.n == self._bar.total:
            self._bar.close()


class _Lines:
    def __init__(self, start: int, total: int) -> None:
        self._done, self._total = start, total

    def step(self, loss: float) -> None:
        self._done += 1
        if self._done * _LINES // self._total > (self._done - 1) * _LINES // self._total:
            logger.info("training: epoch %d of %d, loss %.4f", self._done, self._total, loss)

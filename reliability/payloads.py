"""What is hidden in an input: names, numbers and objects that ought to do harm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator

MARK = "stmfgHacked"
"""What must never run, and never stand in a report outside of escaped text."""

NASTY = [
    f"<script>window.{MARK}=1</script>", f'"><img src=x onerror={MARK}()>', "{{7*7}}{% raw %}", "$\\frac{a$", "../../etc/passwd",
    "/etc/passwd", "..", ".", "", " ", "\t", "a\nb", "a\r\nb", "é漢字🧬", "\u202egnp.exe", "a" * 5000, "NaN", "None", "-0", "1e999",
    "=cmd|' /C calc'!A0", "';drop table", "%s%n", "\\", "a/b", "a//b/", "\ufeffx", "\x7f", "__class__", "con", "~",
]  # fmt: skip

NUMBERS = [np.nan, np.inf, -np.inf, -1.0, 0.5, 1e6, 1e18, 1e38, 1e308, 2.0**63, 5e-324]

HUGE = [10**9, 10**12, 2**62]


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.target}'",)


def pick(random: Random, choices: Any) -> Any:
    """Return one of a sequence."""
    return choices[int(random.integers(len(choices)))]


def canary(path: Path) -> Path:
    """Return where a payload would leave its mark: beside the input."""
    return next(p for p in path.parents if p.name.startswith("case-")) / "pwned"

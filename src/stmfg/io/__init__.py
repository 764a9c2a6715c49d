"""Reading what instruments and other tools write; one file a family of platforms."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stmfg.io._read import read
    from stmfg.io.slices import join, join_samples, read_slices

__all__ = ["join", "join_samples", "read", "read_slices"]

_HOME = {"read": "_read", "join": "slices", "join_samples": "slices", "read_slices": "slices"}


def __getattr__(name: str) -> Any:
    # On first use: the command line needs the names of the platforms at once, but no reader.
    if name in _HOME:
        return getattr(importlib.import_module(f"stmfg.io.{_HOME[name]}"), name)
    raise AttributeError(f"module 'stmfg.io' has no attribute {name!r}")

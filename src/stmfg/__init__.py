"""Spatial domains in spatial transcriptomics, by a multi-view graph network that never sees a label.

The submodules are loaded on first use, so that ``import stmfg`` stays quick and
loads neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stmfg._version import __version__

__all__ = [
    "STMFG",
    "Config",
    "StmfgError",
    "__version__",
    "compare",
    "datasets",
    "export",
    "gr",
    "metrics",
    "pl",
    "pp",
    "read",
    "read_slices",
    "report",
    "summary",
    "tl",
    "workflow",
]

_HOME = {
    "STMFG": "model.estimator",
    "Config": "config",
    "StmfgError": "errors",
    "compare": "tl",
    "read": "io",
    "read_slices": "io",
    "summary": "tl",
}

if TYPE_CHECKING:
    from stmfg import datasets, export, gr, metrics, pl, pp, report, tl, workflow
    from stmfg.config import Config
    from stmfg.errors import StmfgError
    from stmfg.io._read import read
    from stmfg.io.slices import read_slices
    from stmfg.model.estimator import STMFG
    from stmfg.tl._compare import compare
    from stmfg.tl._summary import summary


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"stmfg.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"stmfg.{name}")
    raise AttributeError(f"module 'stmfg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

"""Whole runs, from files to a folder of results: one input, several slices, a model on new data, a batch of samples."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stmfg.workflow._apply import run_apply
    from stmfg.workflow._batch import batch
    from stmfg.workflow._comparison import compare_results
    from stmfg.workflow._earlier import OUTPUTS
    from stmfg.workflow._inspection import inspect_input
    from stmfg.workflow._results import write_report
    from stmfg.workflow._run import run
    from stmfg.workflow.options import RunOptions, read_record

__all__ = [
    "OUTPUTS",
    "RunOptions",
    "batch",
    "compare_results",
    "inspect_input",
    "read_record",
    "run",
    "run_apply",
    "write_report",
]

_HOME = {
    "OUTPUTS": "_earlier",
    "RunOptions": "options",
    "batch": "_batch",
    "compare_results": "_comparison",
    "inspect_input": "_inspection",
    "read_record": "options",
    "run": "_run",
    "run_apply": "_apply",
    "write_report": "_results",
}


def __getattr__(name: str) -> Any:
    # On first use, so that the command line loads what its command needs and nothing else.
    if name in _HOME:
        return getattr(importlib.import_module(f"stmfg.workflow.{_HOME[name]}"), name)
    raise AttributeError(f"module 'stmfg.workflow' has no attribute {name!r}")

"""Packages that only some tests need: imported quietly, or the test is skipped with the reason."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest


def optional(name: str) -> ModuleType:
    """Import a package of the development environment, or skip the test; what it warns of on import is not ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} cannot be imported ({error}); the dependency group dev brings it")

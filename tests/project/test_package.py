"""What is public: its names, that they load on first use, and that each is documented."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest

import stmfg

PUBLIC = [
    "STMFG", "Config", "StmfgError", "__version__", "compare", "datasets", "export", "gr", "metrics", "pl", "pp",
    "read", "read_slices", "report", "summary", "tl", "workflow",
]  # fmt: skip


def test_importing_the_package_is_quick() -> None:
    script = "import sys, stmfg; print({'torch', 'matplotlib', 'scanpy', 'anndata', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_public_names() -> None:
    assert stmfg.__all__ == PUBLIC
    assert stmfg.__version__ == version("stmfg")
    assert dir(stmfg) == sorted(PUBLIC)
    rooms = {name for name in PUBLIC if isinstance(getattr(stmfg, name), ModuleType)}
    assert rooms == {"datasets", "export", "gr", "metrics", "pl", "pp", "report", "tl", "workflow"}
    with pytest.raises(AttributeError, match="nonsense"):
        _ = stmfg.nonsense


def test_every_name_a_module_lists_is_there() -> None:
    for found in pkgutil.walk_packages(stmfg.__path__, "stmfg."):
        if found.name != "stmfg.__main__":
            module = importlib.import_module(found.name)
            for name in getattr(module, "__all__", []):
                assert hasattr(module, name), f"{found.name}: {name}"


def public() -> dict[str, Any]:
    """Return every public function and class by its name."""
    found = {}
    for name in PUBLIC:
        thing = getattr(stmfg, name)
        if isinstance(thing, ModuleType):
            found |= {f"{name}.{inner}": getattr(thing, inner) for inner in thing.__all__}
        elif callable(thing):
            found[name] = thing
    return {name: thing for name, thing in found.items() if inspect.isfunction(thing) or inspect.isclass(thing)}


def documented(docstring: str) -> set[str]:
    """Return the names in the section Parameters of a docstring."""
    lines = inspect.cleandoc(docstring).splitlines()
    if "Parameters" not in lines:
        return set()
    start = lines.index("Parameters") + 2
    names: set[str] = set()
    for i, line in enumerate(lines[start:], start):
        if i + 1 < len(lines) and set(lines[i + 1]) == {"-"}:
            break  # the next section
        if line and not line.startswith(" "):
            names |= {name.strip(" *") for name in line.split(":")[0].split(",")}
    return names


@pytest.mark.parametrize("name", sorted(public()))
def test_public_functions_and_classes_are_documented(name: str) -> None:
    thing = public()[name]
    assert inspect.getdoc(thing)
    if dataclasses.is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, Exception)):
        return  # their fields are documented one by one
    parameters = set(inspect.signature(thing).parameters)
    assert documented(thing.__doc__) == parameters

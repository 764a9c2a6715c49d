"""The package as a whole: what is public, what imports what, and that it is documented."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import stmfg

PACKAGE = Path(stmfg.__file__).parent
PUBLIC = [
    "STMFG",
    "Config",
    "StmfgError",
    "__version__",
    "datasets",
    "export",
    "gr",
    "metrics",
    "pl",
    "pp",
    "read",
    "read_slices",
    "tl",
]
PURE = ["losses", "nn", "cluster", "metrics", "config", "_features", "data", "markers", "train"]
"""Modules that compute: arrays and tensors in, arrays and tensors out."""


def module_level(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when a module is imported."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from module_level(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for block in ("body", "orelse", "finalbody"):
                yield from module_level(getattr(node, block, []))
            for handler in getattr(node, "handlers", []):
                yield from module_level(handler.body)


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the full names of what a module imports at module level."""
    found = set()
    for node in module_level(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path.name} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@cache
def graph() -> dict[str, set[str]]:
    """Return the modules of stmfg each module imports; the package itself is named __init__."""
    modules = {path.stem: path for path in PACKAGE.glob("*.py")}
    result: dict[str, set[str]] = {}
    for name, path in modules.items():
        result[name] = set()
        for full in imports(path):
            package, _, rest = full.partition(".")
            if package == "stmfg":
                inner = rest.split(".")[0]
                result[name].add(inner if inner in modules else "__init__")
    return result


def reachable(name: str) -> set[str]:
    seen, todo = set(), [name]
    while todo:
        for other in graph()[todo.pop()] - seen:
            seen.add(other)
            todo.append(other)
    return seen


def test_the_import_graph_is_read() -> None:
    assert "_errors" in graph()["config"]
    assert {"nn", "losses", "config"} <= reachable("model")
    assert graph()["_errors"] == set()


def test_no_module_imports_itself_through_others() -> None:
    assert [name for name in graph() if name in reachable(name)] == []


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_never_import_anndata(name: str) -> None:
    for module in {name} | reachable(name):
        heavy = {full.split(".")[0] for full in imports(PACKAGE / f"{module}.py")} & {"anndata", "scanpy"}
        assert not heavy, f"{name} imports {heavy} through {module}"


def test_importing_the_package_is_quick() -> None:
    script = "import sys, stmfg; print({'torch', 'matplotlib', 'scanpy', 'anndata', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_public_names() -> None:
    assert stmfg.__all__ == PUBLIC
    assert dir(stmfg) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(stmfg, name) is not None
    for name in ("datasets", "export", "gr", "metrics", "pl", "pp", "tl"):
        assert isinstance(getattr(stmfg, name), ModuleType)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = stmfg.nonsense


def test_every_name_a_module_lists_is_there() -> None:
    for path in PACKAGE.glob("[!_]*.py"):
        module = importlib.import_module(f"stmfg.{path.stem}")
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{path.name}: {name}"


def test_version() -> None:
    assert stmfg.__version__ == version("stmfg")


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

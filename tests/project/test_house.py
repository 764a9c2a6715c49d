"""The layout of the package: which room may import which, what a room may not know, and how large things may grow.

Every import counts: at the top of a module, inside a function, and under ``TYPE_CHECKING``, because an annotation is
knowledge of another room too. Only the search for circles leaves out what stands under ``TYPE_CHECKING``, which never
runs and so cannot leave a module half loaded; in an ``__init__`` it names what is loaded on first use, and counts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import stmfg

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "stmfg"
TESTS = ROOT / "tests"

FLOORS = [
    {"__init__"},
    {"cli", "__main__"},
    {"workflow"},
    {"report", "export"},
    {"pl"},
    {"tl"},
    {"gr", "pp"},
    {"model", "io", "metrics", "datasets"},
    {"_core"},
    {"config", "errors", "_keys", "_version"},
]
"""Rooms from the roof to the ground. A room imports from lower floors, and from its own floor if no circle arises."""

EXCEPTIONS: dict[str, set[str]] = {
    "size": {"stmfg", "tests"},
}
"""What is still open, by the name of the check."""


class Arrow(NamedTuple):
    """One import of one module of the package by another."""

    source: str
    target: str
    runs: bool


@cache
def modules() -> dict[str, Path]:
    """Return the file of every module by its name without ``stmfg.``; the package itself is ``__init__``."""
    named = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        named[".".join(parts)] = path
    return named


def imported(tree: ast.AST, *, runs: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield the full name of everything a piece of code imports, and whether that import ever runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", runs) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from imported(ast.Module([child], []), runs=False)
            yield from imported(ast.Module(node.orelse, []), runs=runs)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            yield ast.unparse(node.args[0]).strip("f'\""), runs
        else:
            yield from imported(node, runs=runs)


@cache
def arrows() -> list[Arrow]:
    found = []
    for source, path in modules().items():
        for full, runs in imported(ast.parse(path.read_text(encoding="utf-8"))):
            package, _, rest = full.partition(".")
            if package != "stmfg" or source == "__init__":
                continue  # the package itself names every room, and loads one when it is asked for
            while rest and rest not in modules():
                rest = rest.rpartition(".")[0]
            if rest != source:  # a room that loads its modules on first use names itself
                found.append(Arrow(source, rest or "__init__", runs or path.name == "__init__.py"))
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def check(name: str, problems: set[str]) -> None:
    assert problems <= EXCEPTIONS.get(name, set())


def circle(graph: dict[str, set[str]]) -> set[str]:
    """Return the members of a circle, or nothing if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return set(error.args[1])
    return set()


def test_every_module_has_a_floor() -> None:
    assert {room(name) for name in modules()} == set().union(*FLOORS)


def test_the_search_sees_imports_in_functions_and_circles() -> None:
    assert "cli" in {room(arrow.target) for arrow in arrows() if arrow.source == "__main__"}
    code = "if TYPE_CHECKING:\n    import a\nclass C:\n    def f(self):\n        from b import c\n"
    assert list(imported(ast.parse(code))) == [("a", False), ("b.c", True)]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


def test_no_module_and_no_room_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    rooms: dict[str, set[str]] = {room(name): set() for name in modules()}
    for arrow in arrows():
        if arrow.runs:
            graph[arrow.source].add(arrow.target)
        if room(arrow.source) != room(arrow.target):
            rooms[room(arrow.source)].add(room(arrow.target))
    check("circles", circle(graph) | circle(rooms))


def test_imports_go_down() -> None:
    upwards = {f"{a.source} -> {a.target}" for a in arrows() if floor(a.target) < floor(a.source)}
    check("upwards", upwards)


def test_the_model_knows_no_anndata() -> None:
    for name, path in modules().items():
        names = {full.split(".")[0] for full, _ in imported(ast.parse(path.read_text(encoding="utf-8")))}
        assert room(name) != "model" or not names & {"anndata", "scanpy"}, name


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def parameters(path: Path) -> Iterator[tuple[str, int]]:
    """Yield every function of a file and how many parameters it takes, without self."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            yield node.name, len([name for name in given if name not in ("self", "cls")])


def test_functions_take_at_most_8_parameters() -> None:
    """Public ones may take more: theirs are options by keyword, each documented (see test_package.py)."""
    many = {
        f"{name}.{function}"
        for name, path in modules().items()
        for function, count in parameters(path)
        if count > 8 and f"{room(name)}.{function}" not in public_functions()
    }
    check("parameters", many)


@cache
def public_functions() -> set[str]:
    rooms = ["datasets", "export", "gr", "metrics", "pl", "pp", "tl"]
    names = {f"{name}.{function}" for name in rooms for function in getattr(stmfg, name).__all__}
    return names | {"io.read", "io.read_slices"}


def test_no_file_is_long() -> None:
    paths = [path for folder in (PACKAGE, TESTS, ROOT / "benchmarks") for path in folder.rglob("*.py")]
    paths = [path for path in paths if ".envs" not in path.parts]  # environments of other methods
    check("long files", {path.name for path in paths if lines(path) > 400})


@pytest.mark.parametrize(("folder", "most"), [(PACKAGE, 10_000), (TESTS, 10_500)], ids=["package", "tests"])
def test_the_whole_is_small(folder: Path, most: int) -> None:
    total = sum(map(lines, folder.rglob("*.py")))
    check("size", {folder.name} if total > most else set())


def test_the_top_fits_on_a_screen() -> None:
    assert len([path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]) <= 9
    assert len(list(PACKAGE.glob("*.py"))) <= 10


def test_most_tests_use_public_names() -> None:
    """Modules of a room without an underscore are public; what a test imports from ``_core`` or ``x._y`` is not."""
    private = set()
    for path in TESTS.rglob("*.py"):
        for full, _ in imported(ast.parse(path.read_text(encoding="utf-8"))):
            if full.startswith("stmfg.") and any(part.startswith("_") for part in full.split(".")[1:]):
                private.add(path.name)
    assert len(private) <= 15, private


def test_no_module_that_computes_knows_of_labels() -> None:
    mentions = set()
    for path in PACKAGE.rglob("*"):
        if path.suffix in {".py", ".j2", ".html", ".js"} and "ground_truth" in path.read_text(encoding="utf-8"):
            mentions.add(path.relative_to(PACKAGE).as_posix())
    # The simulation makes them, and the demo compares with them when everything is done.
    assert mentions <= {"datasets.py", "cli/_commands.py"}

"""The exceptions stMFG raises on purpose, and the check that a key is there.

A message is one line: what was found, what was expected, and the call that fixes it.
"""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


SHELL: Final[ContextVar[bool]] = ContextVar("shell", default=False)
"""Whether the user works in the shell, so that messages name flags rather than arguments."""
_FLAGS: Final = {"random_state": "seed", "slice_name": "slice"}
_OPTIONS: Final = (
    *("n_domains", "preset", "use_rep", "layer", "library_key", "platform", "device", "title", "reference", "table"),
    "key",
)


@contextmanager
def in_shell() -> Iterator[None]:
    """Let messages name flags rather than arguments."""
    before = SHELL.set(True)
    try:
        yield
    finally:
        SHELL.reset(before)


def flag(name: str, value: object = None) -> str:
    """Return an option as the user writes it: ``--library-key sample`` or ``library_key='sample'``."""
    if not SHELL.get():
        return name if value is None else f"{name}={value!r}"
    if name not in _OPTIONS and name not in _FLAGS:
        return f"--set {name}" if value is None else f"--set {shlex.quote(f'{name}={value}')}"
    text = "--" + _FLAGS.get(name, name).replace("_", "-")
    return text if value is None else f"{text} {shlex.quote(str(value))}"


def in_words(python: str, shell: str) -> str:
    """Return what helps in Python, or in the shell, by where the user works."""
    return shell if SHELL.get() else python


class StmfgError(Exception):
    """Base of every exception stMFG raises on purpose."""


class InputError(StmfgError, ValueError):
    """Data, a file or an option that cannot be used; the command line ends with status 2."""


class MissingKeyError(InputError):
    """An AnnData element that a step needs is not there."""


class MissingDependencyError(StmfgError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class TrainingError(StmfgError, RuntimeError):
    """Training cannot go on, for example because a loss term is no longer finite."""


def reason(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def make_all(*calls: Callable[[], Any]) -> list[Any]:
    """Return what every call returns, or refuse in one line with all that they refuse."""
    results, faults = [], []
    for call in calls:
        try:
            results.append(call())
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError("; ".join(faults))
    return results


def require(adata: object, attr: str, key: str, hint: str) -> Any:
    """Return ``getattr(adata, attr)[key]``, or say that it is missing and, with `hint`, how to get it."""
    element = getattr(adata, attr)
    if key not in element:
        present = ", ".join(map(str, list(element)[:8])) or "nothing"
        raise MissingKeyError(f"{attr}[{key!r}] is missing ({attr} has: {present}); {hint}")
    return element[key]


_MEANT: Final = {
    "seed": "random_state", "k": "n_domains", "n_clusters": "n_domains", "resolution": "n_domains",
    "batch_key": "library_key", "sample_key": "library_key", "slice_key": "library_key", "obsm": "use_rep",
    "rep": "use_rep", "counts_layer": "layer", "n_epochs": "epochs", "max_epochs": "epochs", "lr": "learning_rate",
    "n_neighbors": "spatial_neighbors", "n_pcs": "n_components", "verbose": "progress", "inplace": "copy",
}  # fmt: skip
"""What other tools call an option of ours."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that a name is unknown: the one that was probably meant."""
    known = list(known)
    near = [meant] if (meant := _MEANT.get(name)) in known else get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""

"""One sample of a batch: whether it is finished, and running it, here or as a process of its own."""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from stmfg._core import checks
from stmfg._core.files import fingerprint
from stmfg.config import Config
from stmfg.errors import InputError, MissingDependencyError
from stmfg.workflow._run import OUTPUTS, run


class Task(NamedTuple):
    """A run to be done: name of the sample, its file, the folder for its results, the options of the run."""

    name: str
    source: str
    folder: str
    options: dict[str, Any]


class Failure(NamedTuple):
    """Why a run failed, in one line, and whether its input is to blame rather than the machine or the program."""

    reason: str
    bad_input: bool


_HOW = frozenset({"resume", "progress"})
"""Options of a run that do not change its result."""
_OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(run).parameters.items()
    if parameter.default is not parameter.empty and name not in _HOW
}


def check(options: dict[str, Any]) -> Config:
    """Check what can be without the input, and return the hyperparameters that options of a run lead to.

    Raises
    ------
    InputError
        If an option is unknown or has no such value.
    """
    checks.n_domains(options.get("n_domains", "auto"))
    checks.random_state(options.get("random_state", 0))
    own = {name: value for name, value in options.items() if name not in _OPTIONS}
    return Config.preset(options.get("preset", _OPTIONS["preset"])).replace(**own)


def finished(task: Task) -> dict[str, Any] | None:
    """Return the record of a run if the folder holds all of it: same input, unchanged since, and same options.

    Parameters
    ----------
    task
        The run.
    """
    folder = Path(task.folder)
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        recorded = dict(record["options"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all((folder / name).is_file() for name in OUTPUTS):
        return None
    options = {k: v for k, v in _OPTIONS.items() if k in recorded} | task.options
    wanted = {
        "input": task.source,
        "input_state": fingerprint(task.source),
        "options": options,
        "params": check(task.options).to_dict(),
    }
    wanted = json.loads(json.dumps(wanted))  # as they would have been written
    return record if all(record.get(name) == value for name, value in wanted.items()) else None


def analyse(task: Task) -> Failure | None:
    """Run a sample, from where an earlier attempt was interrupted if there was one.

    Parameters
    ----------
    task
        The run.

    Returns
    -------
    What went wrong, or None. Nothing is raised: one bad sample must not end the others.
    """
    try:
        run(task.source, task.folder, resume=True, **task.options)
        if finished(task) is None:
            return Failure(f"{task.source} changed while it was read; run again", bad_input=True)
    except (InputError, MissingDependencyError) as error:
        return Failure(str(error), bad_input=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else "no message"
        return Failure(f"{type(error).__name__}: {first}", bad_input=False)
    return None


def main() -> int:
    """Read a task as JSON, run it, write what went wrong as JSON: a process for one sample."""
    task = Task(*json.load(sys.stdin))
    try:
        failure = analyse(task)
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"\n{json.dumps(failure)}\n")  # the last line, whatever a library may have said before
    return 0


if __name__ == "__main__":
    sys.exit(main())

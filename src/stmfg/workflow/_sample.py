"""One sample of a batch: whether it is finished, and running it, here or as a process of its own."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from stmfg._core.files import fingerprint
from stmfg._core.stored_graph import OPTIONS, TRAINING
from stmfg._keys import SLICE
from stmfg.errors import InputError, MissingDependencyError, in_shell
from stmfg.workflow._earlier import MARKERS, OUTPUTS
from stmfg.workflow._run import run
from stmfg.workflow.options import RunOptions


class Task(NamedTuple):
    """A run to be done: name of the sample, its file, the folder for its results, the options of the run.

    ``metadata`` is what a sheet says of the sample, for ``obs`` of the result; ``shell`` says whether messages name
    flags, as of a command, or arguments.
    """

    name: str
    source: str
    folder: str
    options: dict[str, Any]
    metadata: dict[str, str]
    shell: bool = False


class Failure(NamedTuple):
    """Why a run failed, in one line, and whether its input is to blame rather than the machine or the program."""

    reason: str
    bad_input: bool


def finished_record(task: Task) -> dict[str, Any] | None:
    """Return the record of a run if the folder holds all of it: same input, unchanged since, and same options."""
    folder = Path(task.folder)
    options = RunOptions.of(**task.options)
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        recorded = RunOptions.of(**record["options"])
        if recorded.library_key == SLICE and options.library_key is None:  # reading found slices
            recorded = replace(recorded, library_key=None)
        # The data decide how wide neighbourhoods are, and a graph that they bring has hyperparameters of its own.
        skipped = "neighborhoods", *(() if record.get("spatial_graph", TRAINING) == TRAINING else OPTIONS)
        params, wanted = record["params"], options.config.to_dict()
        same = recorded.to_dict() == options.to_dict() and params.keys() == wanted.keys()
        same = same and all(params[name] == value for name, value in wanted.items() if name not in skipped)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = same and (record.get("input"), record.get("input_state")) == (task.source, fingerprint(task.source))
    names = [name for name in OUTPUTS if name != MARKERS or options.use_rep is None]
    return record if same and all((folder / name).is_file() for name in names) else None


def run_sample(task: Task) -> Failure | None:
    """Run a sample, from where an earlier attempt was interrupted, and return what went wrong.

    Nothing is raised: one bad sample must not end the others.
    """
    try:
        with in_shell() if task.shell else nullcontext():  # what may be overwritten was asked before
            options = RunOptions.of(**task.options, resume=True, overwrite=True)
            run(task.source, task.folder, replace(options, metadata=task.metadata))
        if finished_record(task) is None:
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
        failure = run_sample(task)
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"\n{json.dumps(failure)}\n")  # the last line, whatever a library may have printed before
    return 0


if __name__ == "__main__":
    sys.exit(main())

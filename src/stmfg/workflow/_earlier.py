"""What an output folder holds before a run: earlier results are not lost unasked, and files of others never."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from stmfg._core.files import PARTIAL
from stmfg.errors import InputError, in_words

OUTPUTS: Final = ("result.h5ad", "domains.csv", "markers.csv", "domains.png", "report.html", "run.json")
"""Files of a finished run; without counts there are no markers."""
RECORD, MARKERS = OUTPUTS[-1], OUTPUTS[2]
"""The record is removed first and put in place last: where it is, the other files belong to it."""
COMPOSITION, ABUNDANCE, ABUNDANCE_FIGURE = OF_SEVERAL = ("composition.csv", "abundance.csv", "abundance.png")
"""Of a run of several slices: the share of each that every domain takes, and how conditions differ in that."""
CHECKPOINT: Final = "checkpoint.safetensors"
"""Left in the output folder by a run that was interrupted; ``--resume`` continues from it."""


def find_result(path: str | Path) -> Path:
    """Return the result in the folder of a run; any other path as it is."""
    path = Path(path).expanduser()
    return path / OUTPUTS[0] if (path / OUTPUTS[0]).is_file() else path


def refuse_earlier(output: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Check that a run into a folder loses nothing that the user has not given up.

    Refused are results without ``overwrite``, an interrupted run without that or ``resume``, and any file by the name
    of a result that no run has left.
    """
    names = [name for name in (*OUTPUTS, *OF_SEVERAL, CHECKPOINT) if (output / name).is_file()]
    record = _read_record(output / RECORD)
    # One that was killed while it moved its files in place has left no record, but the folder they were in.
    is_interrupted = CHECKPOINT in names or (record is None and any(output.glob(f"{PARTIAL}*")))
    if not names or (is_interrupted and (resume or overwrite)):
        return
    replace = in_words("overwrite=True", "--overwrite")
    if is_interrupted:
        advice = f"add {in_words('resume=True', '--resume')} to continue it, {replace} to begin anew"
        raise InputError(f"{output} holds a run that was interrupted ({_age(output / names[-1])}); {advice}")
    if record is None:
        raise InputError(f"{output} holds {names[0]}, which no run of stMFG has left there; give another folder")
    if not overwrite:
        size = f"{record['n_domains']} domains of {record['n_obs']:,} spots"
        advice = f"add {replace} to replace them, or give another folder"
        raise InputError(f"{output} holds the results of a run ({size}, {_age(output / RECORD)}); {advice}")


def refuse_foreign_page(output: Path) -> None:
    """Check that the page and the table of a batch replace nothing but those of an earlier one."""
    page = ("index.html", '<meta name="generator" content="stMFG')
    for name, first in (page, ("summary.csv", "sample,path,"), ("matched.csv", "sample,domain,group")):
        path = output / name
        if path.is_file() and first not in path.read_text(encoding="utf-8", errors="replace")[:2000]:
            raise InputError(f"{output} holds {name}, which no batch of stMFG has left there; give another folder")


def _read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of a run, or None where the file is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"version", "options", "n_obs", "n_domains"} <= set(record) else None
    except (OSError, ValueError, TypeError):
        return None


def _age(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))

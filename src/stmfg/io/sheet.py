"""The sheet of samples: one a row, with its file, what is known about it and options of its own."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection

REQUIRED: Final = ("sample", "path")
DESCRIBING: Final = ("donor", "condition")
"""Columns that describe a sample; no run reads them."""
_LONGEST_NAME: Final = 200  # of a folder, with room for what a file system may add
_RESERVED: Final = ("index.html", "summary.csv")


@dataclass(frozen=True)
class Sample:
    """One row of a sheet.

    Attributes
    ----------
    name
        Name of the sample and of its folder.
    source
        Its file or folder, absolute.
    donor, condition
        As in the sheet, or empty.
    options
        Text of the other cells that are filled, by the names of their columns.
    where
        Sheet and line, for messages.
    """

    name: str
    source: Path
    donor: str = ""
    condition: str = ""
    options: dict[str, str] = field(default_factory=dict)
    where: str = ""


def read_samples(path: str | Path, columns: Collection[str] = ("platform",)) -> list[Sample]:
    """Read a sheet.

    Parameters
    ----------
    path
        CSV with the columns ``sample`` and ``path``, and where wanted ``donor``, ``condition`` and `columns`. Paths are
        relative to the sheet. An empty cell is as good as none.
    columns
        Options that a sample can have of its own.

    Returns
    -------
    The samples, in the order of the sheet. Whether their files exist is not checked.

    Raises
    ------
    InputError
        If the sheet cannot be read, a column is missing or unknown, or a name cannot be that of a folder or is used
        twice.
    """
    path = Path(path).expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey="", restval="")
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            _check_columns(path, list(rows.fieldnames), columns)
            samples = [
                _sample(f"{path} line {rows.line_num}", path, {k: v.strip() for k, v in row.items()})
                for row in rows
                if _is_filled(f"{path} line {rows.line_num}", row)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"sheet {path} cannot be read ({reason}); give a CSV file in UTF-8") from error
    if not samples:
        raise InputError(f"sheet {path} names no sample; give one a line, with the columns {', '.join(REQUIRED)}")
    names: set[str] = set()
    for name in (sample.name for sample in samples):
        if name.casefold() in names:  # some file systems do not tell upper from lower case
            raise InputError(f"sheet {path} names sample {name!r} twice; each needs a name, and a folder, of its own")
        names.add(name.casefold())
    return samples


def _check_columns(path: Path, columns: list[str], options: Collection[str]) -> None:
    known = (*REQUIRED, *DESCRIBING, *options)
    for name in REQUIRED:
        if name not in columns:
            first_line = ", ".join(columns[:8]) or "nothing"
            raise InputError(
                f"sheet {path} has no column {name!r} (first line: {first_line}); separate columns by commas"
            )
    for name in columns:
        # A column that is not understood may be an option that is misspelt: hundreds of runs would go without it.
        if name not in known:
            raise InputError(f"sheet {path} has an unknown column {name!r}; the columns are {', '.join(known)}")
        if columns.count(name) > 1:
            raise InputError(f"sheet {path} has the column {name!r} twice; keep one of them")


def _is_filled(where: str, row: dict[str, Any]) -> bool:
    """Whether a line has any text; one with more cells than there are columns is refused."""
    if "" in row:
        raise InputError(f"{where} has more cells than there are columns; put names with a comma in double quotes")
    return any(value.strip() for value in row.values())


def _sample(where: str, sheet: Path, row: dict[str, str]) -> Sample:
    for column in REQUIRED:
        if not row[column]:
            raise InputError(f"{where} has no {column}; fill it in or remove the line")
    name = row["sample"]
    if name.startswith(".") or not name.isprintable() or set(name) & set('/\\:*?"<>|') or len(name) > _LONGEST_NAME:
        raise InputError(f"{where}: sample {name!r} cannot be the name of a folder; use letters, digits, - and _")
    if name.casefold() in _RESERVED:
        raise InputError(f"{where}: sample {name!r} is the name of a file of the batch; give it another")
    source = Path(os.path.abspath(sheet.parent / Path(row["path"]).expanduser()))  # noqa: PTH100 - links stay links
    options = {column: text for column, text in row.items() if text and column not in (*REQUIRED, *DESCRIBING)}
    return Sample(name, source, row.get("donor", ""), row.get("condition", ""), options, where)

"""The sheet of a batch: one sample a line, its file, what is known about it and its own options."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.io.platforms import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Callable

REQUIRED: Final = ("sample", "path")
DESCRIBING: Final = ("donor", "condition")
"""Columns that say what a sample is; no run sees them."""
_LONGEST_NAME: Final = 200  # of a folder, with room for what a file system may add
_RESERVED: Final = ("index.html", "summary.csv")


@dataclass(frozen=True)
class Sample:
    """One line of a sheet.

    Attributes
    ----------
    name
        Name of the sample and of its folder.
    source
        Its file or folder, absolute.
    donor, condition
        What the sheet says of it, or empty.
    options
        Options of :func:`stmfg.workflow.run` that are its own.
    """

    name: str
    source: Path
    donor: str = ""
    condition: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def read(path: str | Path) -> list[Sample]:
    """Read a sheet.

    Parameters
    ----------
    path
        CSV with the columns ``sample`` and ``path``, and where wanted ``donor``, ``condition`` and options of a run:
        ``platform``, ``n_domains``, ``preset``, ``use_rep``, ``library_key``, ``seed``. Paths are relative to the
        sheet. An empty cell is as good as none.

    Returns
    -------
    The samples, in the order of the sheet. Whether their files are there is not looked at.

    Raises
    ------
    InputError
        If the sheet cannot be read, a column is missing or unknown, a name cannot be that of a folder or is there
        twice, or an option has no such value.
    """
    path = Path(path).expanduser()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey="", restval="")
            columns = [name.strip() for name in rows.fieldnames or ()]
            rows.fieldnames = columns
            _check_columns(path, columns)
            samples = [
                _sample(f"{path} line {rows.line_num}", path, {k: v.strip() for k, v in row.items()})
                for row in rows
                if _filled(f"{path} line {rows.line_num}", row)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"sheet {path} cannot be read ({reason}); give a CSV file in UTF-8") from error
    if not samples:
        raise InputError(f"sheet {path} names no sample; give one a line, with the columns {', '.join(REQUIRED)}")
    seen: set[str] = set()
    for name in (sample.name for sample in samples):
        if name.casefold() in seen:  # some file systems do not tell upper from lower case
            raise InputError(f"sheet {path} names sample {name!r} twice; each needs a name, and a folder, of its own")
        seen.add(name.casefold())
    return samples


def _check_columns(path: Path, columns: list[str]) -> None:
    known = (*REQUIRED, *DESCRIBING, *_OPTIONS)
    for name in REQUIRED:
        if name not in columns:
            found = ", ".join(columns[:8]) or "nothing"
            raise InputError(f"sheet {path} has no column {name!r} (first line: {found}); separate columns by commas")
    for name in columns:
        # A column that is not understood may be an option that is misspelt: hundreds of runs would go without it.
        if name not in known:
            raise InputError(f"sheet {path} has an unknown column {name!r}; the columns are {', '.join(known)}")
        if columns.count(name) > 1:
            raise InputError(f"sheet {path} has the column {name!r} twice; keep one of them")


def _filled(where: str, row: dict[str, Any]) -> bool:
    """Whether a line says anything; one with more cells than there are columns is refused."""
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
    options: dict[str, Any] = {}
    for column, (parameter, convert) in _OPTIONS.items():
        if row.get(column):
            try:
                options[parameter] = convert(row[column])
            except ValueError as error:
                raise InputError(f"{where}: {column} is {row[column]!r}; {error}") from error
    source = Path(os.path.abspath(sheet.parent / Path(row["path"]).expanduser()))  # noqa: PTH100 - links stay links
    return Sample(name, source, row.get("donor", ""), row.get("condition", ""), options)


def _platform(text: str) -> str:
    if text not in PLATFORMS:
        raise ValueError(f"choose from {', '.join(PLATFORMS)}")
    return text


def _n_domains(text: str) -> int | str:
    if text != "auto" and not (text.isdecimal() and int(text) > 1):
        raise ValueError("give a number of at least 2, or auto")
    return text if text == "auto" else int(text)


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**32):
        raise ValueError(f"give a number from 0 to {2**32 - 1}")
    return int(text)


def _preset(text: str) -> str:
    Config.preset(text)
    return text


_OPTIONS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "platform": ("platform", _platform),
    "n_domains": ("n_domains", _n_domains),
    "preset": ("preset", _preset),
    "use_rep": ("use_rep", str),
    "library_key": ("library_key", str),
    "seed": ("random_state", _seed),
}
"""Columns that are options: the parameter of a run, and what makes its value of the text."""

"""The sheet of samples: one a row, with its file, what is known about it and options of its own."""

from __future__ import annotations

import csv
import logging
import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stmfg.errors import InputError, reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import pandas as pd

logger = logging.getLogger("stmfg")

REQUIRED: Final = ("sample", "path")
DESCRIBING: Final = ("donor", "condition")
"""Columns that describe a sample and mean something to the comparison of several; others are kept as they are."""
_ALIKE: Final = 0.75
"""Names of columns that are at least so much alike, by difflib's ratio, are taken for one of them misspelt."""
_LONGEST_NAME: Final = 200  # of a folder, with room for what a file system may add
_RESERVED: Final = ("index.html", "summary.csv", "matched.csv")


@dataclass(frozen=True)
class Sample:
    """One row of a sheet."""

    name: str  # of the sample and of its folder
    source: Path  # its file or folder, absolute
    donor: str = ""
    condition: str = ""
    options: dict[str, str] = field(default_factory=dict)  # text of filled cells, by the names of their columns
    where: str = ""  # sheet and line, for messages
    others: dict[str, str] = field(default_factory=dict)  # text of columns that mean nothing to stMFG

    @property
    def metadata(self) -> dict[str, str]:
        """What is known of the sample: donor, condition and the other columns, as far as they are filled."""
        known = {"donor": self.donor, "condition": self.condition} | self.others
        return {name: text for name, text in known.items() if text}


def read_samples(path: str | Path, columns: Collection[str] = ("platform",)) -> list[Sample]:
    """Read the samples of a sheet, in its order; whether their files exist is not checked.

    It is CSV with the columns ``sample`` and ``path``, relative to the sheet, and where wanted ``donor``, ``condition``
    and `columns`, the options that a sample can have of its own. An empty cell is as good as none.
    """
    path = Path(path).expanduser()
    samples: dict[str, Sample] = {}
    problems: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, restkey="", restval="")
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            _check_columns(path, list(rows.fieldnames), columns)
            for row in rows:
                where = f"{path} line {rows.line_num}"
                if "" in row:
                    fix = "put names with a comma in double quotes"
                    problems.append(f"{where} has more cells than there are columns; {fix}")
                elif any(cell.strip() for cell in row.values()):
                    filled = {column: cell.strip() for column, cell in row.items()}
                    if faults := "; ".join(_faults(where, filled, samples)):
                        problems.append(faults)
                    samples[filled["sample"].casefold()] = _sample(where, path, filled, columns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or reason(error)
        raise InputError(f"sheet {path} cannot be read ({what}); give a CSV file in UTF-8") from error
    refuse(problems, f"sheet {path} has {len(problems)} lines with faults, see above; nothing was started")
    if not samples:
        raise InputError(f"sheet {path} names no sample; give one a line, with the columns {', '.join(REQUIRED)}")
    return list(samples.values())


def refuse(problems: list[str], summary: str) -> None:
    """Raise what is wrong; where that is several things, they are logged first, and `summary` is raised."""
    for problem in problems if len(problems) > 1 else ():
        logger.error("%s", problem)
    if problems:
        raise InputError(summary if len(problems) > 1 else problems[0])


def _check_columns(path: Path, columns: list[str], options: Collection[str]) -> None:
    known = (*REQUIRED, *DESCRIBING, *options)
    for name in REQUIRED:
        if name not in columns:
            first_line = ", ".join(columns[:8]) or "nothing"
            raise InputError(
                f"sheet {path} has no column {name!r} (first line: {first_line}); "
                "name the columns there, separated by commas"
            )
    for name in columns:
        # An option that is misspelt would be missing from hundreds of runs.
        absent = [column for column in known if column not in columns]
        meant = get_close_matches(name.lower().replace(" ", "_").replace("-", "_"), absent, n=1, cutoff=_ALIKE)
        if name not in known and meant:
            raise InputError(f"sheet {path} has the column {name!r}; did you mean {meant[0]!r}? Else call it otherwise")
        if not name:
            raise InputError(f"sheet {path} has a column without a name; name it in the first line or remove it")
        if columns.count(name) > 1:
            raise InputError(f"sheet {path} has the column {name!r} twice; keep one of them")


def _sample(where: str, sheet: Path, row: dict[str, str], columns: Collection[str]) -> Sample:
    source = Path(os.path.abspath(sheet.parent / Path(row["path"]).expanduser()))  # noqa: PTH100 - links stay links
    options = {column: text for column, text in row.items() if text and column in columns}
    others = {column: text for column, text in row.items() if column not in (*REQUIRED, *DESCRIBING, *columns)}
    return Sample(row["sample"], source, row.get("donor", ""), row.get("condition", ""), options, where, others)


def _faults(where: str, row: dict[str, str], names: Collection[str]) -> Iterator[str]:
    """Yield what is wrong with a line; `names` are those of earlier samples, in lower case."""
    for column in REQUIRED:
        if not row[column]:
            yield f"{where} has no {column}; fill it in or remove the line"
    name = row["sample"]
    if name.startswith(".") or not name.isprintable() or set(name) & set('/\\:*?"<>|') or len(name) > _LONGEST_NAME:
        yield f"{where}: sample {name!r} cannot be the name of a folder; use letters, digits, - and _"
    if name.casefold() in _RESERVED:
        yield f"{where}: sample {name!r} is the name of a file of the batch; give it another"
    if name and name.casefold() in names:  # some file systems do not tell upper from lower case
        yield f"{where} names sample {name!r} twice; each needs a name, and a folder, of its own"


def describe_spots(obs: pd.DataFrame, metadata: Mapping[str, str | float], name: str) -> None:
    """Give all spots of a sample what the sheet says of it; columns of the data stay as they are."""
    for column, text in metadata.items():
        if column in obs and column not in DESCRIBING:
            logger.warning("%s: obs[%r] is in the data already; what the sheet says is left out", name, column)
        else:
            obs[column] = text

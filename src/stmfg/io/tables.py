"""What the readers share: errors in one line, tables of text, counts and positions put together."""

from __future__ import annotations

import csv
import gzip
import itertools
import logging
import os
import re
import warnings
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stmfg._keys import SPATIAL
from stmfg.errors import InputError, MissingDependencyError, StmfgError, reason
from stmfg.io.guard import regular, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData

Strings = NDArray[np.str_]

_NUMBER: Final = re.compile(r"^(\d+)\.0$")  # a number in a name, after a tool that makes fractions of numbers
_MISSING: Final = ["", "NA", "NaN", "nan", "null"]
AGAIN: Final = "if the file is damaged, copy it again from the output of the instrument"

logger = logging.getLogger("stmfg")


@contextmanager
def reading(what: str, fix: str = AGAIN) -> Iterator[None]:
    """Turn whatever a file library raises into one line, ``what cannot be read (reason); fix``."""
    try:
        with warnings.catch_warnings():
            # Names of genes are made unique here, those of spots are checked on use; the others are for developers.
            known = "(Variable|Observation) names are not unique|Suffix used .* to deduplicate"
            warnings.filterwarnings("ignore", message=known, category=UserWarning)
            for kind in (FutureWarning, PendingDeprecationWarning):  # of what will change, of what is old
                warnings.filterwarnings("ignore", category=kind)
            yield
    except (StmfgError, MemoryError):
        raise
    # A damaged file makes h5py, zarr, scipy, pandas, gzip and anndata raise a dozen unrelated types.
    except Exception as error:
        raise InputError(f"{what} cannot be read ({reason(error)}); {fix}") from error


class Wide(NamedTuple):
    """A table with a column for every gene or bead."""

    keys: Strings  # what names the rows, (n, n_keys)
    names: Strings  # of the other columns, as they are in the file
    values: Any  # the other columns, CSR float32 (n, n_names)


def read_wide(path: Path, keys: Sequence[int], drop: Callable[[str], bool]) -> Wide:
    """Read a dense table of counts into a sparse matrix, a row at a time.

    The columns `keys` describe the rows; `drop` tells by its name which of the others to leave out.
    """
    from scipy import sparse

    at, n = list(keys), len(keys)
    in_front = at == list(range(n))
    header, separator, before = read_header(path)
    names = [name for i, name in enumerate(header) if i not in at]
    used = np.array([not drop(name) for name in names], dtype=bool)
    if not used.any():
        raise InputError(f"{path} has no column of counts (it has: {', '.join(header[:5]) or 'nothing'}); {AGAIN}")
    described: list[list[str]] = []
    columns: list[NDArray[np.intp]] = []
    counts: list[NDArray[np.float32]] = []
    with reading(str(path)), open_text(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says that something is not a number
        for line in itertools.islice(file, before, None):
            if not line.strip():
                continue
            # numpy parses a line many times faster than pandas, which is slow where there is a column for every bead.
            if in_front:
                *key, rest = line.rstrip("\r\n").split(separator, n)
            else:
                cells = _cells(line, separator)
                key = [cells[i] for i in at if i < len(cells)]
                rest = separator.join(cell for i, cell in enumerate(cells) if i not in at)
            try:
                values = np.fromstring(rest.replace('"', ""), dtype=np.float32, sep=separator)
            except (DeprecationWarning, ValueError) as error:
                row = pd.DataFrame(zip(names, _cells(rest, separator), strict=False), columns=["name", "cell"])
                bad = row[pd.to_numeric(row["cell"], errors="coerce").isna()]
                name, cell = bad.iloc[0] if len(bad) else ("", "")
                raise InputError(
                    f"{path}: row {len(described) + 1} holds {cell[:50]!r} in the column {name!r}, which is no number; "
                    "remove the column if it is no gene, or copy the file again if it is damaged"
                ) from error
            if len(key) != n or len(values) != len(used):
                raise InputError(f"{path}: row {len(described) + 1} has not as many values as the header; {AGAIN}")
            values = values[used]
            described.append([_NUMBER.sub(r"\1", cell.strip('"')) for cell in key])
            columns.append(np.flatnonzero(values))
            counts.append(values[columns[-1]])
        if not described:
            raise InputError(f"{path} has a header and no rows; {AGAIN}")
    ends = np.cumsum([0, *map(len, columns)])
    X = sparse.csr_matrix((np.concatenate(counts), np.concatenate(columns), ends), (len(described), int(used.sum())))
    return Wide(np.array(described, dtype=str), np.array(names, dtype=str)[used], X)


class Header(NamedTuple):
    """The first line of a table that is no comment."""

    names: list[str]
    separator: str  # comma, tab or semicolon
    lines: int  # before the first row, the header among them


def read_header(path: Path) -> Header:
    """Read the names of the columns of a table; R leaves out that of the first, which names the rows."""
    if ".parquet" in path.name.lower():
        with reading(str(path)), _parquet(path) as table:
            return Header(table.schema_arrow.names, "", 0)
    with reading(str(path)), open_text(path) as file:
        lines = 0
        for lines, line in enumerate(file, 1):
            if line.strip() and not line.startswith("#"):
                separator = max(",\t;", key=line.count)
                names = _cells(line, separator)
                row = _cells(file.readline(), separator)
                without_first = len(row) == len(names) + 1 and "" not in (names[0], row[-1])
                return Header([""] * without_first + names, separator, lines)
    return Header([], ",", lines)


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])


def open_text(path: Path) -> IO[str]:
    """Open a text file, plain or compressed; some are written with a mark of their encoding in front."""
    if regular(path).suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """Open a parquet file, or say which extra reads it."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError(f'{path} needs pyarrow; pip install "stmfg[parquet]"') from error
    with unpacked(path) as plain, parquet.ParquetFile(plain) as file:
        yield file


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    with _parquet(path) as file:
        # What pandas calls the index is a column of the file, too.
        table = file.read(columns).to_pandas(ignore_metadata=True)
    import pyarrow

    pyarrow.default_memory_pool().release_unused()  # as much as the table, otherwise
    named: pd.DataFrame = table[columns]
    return named


def read_table(
    path: Path, columns: Sequence[str], *, text: Sequence[str] = (), header: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read some columns of a table, csv or parquet; those in `text` as text, the others as numbers.

    Upper or lower case does not matter in their names. A table without a header has the columns `header`.
    """
    about = read_header(path)
    if header is not None:
        about = Header(list(header), about.separator, about.lines - 1)
    by_case = {name.lower(): name for name in reversed(about.names)}
    stored = {name: name if name in about.names else by_case.get(name.lower()) for name in columns}
    missing = [name for name, source in stored.items() if source is None]
    if not about.names:
        raise InputError(f"{path} cannot be read (it is empty); {AGAIN}")
    if missing:
        present = ", ".join(about.names[:8])
        raise InputError(f"{path} does not have the columns {', '.join(missing)} (it has: {present}); {AGAIN}")
    with reading(str(path)):
        if ".parquet" in path.name.lower():
            table = _read_parquet(path, list(map(str, stored.values())))
        else:
            at = {about.names.index(str(source)): name for name, source in stored.items()}
            form: dict[str, Any] = {"sep": about.separator, "skiprows": about.lines, "encoding": "utf-8-sig"}
            form |= {"header": None, "names": range(len(about.names)), "usecols": list(at), "keep_default_na": False}
            form |= {"dtype": {i: str for i, name in at.items() if name in text}}
            form |= {"na_values": {i: _MISSING for i, name in at.items() if name not in text}}
            table = pd.read_csv(regular(path), **form)[list(at)]
        table.columns = pd.Index(columns)
        for name in columns:
            is_text = name in text and all(type(value) is str for value in table[name])
            if not is_text:
                table[name] = table[name].map(as_text).astype(str) if name in text else pd.to_numeric(table[name])
            if name in text and len(table) and _NUMBER.match(table[name].iloc[0]):
                table[name] = table[name].str.replace(_NUMBER, r"\1", regex=True)
    return table


def as_text(value: Any) -> str:
    """Return an identifier as text; the first versions of some instruments wrote bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def combine(X: Any, ids: Strings, genes: Strings, positions: pd.DataFrame, folder: Path) -> AnnData:
    """Put counts (n, n_genes) with the names of rows and columns, and x and y of each name, together."""
    from anndata import AnnData

    with reading(str(folder)):
        adata = AnnData(
            X.tocsr().astype(np.float32),
            obs=pd.DataFrame(index=pd.Index(ids, dtype=object)),
            var=pd.DataFrame(index=pd.Index(genes, dtype=object)),
        )
        adata.var_names_make_unique()
        return place(adata, positions, folder)


def place(adata: AnnData, positions: pd.DataFrame, folder: Path) -> AnnData:
    """Keep the observations whose position is known, and give them x and y."""
    for names, what in ((adata.obs_names, "counts"), (positions.index, "positions")):
        repeated = names.to_series()[names.duplicated()].tolist()
        if repeated:
            raise InputError(f"{folder}: {repeated[0]!r} is there more than once in the {what}; {AGAIN}")
    rows = match_names(adata.obs_names, positions.index, folder)
    xy = np.where(rows[:, None] >= 0, positions.to_numpy(np.float64)[rows], np.nan)
    known = np.asarray(np.isfinite(xy).all(axis=1))
    if not known.any():
        raise InputError(f"{folder}: the positions are not numbers; {AGAIN}")
    if not known.all():
        logger.warning("%s: %d of %d have no position and are left out", folder, (~known).sum(), len(known))
        adata, xy = adata[known].copy(), xy[known]
    adata.X.sort_indices()
    adata.obsm[SPATIAL] = xy
    return adata


def match_names(names: Any, known: pd.Index[Any], folder: Path) -> NDArray[np.intp]:
    """Return the row of each name in the table of positions, (n,); -1 where it is not there.

    Where none is, all names of one of both may have something before or behind them: ``-1``, or the name of a sample.
    """
    rows: NDArray[np.intp] = known.get_indexer(pd.Index(names))
    if (rows < 0).all():
        # R makes dots of what it does not take in a name.
        ours, theirs = (pd.Index(each).astype(str).str.replace("[._]", "-", regex=True) for each in (names, known))
        number = r"-\d+$"
        alike = [each.str.extract(f"({number})")[0].nunique(dropna=False) == 1 for each in (ours, theirs)]
        plain = [
            [x, x.str.replace(number, "", regex=True)][: 1 + y] for x, y in zip((ours, theirs), alike, strict=True)
        ]
        pairs = [*itertools.product(_without_affixes(ours), plain[1])]
        pairs += itertools.product(plain[0], _without_affixes(theirs))
        matches = [right.get_indexer(left) for left, right in pairs if right.is_unique]
        rows = max(matches, key=lambda each: (each >= 0).sum(), default=rows)
    if (rows < 0).all():
        raise share_no_name(folder, names, known)
    return rows


def _without_affixes(names: pd.Index[Any]) -> Iterator[pd.Index[Any]]:
    """Yield names without what all of them begin or end with, up to each separator in it."""
    fixed = os.path.commonprefix(list(names)), os.path.commonprefix([name[::-1] for name in names])  # noqa: RUF071
    starts, ends = ([0, *(m.end() for m in re.finditer("[-:#|]", each))] for each in fixed)
    for start, end in itertools.product(starts, ends):
        yield names.str.slice(start, -end or None)


def share_no_name(folder: Path, counts: Any, positions: Any) -> InputError:
    """Return the error that the tables of counts and of positions are not of the same sample."""
    first = " and ".join(repr(str(names[0])) for names in (counts, positions) if len(names))
    return InputError(f"{folder}: counts and positions share no name (first: {first}); give both of one sample")

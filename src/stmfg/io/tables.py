"""What the readers share: errors in one line, tables of text, counts and positions put together."""

from __future__ import annotations

import csv
import gzip
import logging
import warnings
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stmfg._keys import SPATIAL
from stmfg.errors import InputError, MissingDependencyError, StmfgError
from stmfg.io.guard import regular, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from anndata import AnnData

Strings = NDArray[np.str_]

_ROWS: Final = 65_536
"""Rows of a parquet file that are read at a time."""
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{what} cannot be read ({reason}); {fix}") from error


class Wide(NamedTuple):
    """A table with a column for every gene or bead."""

    keys: Strings  # what names the rows, (n, n_keys)
    names: Strings  # of the other columns, as they are in the file
    values: Any  # the other columns, CSR float32 (n, n_names)


def read_wide(path: Path, n_keys: int, drop: Callable[[str], bool], *, separator: str = ",") -> Wide:
    """Read a dense table of counts into a sparse matrix, a row at a time.

    The first `n_keys` columns name the rows; `drop` tells by its name which of the others to leave out.
    """
    from scipy import sparse

    keys: list[list[str]] = []
    columns: list[NDArray[np.intp]] = []
    counts: list[NDArray[np.float32]] = []
    with reading(str(path)), open_text(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says that something is not a number
        names = next((_cells(line, separator) for line in file if not line.startswith("#")), [])
        used = np.array([not drop(name) for name in names[n_keys:]], dtype=bool)
        if not used.any():
            raise InputError(f"{path} has no column of counts (it has: {', '.join(names[:5]) or 'nothing'}); {AGAIN}")
        for line in file:
            # numpy parses a line many times faster than pandas, which is slow where there is a column for every bead.
            *key, rest = line.rstrip("\r\n").split(separator, n_keys)
            try:
                values = np.fromstring(rest, dtype=np.float32, sep=separator)
            except (DeprecationWarning, ValueError) as error:
                raise InputError(f"{path}: row {len(keys) + 1} holds what is no number; {AGAIN}") from error
            if len(key) != n_keys or len(values) != len(used):
                raise InputError(f"{path}: row {len(keys) + 1} has not as many values as the header; {AGAIN}")
            values = values[used]
            keys.append([cell.strip('"') for cell in key])
            columns.append(np.flatnonzero(values))
            counts.append(values[columns[-1]])
        if not keys:
            raise InputError(f"{path} has a header and no rows; {AGAIN}")
    ends = np.cumsum([0, *map(len, columns)])
    X = sparse.csr_matrix((np.concatenate(counts), np.concatenate(columns), ends), (len(keys), int(used.sum())))
    return Wide(np.array(keys, dtype=str), np.array(names[n_keys:], dtype=str)[used], X)


def read_header(path: Path, separator: str = ",") -> list[str]:
    """Return the names of the columns of a table."""
    if ".parquet" in path.name.lower():
        return list(read_parquet(path)[:0].columns)
    with reading(str(path)), open_text(path) as file:
        return next((_cells(line, separator) for line in file if not line.startswith("#")), [])


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter=separator))


def open_text(path: Path) -> IO[str]:
    """Open a text file, plain or compressed; some are written with a mark of their encoding in front."""
    if regular(path).suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a parquet file, or those of some columns that it has, in parts; or say which extra reads it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingDependencyError(f'{path} needs pyarrow; pip install "stmfg[parquet]"') from error
    with unpacked(path) as plain, parquet.ParquetFile(plain) as file:
        present = file.schema_arrow.names
        used = present if columns is None else [name for name in columns if name in present]
        parts = [batch.to_pandas() for batch in file.iter_batches(_ROWS, columns=used)]
        table: pd.DataFrame = (
            pd.concat(parts, ignore_index=True) if parts else file.schema_arrow.empty_table().to_pandas()[used]
        )
    pyarrow.default_memory_pool().release_unused()  # as much as the table, otherwise
    return table


def read_table(path: Path, columns: Sequence[str], *, text: Sequence[str] = ()) -> pd.DataFrame:
    """Read some columns of a table, csv or parquet; those in `text` as text, the others as numbers."""
    with reading(str(path)):
        parquet = ".parquet" in path.name.lower()
        table = read_parquet(path, columns) if parquet else pd.read_csv(regular(path), dtype=dict.fromkeys(text, str))
        missing = [name for name in columns if name not in table.columns]
        if missing:
            present = ", ".join(map(str, table.columns[:8]))
            raise InputError(f"{path} does not have the columns {', '.join(missing)} (it has: {present}); {AGAIN}")
        table = table[list(columns)].copy()
        for name in columns:
            table[name] = table[name].map(as_text).astype(str) if name in text else pd.to_numeric(table[name])
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
        repeated = names[names.duplicated()]
        if len(repeated):
            raise InputError(f"{folder}: {repeated[0]!r} is there more than once in the {what}; {AGAIN}")
    xy = positions.reindex(adata.obs_names).to_numpy(np.float64)
    known = np.isfinite(xy).all(axis=1)
    if not known.any():
        raise share_no_name(folder, adata.obs_names, positions.index)
    if not known.all():
        logger.warning("%s: %d of %d have no position and are left out", folder, (~known).sum(), len(known))
        adata, xy = adata[known].copy(), xy[known]
    adata.X.sort_indices()
    adata.obsm[SPATIAL] = xy
    return adata


def share_no_name(folder: Path, counts: Any, positions: Any) -> InputError:
    """Return the error that the tables of counts and of positions are not of the same sample."""
    first = " and ".join(repr(str(names[0])) for names in (counts, positions) if len(names))
    return InputError(f"{folder}: counts and positions share no name (first: {first}); give both of one sample")

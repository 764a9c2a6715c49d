"""Two results side by side, spot by spot, matched by the names of the spots."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from anndata import AnnData

from stmfg._core.comparison import Comparison
from stmfg._core.comparison import compare as compare_labels
from stmfg._core.labels import labels
from stmfg._keys import DOMAIN
from stmfg.errors import InputError
from stmfg.io import read

Result: TypeAlias = "AnnData | pd.Series[Any] | str | Path"

logger = logging.getLogger("stmfg")

_NEARLY_ALL = 0.95  # share of the spots of a result that a slice must have to be taken for the same
_TABLES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")


def compare(a: Result, b: Result, *, key: str = DOMAIN) -> Comparison:
    """Compare two results, or a result and an annotation, spot by spot.

    Parameters
    ----------
    a, b
        Annotated data, a pandas Series of labels by the names of spots, or a path: the folder of a run, an ``.h5ad`` or
        ``.zarr``, or a table (``.csv``) with the name of the spot first and its label in the column ``domain`` or else
        the second. Spots of several slices have the slice after their name, as ``SPOT_SLICE``, or in a column
        ``slice``. Of several slices beside a result of one of them, that slice is compared.
    key
        Column of ``obs`` with the domains, where annotated data are given.

    Returns
    -------
    Scores, which domains are the same, split or merged, and for every spot whether both say the same.
    ``adata.obs["same"] = comparison.spots["same"]`` shows where, as does :func:`stmfg.pl.differences`.

    Raises
    ------
    InputError
        If one cannot be read, or they share no spot.
    """
    one, other = read_labels(a, key), read_labels(b, key)
    if one.index.intersection(other.index).empty:
        one, other = _take_slice(one, other, _name(a, "a")), _take_slice(other, one, _name(b, "b"))
    if one.index.intersection(other.index).empty:
        first = f"first: {one.index[0]} and {other.index[0]}"
        raise InputError(f"{_name(a, 'a')} and {_name(b, 'b')} share no spot ({first}); give results of one slice")
    every = one.index.union(other.index, sort=False)
    return compare_labels(one.reindex(every), other.reindex(every))


def _take_slice(several: pd.Series[Any], single: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Return the labels of the slice whose spots another result has; all labels where there is no such slice."""
    known = set(single.index)
    endings = [
        (spot, spot[i + 1 :]) for spot in several.index for i, c in enumerate(spot) if c == "_" and spot[:i] in known
    ]
    counts = pd.Series([ending for _, ending in endings], dtype=object).value_counts()
    # Barcodes are the same on every array: the slice is the one that has most of them, by itself and nearly all.
    if counts.empty or counts.iloc[0] < _NEARLY_ALL * len(single) or (counts == counts.iloc[0]).sum() > 1:
        return several
    logger.info("of %s the slice %s is compared, which has the spots of the other", name, counts.index[0])
    part = several[[spot for spot, ending in endings if ending == counts.index[0]]]
    return part.set_axis(part.index.str.removesuffix(f"_{counts.index[0]}"))


def read_labels(result: Result, key: str = DOMAIN) -> pd.Series[Any]:
    """Return the label of every spot by its name, missing where there is none."""
    if isinstance(result, pd.Series):
        column, where = result, "the labels"
    elif isinstance(result, (str, Path)):
        path = Path(result).expanduser()
        where = str(path)
        table = path
        if path.is_dir() and path.suffix != ".zarr":
            has_table = key == DOMAIN or not (path / "result.h5ad").is_file()
            table = path / ("domains.csv" if has_table else "result.h5ad")
        if table.name.endswith(_TABLES):
            column = _read_table(table)
        else:
            return read_labels(read(table), key)
    else:
        column, where = pd.Series(labels(result, key), index=result.obs_names), "the data"
    column.index = column.index.astype(str)
    repeated = column.index[column.index.duplicated()]
    if len(repeated):
        raise InputError(f"{where} has the spot {repeated[0]!r} more than once; give a result of one slice")
    return column


def _read_table(file: Path) -> pd.Series[Any]:
    """Read a table of labels; spots of several slices are told apart by their slice."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, sep="," if ".csv" in file.name else "\t")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read ({reason}); give a .csv of spots and domains") from error
    if table.shape[1] < 2 or table.empty:
        raise InputError(f"{file} has no two columns and a row; give a .csv of spots and domains")
    names = table[table.columns[0]]
    if "slice" in table.columns[1:] and names.duplicated().any():
        names = names + "_" + table["slice"]
    column = table["domain" if "domain" in table.columns[1:] else table.columns[1]].set_axis(names)
    return column.where(column != "")


def _name(result: Result, otherwise: str) -> str:
    return str(result) if isinstance(result, (str, Path)) else otherwise

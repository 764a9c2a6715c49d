"""Checks on user input, shared by the Python API and the command line.

Each check raises :class:`~stmfg.errors.InputError` with one line that names what was found, what was
expected and the fix. None of them changes its input, and none makes a sparse matrix dense.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from scipy import sparse

from stmfg._core import hints
from stmfg._core.blocks import OnDisk, memory, once_per_matrix
from stmfg._keys import COUNTS, ONE_SLICE, SPATIAL
from stmfg.errors import InputError, flag, in_words, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated

logger = logging.getLogger("stmfg")

MIN_OBSERVATIONS: Final = 4
"""Fewer observations than this have no domains to speak of."""
_COINCIDENT: Final = 0.3
_RELATIVE_TOLERANCE: Final = 1e-3
_ROUNDING: Final = 1e-6
# Half a unit is the most a number can be away from an integer, so that a purely relative tolerance
# would pass any value above 500, counts per million among them.
_LARGEST_TOLERANCE: Final = 0.05
_LARGEST_COUNT: Final = 2**31
_LARGEST_VALUE: Final = 1e15
_EXTENT: Final = (1e-100, 1e100)
_VALUES_AT_A_TIME: Final = 10_000_000
_KEPT: Final = 0.25
"""Share of the memory that counts from disk may take, packed."""


def observations(adata: Annotated) -> None:
    """Check that there are at least 4 observations and that their names are unique."""
    if adata.n_obs < MIN_OBSERVATIONS:
        raise InputError(f"the data has {adata.n_obs} spots; at least {MIN_OBSERVATIONS} are needed: give more spots")
    names(adata)


def names(adata: Annotated) -> None:
    """Check that observation names are unique; names of genes may repeat."""
    duplicated = adata.obs_names.duplicated()
    if duplicated.any():
        fix = in_words("adata.obs_names_make_unique()", "give every spot of the file a name of its own")
        if column := hints.column_of_repeats(adata):
            fix = in_words(f"adata.obs_names += '_' + adata.obs[{column!r}].astype(str)", flag("library_key", column))
        raise InputError(
            f"{duplicated.sum()} of {adata.n_obs} spot names repeat an earlier one "
            f"(first {str(adata.obs_names[duplicated][0])!r}); names must be unique: {fix}"
        )


def tissue(adata: Annotated, xy: NDArray[np.float64], library_key: str | None) -> None:
    """Check that the spots are those of tissue, and that slices on top of each other are told apart.

    `library_key` is the column of ``obs`` that names the slice, `xy` are the positions, (n, 2) or (n, 3).
    """
    column, beside = hints.beside_tissue(adata)
    if beside is not None and beside.any():
        out = adata.obs[column][beside].tolist()[0]
        raise InputError(
            f"{beside.sum()} of {len(beside)} spots are not in tissue (obs[{column!r}] is {out}), which would be a "
            f"domain; leave them out: adata = adata[adata.obs[{column!r}] != {out!r}].copy()"
        )
    if library_key is not None:
        return
    one_tissue = f"{flag('library_key', ONE_SLICE)} if they are one tissue"
    overlapping = hints.overlapping_slices(adata, xy)
    if overlapping is not None:
        raise InputError(
            f"the slices that obs[{overlapping!r}] names lie on top of each other and would be taken for one tissue; "
            f"add {flag('library_key', overlapping)}, or {one_tissue}"
        )
    names = hints.slices_in_names(adata, xy)
    if names is not None:
        shown = ", ".join(map(repr, pd.unique(pd.Series(names))[:3]))
        raise InputError(
            f"spots with {shown} in their names lie on top of each other, as slices do; put that into a column of obs "
            f"and name it with {flag('library_key')}, or give {one_tissue}"
        )
    if hints.share_coincident(xy) > _COINCIDENT:
        logger.warning(
            "most spots lie where others do; if these are several slices, name their column of obs with %s",
            flag("library_key"),
        )


def text(adata: Annotated) -> None:
    """Check that names and columns of text can be written: HDF5 stores no NUL, and takes names for paths."""
    for frame, where in ((adata.obs, "obs"), (adata.var, "var")):
        columns = {f"the names of {where}": frame.index}
        for name, column in frame.items():
            values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
            if values.dtype.kind == "O":
                columns[f"{where}[{name!r}]"] = values
        for what, values in columns.items():
            if "\0" in "".join(map(str, values)):
                raise InputError(f"{what} hold a NUL character; the file may be damaged: copy it again")
    for where in ("obs", "var", "obsm", "layers"):
        _no_paths(getattr(adata, where), where)
    _no_paths(adata.uns, "uns")


def _no_paths(names: Iterable[Any], where: str) -> None:
    """Refuse names, at any depth, that as paths would leave their place in the file."""
    for name in names:
        if set(str(name).split("/")) & {"", ".", ".."}:
            raise InputError(f"{where} has the name {str(name)[:50]!r}, a path that leaves the file; rename it")
        if isinstance(names, Mapping) and isinstance(names[name], Mapping):
            _no_paths(names[name], where)


def coordinates(adata: Annotated) -> NDArray[np.float64]:
    """Return a checked copy of ``obsm["spatial"]``, finite float64 (n_obs, 2) or (n_obs, 3), in its own units.

    Refused: all observations at one point or impossibly far apart.
    """
    where = f"obsm[{SPATIAL!r}]"
    elsewhere = hints.positions_elsewhere(adata) if SPATIAL not in adata.obsm else None
    source = f"adata.{elsewhere[0]}" if elsewhere else "array of shape (n_obs, 2)"
    source += ".to_numpy()" if source.startswith("adata.obs[[") else ""
    fix = "give (x, y) in pixels or micrometres" + in_words(
        f": adata.obsm[{SPATIAL!r}] = {source}", f" in obsm[{SPATIAL!r}] of the file"
    )
    values = _numbers(require(adata, "obsm", SPATIAL, fix), where, fix)
    if values.ndim != 2 or values.shape[1] not in (2, 3):
        raise InputError(f"{where} has shape {values.shape}, expected ({adata.n_obs}, 2) or ({adata.n_obs}, 3); {fix}")
    xy = values.astype(np.float64)
    if xy.shape[1] == 3 and np.isnan(xy[:, 2]).all():  # a column that was never filled
        xy = xy[:, :2]
    _finite_rows(adata, xy, where)
    if len(xy) and (xy == xy[0]).all():
        raise InputError(f"{where} puts all {len(xy)} spots at one point {tuple(xy[0].tolist())}; {fix}")
    with np.errstate(over="ignore"):
        extent = float(np.ptp(xy, axis=0).max()) if len(xy) else 1.0
    if not _EXTENT[0] < extent < _EXTENT[1]:  # squares of distances would be infinite, or zero
        raise InputError(f"{where} spreads over {extent:g}, which is no length in any unit; {fix}")
    return xy


def counts(adata: Annotated, layer: str | None = None) -> sparse.csr_matrix | OnDisk:
    """Return the checked raw counts as a canonical CSR matrix, or as rows to be read where they are on disk.

    From ``layers[layer]``, of ``"raw"`` from ``adata.raw``, of ``"X"`` from ``X``; by default from ``layers["counts"]``
    where present, else ``X``; float32 (n_obs, n_vars). It may share memory with ``adata``: do not write to it.
    """
    if adata.isbacked:
        raise InputError("the data is in backed mode; load it into memory: adata = adata.to_memory()")
    if layer is None and COUNTS in adata.layers:
        layer = COUNTS
    if layer is None or (layer == hints.IN_X and layer not in adata.layers):
        matrix, where = adata.X, "X"
    elif layer == hints.RAW and layer not in adata.layers:
        matrix, where = _raw(adata), hints.place_of_layer(adata, layer)
    else:
        matrix = require(adata, "layers", layer, _known(adata.layers, "layer"))
        where = hints.place_of_layer(adata, layer)
    try:
        if matrix is None or adata.n_vars == 0:
            problem = f"{where} is empty" if matrix is None else "the data has no genes"
            raise InputError(f"{problem} and raw counts are expected")
        return _checked(matrix, where)
    except InputError as error:
        raise InputError(f"{error}; {_instead_of_counts(adata, layer)}") from error


def _known(names: Any, option: str) -> str:
    shown = ", ".join(map(str, names))
    return f"name one of these: {shown}" if shown else f"leave {flag(option)} out, since there is nothing to name"


def _raw(adata: Annotated) -> Any:
    """Return the counts in ``adata.raw`` of the genes that the data have."""
    if adata.raw is None:
        raise InputError("adata.raw is missing; name a layer with raw counts")
    columns = hints.genes_in_raw(adata)
    if columns is None:
        missing = list(adata.var_names.difference(adata.raw.var_names).astype(str))
        first = f"{len(missing)} of the genes (first {missing[0]!r})" if missing else "each gene once"
        fix = in_words("use it whole: adata = adata.raw.to_adata()", "name a layer instead")
        raise InputError(f"adata.raw does not have {first}; {fix}")
    whole = len(columns) == adata.raw.shape[1] and (columns == np.arange(len(columns))).all()
    return adata.raw.X if whole else adata.raw.X[:, columns]


def _instead_of_counts(adata: Annotated, layer: str | None) -> str:
    """Say where the data have counts, or what can take their place."""
    elsewhere = hints.counts_elsewhere(adata, besides=layer)
    if elsewhere is not None:
        where = hints.place_of_layer(adata, elsewhere)
        return f"{where} holds raw counts: use it with {flag('layer', elsewhere)}"
    if adata.raw is not None and hints.look_like_counts(adata.raw.X):
        fix = in_words("use it whole: adata = adata.raw.to_adata()", "write them into a file of their own")
        return f"adata.raw has counts of other genes than the data; {fix}"
    keys = list(hints.embeddings(adata))
    if keys:
        others = f" (obsm has: {', '.join(keys)})" if len(keys) > 1 else ""
        return f"give raw counts in layers[{COUNTS!r}], or use an embedding with {flag('use_rep', keys[0])}{others}"
    return f"give raw counts in layers[{COUNTS!r}], or an embedding in obsm and its name with {flag('use_rep')}"


@once_per_matrix
def _checked(matrix: Any, where: str) -> sparse.csr_matrix | OnDisk:
    if is_dask(matrix):
        on_disk = OnDisk(matrix)
        _check_counts(lambda: (block.data for block in on_disk.keep(_KEPT * memory())), where)
        return on_disk
    if not sparse.issparse(matrix):
        matrix = np.asarray(matrix)
    if matrix.dtype.kind not in "biuf":
        raise InputError(f"{where} has values of type {matrix.dtype}, expected counts")
    if matrix.dtype == np.float16:  # scipy has no sparse matrices of half precision
        matrix = matrix.astype(np.float32)
    csr = sparse.csr_matrix(matrix)

    def parts() -> Iterator[NDArray[Any]]:
        return (csr.data[i : i + _VALUES_AT_A_TIME] for i in range(0, csr.nnz, _VALUES_AT_A_TIME))

    _check_counts(parts, where)
    if csr.dtype.kind == "f" and any((part != np.rint(part)).any() for part in parts()):  # whole but for rounding
        csr = sparse.csr_matrix((np.rint(csr.data), csr.indices, csr.indptr), shape=csr.shape, copy=True)
        csr.eliminate_zeros()
    csr = csr.astype(np.float32, copy=False)
    if not csr.has_canonical_format:
        csr = csr.copy()  # the arrays may be the user's, and the next line works in place
        csr.sum_duplicates()
    return csr


def representation(adata: Annotated, key: str) -> NDArray[np.float32]:
    """Return a checked copy of an embedding ``obsm[key]``, float32 (n_obs, d), finite, and no positions."""
    where = f"obsm[{key!r}]"
    fix = "give an embedding with one row of numbers per spot, for example PCA"
    values = _numbers(require(adata, "obsm", key, _known(hints.embeddings(adata), "use_rep")), where, fix)
    if hints.are_positions(adata, key, values):
        others = ", ".join(hints.embeddings(adata)) or "none"
        raise InputError(f"{where} holds the positions of the spots, not an embedding; {fix} (obsm has: {others})")
    if values.ndim != 2 or values.shape[1] == 0:
        raise InputError(f"{where} has shape {values.shape}, expected ({adata.n_obs}, d) with d >= 1; {fix}")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is reported
        embedding = values.astype(np.float32)
    _finite_rows(adata, embedding, where)
    largest = float(np.abs(embedding).max(initial=0.0))
    if largest > _LARGEST_VALUE:  # squares and sums of it would be infinite in float32
        raise InputError(f"{where} has values up to {largest:g}, expected at most {_LARGEST_VALUE:g}; scale it")
    if len(embedding) and (embedding == embedding[0]).all():
        raise InputError(f"{where} has the same values for all {len(embedding)} spots; {fix}")
    return embedding


def n_domains(k: object, n_obs: int | None = None) -> int | str:
    """Return the checked number of domains, or ``"auto"``; ``n_obs`` spots have counts, where that is known."""
    if k == "auto":
        return "auto"
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool):
        raise InputError(f'n_domains is {k!r}, expected an integer of at least 2; give a number such as 7, or "auto"')
    if k < 2:
        raise InputError(f"n_domains is {k}, expected at least 2; one domain needs no clustering")
    if n_obs is not None and k > n_obs:
        raise InputError(f"n_domains is {k} but there are fewer spots ({n_obs}) with counts; give at most {n_obs}")
    return int(k)


def levels(k: object, n_obs: int | None = None) -> int | str | tuple[int, ...]:
    """Return the checked number of domains, ``"auto"``, or several numbers, the smallest first."""
    if not isinstance(k, (list, tuple, np.ndarray)):
        return n_domains(k, n_obs)
    if not len(k) or "auto" in list(k):
        raise InputError(f"n_domains is {k!r}, expected one number, several, or 'auto'; give such as [4, 7, 10]")
    return tuple(sorted({int(n_domains(number, n_obs)) for number in k}))


def random_state(seed: object) -> int:
    """Check that a seed is an integer from 0 to 2**32 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise InputError(f"random_state is {seed!r}; the seed must be an integer from 0 to {2**32 - 1}")
    return int(seed)


def library_names(adata: Annotated, key: str) -> NDArray[np.str_]:
    """Return the slice of each observation, (n,), or say that the column, or a part of it, is missing."""
    if key == ONE_SLICE and key not in adata.obs:
        return np.full(adata.n_obs, ONE_SLICE)
    column = require(adata, "obs", key, "name the column of obs that holds the slice")
    missing = int(column.isna().sum())
    if missing:
        raise InputError(f"obs[{key!r}] is missing for {missing} of {adata.n_obs} spots; name the slice of every spot")
    return np.asarray(column).astype(str)


def library_codes(adata: Annotated, key: str) -> NDArray[np.int64] | None:
    """Return the slice of each observation as a number from 0, (n,); None where there is one slice only."""
    names, codes = np.unique(library_names(adata, key), return_inverse=True)
    return codes if len(names) > 1 else None


def writable(folder: str | Path) -> None:
    """Check that files can be written to a folder, or that it can be made; leaves nothing behind."""
    folder = Path(folder).expanduser()
    try:
        # The nearest parent that exists decides. A dangling link does not "exist" but is in the way.
        parent = next(p for p in (folder, *folder.absolute().parents) if p.exists() or p.is_symlink())
        if not parent.is_dir():
            raise InputError(f"output folder {folder}: {parent} is not a folder; give another folder or move that file")
        # Permission bits do not tell for root or on special file systems; an unnamed file does.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"output folder {folder} cannot be written ({reason}); give another folder") from error


def _numbers(values: Any, where: str, fix: str) -> NDArray[Any]:
    """Return an ``obsm`` element (array or data frame) as an array of real numbers."""
    if sparse.issparse(values):
        raise InputError(f"{where} is a sparse matrix, expected a dense array; convert it with .toarray()")
    array = np.asarray(values)
    if array.dtype.kind in "OUST":  # text, a data frame with columns of several types, or with missing values
        with suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{where} has values of type {array.dtype}, expected numbers; {fix}")
    return array


def _finite_rows(adata: Annotated, values: NDArray[Any], where: str) -> None:
    """Check that all values are finite, and name the first observation where one is not."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        keep = f"adata[np.isfinite(adata.{where}).all(axis=1)].copy()"
        fix = in_words(f"drop them: {keep}", "remove those spots from the file")
        fix = "give numbers for the spots" if bad.all() else fix
        raise InputError(
            f"{where} has NaN or infinite values for {bad.sum()} of {len(bad)} spots "
            f"(first {str(adata.obs_names[bad][0])!r}), expected finite numbers; {fix}"
        )


def is_dask(matrix: Any) -> bool:
    """Whether a matrix is a dask array, as that of a large file is."""
    return type(matrix).__module__.partition(".")[0] == "dask"


def _check_counts(parts: Callable[[], Iterable[NDArray[Any]]], where: str) -> None:
    """Check stored values, given in parts: finite, non-negative, of a size that is counted, integral, not all zero."""

    def fractional(part: NDArray[Any]) -> NDArray[np.bool_]:
        tolerance = np.clip(_RELATIVE_TOLERANCE * part, _ROUNDING, _LARGEST_TOLERANCE)
        return np.asarray(np.abs(part - np.rint(part)) > tolerance)

    checks: dict[str, Callable[[NDArray[Any]], Any]] = {
        "NaN or infinite": lambda part: ~np.isfinite(part),
        "negative": lambda part: part < -_ROUNDING if part.dtype.kind == "f" else part < 0,
        "impossibly large": lambda part: np.isfinite(part) & (part > _LARGEST_COUNT),
        "non-integer": lambda part: np.isfinite(part) & fractional(part) if part.dtype.kind == "f" else part < part,
    }
    n_wrong = dict.fromkeys(checks, 0)
    first: dict[str, float] = {}
    anything = False
    with np.errstate(invalid="ignore"):
        for part in parts():
            if part.size and part.min() >= 0 and part.max() <= _LARGEST_COUNT and (np.rint(part) == part).all():
                anything = anything or bool(part.any())
                continue  # as nearly all are: one look, where what is wrong takes twenty
            anything = anything or bool(np.rint(part).any())
            for what, check in checks.items():
                wrong = check(part)
                if wrong.any():
                    n_wrong[what] += int(wrong.sum())
                    first.setdefault(what, part[wrong][0])
    for what, number in n_wrong.items():
        if number:
            raise InputError(f"{where} has {number} {what} values (first {first[what]:g}), expected raw counts")
    if not anything:
        raise InputError(f"{where} is zero everywhere, expected raw counts")

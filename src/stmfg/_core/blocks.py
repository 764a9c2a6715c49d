"""Large data in parts: subsamples to fit on, and raw counts in blocks of rows, never copied as a whole."""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from scipy import sparse

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Rows = NDArray[np.int64] | slice
    Block = tuple[NDArray[np.int64], sparse.csr_matrix]

Result = TypeVar("Result")

BLOCK = 20_000
"""Rows added up at a time: sums of another number would round otherwise."""
READ = 5_000
"""Rows read at a time."""
FEW = 1_000
"""Rows computed with at a time, where each stands for itself: what is made of them stays in the cache of a core."""
FIT_AT_MOST = 20_000
"""Observations that anything is fitted on; the fit is then applied to all."""


class OnDisk:
    """A sparse matrix on disk, (observations, genes), a dask array with CSR blocks of rows: indexing reads rows.

    After :meth:`keep` it is in memory in less than half of the space that scipy needs.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._stored = getattr(array, "stored", None)  # the group of the file, if it is all of that
        self._starts: Any = None if self._stored is None else self._stored["indptr"][:]
        self.shape: tuple[int, int] = array.shape
        self._kept: list[_Packed] = []

    def __getitem__(self, rows: Rows) -> sparse.csr_matrix:
        """Read rows, (m, genes), float32."""
        if isinstance(rows, slice):
            return self._read(rows)
        order = np.argsort(rows, kind="stable")  # files are read from front to back
        return self._read(rows[order])[np.argsort(order)]

    def _read(self, rows: Rows) -> sparse.csr_matrix:
        if self._kept:
            return self._unpack(rows)
        if self._stored is not None and isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            at = self._starts[start : stop + 1]
            parts = [self._stored[name][at[0] : at[-1]] for name in ("data", "indices")]
            block = sparse.csr_matrix((*parts, at - at[0]), shape=(stop - start, self.shape[1]))
        else:
            block = sparse.csr_matrix(self._array[rows].compute(scheduler="synchronous"))
        block = check_indices(block, "a block of counts")
        if not block.has_canonical_format:
            block.sum_duplicates()
        return block.astype(np.float32, copy=False)

    def keep(self, at_most: float) -> Iterator[sparse.csr_matrix]:
        """Yield all rows, a block at a time, and keep them in memory if they take no more bytes than that."""
        kept: list[_Packed] = []
        for _, block in row_blocks(self):
            yield block
            kept.append(_Packed.of(block))
            at_most -= sum(part.nbytes for part in kept[-1])
            if at_most < 0:
                kept = []
        if at_most >= 0:
            self._kept, self._array, self._stored = kept, None, None

    def _unpack(self, rows: Rows) -> sparse.csr_matrix:
        step, parts = len(self._kept[0].indptr) - 1, list[sparse.csr_matrix]()
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            firsts = range(start - start % step, stop, step)
            inside = ((at // step, slice(max(start - at, 0), stop - at)) for at in firsts)
            parts = [self._kept[i].take(some, self.shape[1]) for i, some in inside]
        else:
            ends = np.searchsorted(rows, np.arange(len(self._kept) + 1) * step)
            for i, packed in enumerate(self._kept):
                if ends[i] < ends[i + 1]:
                    parts.append(packed.take(rows[ends[i] : ends[i + 1]] - i * step, self.shape[1]))
        if not parts:
            return sparse.csr_matrix((0, self.shape[1]), dtype=np.float32)
        return parts[0] if len(parts) == 1 else sparse.vstack(parts, format="csr")


class _Packed(NamedTuple):
    """Rows of counts, (m, genes), in the smallest types that hold them."""

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]

    @classmethod
    def of(cls, block: sparse.csr_matrix) -> _Packed:
        largest = block.data.max(initial=0)
        small = largest <= np.iinfo(np.uint16).max  # not where it is no number
        values = np.rint(block.data).astype(np.min_scalar_type(int(largest))) if small else block.data
        return cls(values, block.indices.astype(np.min_scalar_type(block.shape[1])), block.indptr)

    def take(self, rows: Rows, n_genes: int) -> sparse.csr_matrix:
        """Return some of the rows, (m, genes), float32."""
        if isinstance(rows, slice):
            at = self.indptr[rows.start : rows.stop + 1]
            entries: Rows = slice(at[0], at[-1])
            at = at - at[0]
        else:
            at = np.concatenate([[0], np.cumsum(np.diff(self.indptr)[rows])]).astype(self.indptr.dtype)
            entries = np.arange(at[-1]) + np.repeat(self.indptr[rows] - at[:-1], np.diff(at))
        block = sparse.csr_matrix((len(at) - 1, n_genes), dtype=np.float32)
        block.data, block.indptr = self.data[entries].astype(np.float32), at
        block.indices = self.indices[entries].astype(np.int32)
        return block


class Counts:
    """The rows of a count matrix (observations, genes) in another order (n,), and some of its columns."""

    def __init__(
        self,
        matrix: sparse.csr_matrix | OnDisk,
        order: NDArray[np.int64] | None = None,
        genes: NDArray[np.int64] | None = None,
    ) -> None:
        self._matrix = matrix
        self._order = np.arange(matrix.shape[0]) if order is None else order
        self._genes = genes
        self.shape = (len(self._order), matrix.shape[1] if genes is None else len(genes))

    def only(self, genes: NDArray[np.int64]) -> Counts:
        """Return the same rows with some of the columns alone, in this order."""
        return Counts(self._matrix, self._order, genes if self._genes is None else self._genes[genes])

    def subset(self, positions: NDArray[np.int64]) -> Counts:
        """Return some rows, given their positions in the order, none of them read yet."""
        return Counts(self._matrix, self._order[positions])

    def rows(self, positions: Rows) -> sparse.csr_matrix:
        """Return some rows, given their positions in the order."""
        return self._chosen(self._matrix[self._order[positions]])

    def _chosen(self, block: sparse.csr_matrix) -> sparse.csr_matrix:
        return block if self._genes is None else block[:, self._genes]

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, as they come in the matrix, with their positions in the order."""
        return (self.finish(*part) for part in self.parts())

    def finish(self, positions: NDArray[np.int64], block: sparse.csr_matrix) -> Block:
        """Return the block that a part becomes: what takes time, and can be done by several threads at once."""
        return positions, self._chosen(block)

    def parts(self) -> Iterator[Block]:
        """Yield rows of the matrix to be finished, with their positions in the order."""
        position = np.full(self._matrix.shape[0], -1)
        position[self._order] = np.arange(len(self._order))
        for rows, block in row_blocks(self._matrix):
            used = np.flatnonzero(position[rows] >= 0)
            yield position[rows][used], block if len(used) == block.shape[0] else block[used]


def row_blocks(
    matrix: sparse.csr_matrix | OnDisk, at_a_time: int | None = None
) -> Iterator[tuple[slice, sparse.csr_matrix]]:
    """Yield the rows of a matrix, a block at a time; of one in memory they are views, not to be written to."""
    step = at_a_time or READ
    for start in range(0, matrix.shape[0], step):
        rows = slice(start, min(start + step, matrix.shape[0]))
        yield rows, matrix[rows] if isinstance(matrix, OnDisk) else view_rows(matrix, rows.start, rows.stop)


def view_rows(matrix: sparse.csr_matrix, start: int, stop: int) -> sparse.csr_matrix:
    """Return consecutive rows that share the memory of a matrix: a slice, and what scipy makes of parts, are copies."""
    rows = sparse.csr_matrix((stop - start, matrix.shape[1]), dtype=matrix.dtype)
    at = matrix.indptr[start : stop + 1]
    rows.data, rows.indices, rows.indptr = matrix.data[at[0] : at[-1]], matrix.indices[at[0] : at[-1]], at - at[0]
    return rows


_known: ContextVar[dict[Any, Any] | None] = ContextVar("known", default=None)


@contextmanager
def counts_read_once() -> Iterator[None]:
    """Inside, the counts of an AnnData are checked once and their rows summed once; they must not change meanwhile."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def once_per_matrix(function: Callable[..., Result]) -> Callable[..., Result]:
    """Remember what a function makes of a matrix, inside :func:`counts_read_once`; other arguments only word errors."""

    @wraps(function)
    def remembered(matrix: Any, *args: Any) -> Result:
        known, key = _known.get(), (function.__name__, id(matrix))
        if known is None:
            return function(matrix, *args)
        if key not in known:
            known[key] = matrix, function(matrix, *args)  # the matrix too, for its id stays taken
        return known[key][1]  # type: ignore[no-any-return]

    return remembered


@once_per_matrix
def row_sums(matrix: sparse.csr_matrix | OnDisk) -> NDArray[np.float64]:
    """Return the number of entries, the sum and the sum of squares of each row, (3, n)."""
    sums = np.empty((3, matrix.shape[0]))
    for rows, block in row_blocks(matrix):
        for few, part in row_blocks(block, FEW):
            values, of_part = part.astype(np.float64), sums[:, rows][:, few]
            of_part[0] = np.diff(part.indptr)
            of_part[1] = np.asarray(values.sum(axis=1)).ravel()
            values.data **= 2
            of_part[2] = np.asarray(values.sum(axis=1)).ravel()
    return sums


def memory() -> float:
    """Return the memory this process may use, in bytes: the machine's, or less where the process is limited."""
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float(machine if limit == resource.RLIM_INFINITY else min(machine, limit))


def subsample(n: int, at_most: int, random_state: int) -> NDArray[np.int64]:
    """Draw at most so many out of n, sorted; all of them where there are no more."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng(random_state).choice(n, at_most, replace=False))


def check_indices(matrix: Any, where: str) -> Any:
    """Return a sparse matrix whose indices are all in range, which compiled code takes for granted."""
    try:
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
    except ValueError as error:
        raise InputError(f"{where} is damaged ({error}); copy the file again") from error
    return matrix

"""Which genes a model reads, in what order, and where they are among those of a new slice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stmfg._core.blocks import Counts
    from stmfg.model.features import FeatureMap

AT_LEAST = 0.5
"""Share of the model's genes without which a slice is refused."""


def columns(known: list[str], given: Sequence[object]) -> NDArray[np.int64]:
    """Where each known gene is among those given, (n_known,), -1 where it is not; the first where a name repeats."""
    names = [str(name) for name in given]
    if names == known:  # also with names that repeat
        return np.arange(len(known))
    place: dict[str, int] = {}
    for i, name in enumerate(names):
        place.setdefault(name, i)
    return np.array([place.get(name, -1) for name in known], dtype=np.int64)


def share(given: Sequence[object], known: list[str], feature_map: FeatureMap) -> float:
    """Share of the genes the map uses that are among those given."""
    return float((columns(known, given)[feature_map.genes] >= 0).mean())


def matched(
    counts: Counts, given: Sequence[object], known: list[str], feature_map: FeatureMap
) -> tuple[Counts, FeatureMap]:
    """Return the counts (n, genes) of the genes that the model knows, and the map for them.

    The others are left out so that the depth of a spot means the same as where the map was fitted.

    Raises
    ------
    InputError
        If fewer than half of the genes the map uses are there, or any is missing that the network reads itself.
    """
    place = columns(known, given)
    used = place[feature_map.genes]
    n_shared = int((used >= 0).sum())
    needed = AT_LEAST * len(used) if feature_map.loadings.size else len(used)
    if n_shared < needed:
        example = f"the model knows {', '.join(known[:3])}, the data {', '.join(map(str, given[:3]))}"
        raise InputError(
            f"the data have {n_shared} of the {len(used)} genes the model uses, {int(np.ceil(needed))} are needed; "
            f"give data of the same species, with the same kind of gene names ({example})"
        )
    if len(place) == len(given) and (place == np.arange(len(place))).all():
        return counts, feature_map
    kept = np.unique(place[place >= 0])
    return counts.only(kept), feature_map.restricted(np.where(place >= 0, np.searchsorted(kept, place), -1))


def select_genes(counts: sparse.csr_matrix, *, min_spot_share: float, n_top_genes: int) -> NDArray[np.int64]:
    """Columns seen in enough rows and, on request, the most variable of them (seurat_v3, Stuart et al. 2019).

    Small panels are targeted: up to 600 genes only those with no count at all are left out. Where too few
    genes remain for the variance trend to be fitted, or fewer than asked, all of them are kept.
    """
    n, n_genes = counts.shape
    seen = np.bincount(counts.indices[counts.data > 0], minlength=n_genes)
    least = max(3, int(np.ceil(min_spot_share * n))) if n_genes > 600 else 1
    kept = np.flatnonzero(seen >= min(least, max(1, n // 4)))
    if not len(kept):
        kept = np.flatnonzero(seen)
    if n_top_genes and len(kept) > n_top_genes:
        kept = kept[most_variable(counts[:, kept], n_top_genes)]
    return kept.astype(np.int64)


def sort_genes(counts: sparse.csr_matrix, genes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring genes into an order that depends on their values alone, as the spots are in one.

    A first weight of the network belongs to a place in this order: permuted genes then change nothing.
    """
    total = sum_genes(counts, counts.data)
    moment = sum_genes(counts, counts.data, np.arange(1.0, counts.shape[0] + 1))
    return genes[np.lexsort([moment[genes], total[genes]])]


def take_genes(x: sparse.csr_matrix, genes: NDArray[np.int64]) -> sparse.csr_matrix:
    """Return columns in the given order, each row sorted: sums then round alike, whatever the order was before."""
    return x[:, genes].tocsc().tocsr()  # twice transposed is sorted, in linear time


def most_variable(counts: sparse.csr_matrix, n_top: int) -> NDArray[np.int64]:
    """Return the sorted columns with the largest variance after the mean-variance trend (seurat_v3).

    Computed as scanpy does, but without it: its parallel kernels change the number of threads torch uses.
    """
    from skmisc.loess import loess

    n, n_genes = counts.shape
    data = counts.data.astype(np.float64)
    total = partial(sum_genes, counts)
    mean = total(data) / n
    variance = np.maximum(total(data**2) - n * mean**2, 0) / (n - 1)
    varying = variance > 1e-12 * mean**2
    if n_genes <= n_top or varying.sum() < 10:  # loess on next to no genes fails, on none ends the interpreter
        return np.arange(n_genes)
    expected = np.ones(n_genes)
    try:
        trend = loess(np.log10(mean[varying]), np.log10(variance[varying]), span=0.3, degree=2)
        trend.fit()
        expected[varying] = np.sqrt(10**trend.outputs.fitted_values)
    except ValueError:  # too few distinct means for a trend, as in shallow data: the Poisson one
        expected[varying] = np.sqrt(mean[varying])
    clipped = np.minimum(data, (mean + np.sqrt(n) * expected)[counts.indices])
    excess = (n * mean**2 + total(clipped**2) - 2 * mean * total(clipped)) / ((n - 1) * expected**2)
    return np.sort(np.argsort(-excess, kind="stable")[:n_top])


def sum_genes(
    x: sparse.csr_matrix, values: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Sum values (entries,) that stand where those of x (n, genes) do, row by row, (genes,); rows have weights (n,)."""
    weights = np.ones(x.shape[0]) if weights is None else weights
    return np.asarray(sparse.csr_matrix((values, x.indices, x.indptr), shape=x.shape).T @ weights)

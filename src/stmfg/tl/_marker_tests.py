"""Marker genes of domains: one domain against all other spots, on sparse counts, in one pass over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, stats

from stmfg._core.blocks import OnDisk, row_blocks, row_sums
from stmfg.errors import InputError

_PSEUDOCOUNT = 0.1  # counts per spot added to both sides of a fold change: genes seen hardly anywhere stay near 0
_TINY = 1e-12

_COLUMNS = ["domain", "gene", "log2_fold_change", "score", "share_in", "share_out", "p_adjusted"]


@dataclass(frozen=True)
class Moments:
    """What is known of every gene in every domain after one pass over the counts."""

    domains: list[str]
    sizes: NDArray[np.float64]  # spots in each of the K domains, (K,)
    log_sum: NDArray[np.float64]  # sums of log1p of the normalised counts, (K, genes)
    log_square_sum: NDArray[np.float64]  # and of their squares
    count_sum: NDArray[np.float64]  # sums of the normalised counts, (K, genes)
    seen: NDArray[np.float64]  # spots in which the gene is seen at all, (K, genes)

    @property
    def log_mean(self) -> NDArray[np.float64]:
        """Mean ``log1p`` of the normalised counts, (K, genes)."""
        return self.log_sum / self.sizes[:, None]

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the spots of a domain in which the gene is seen, (K, genes)."""
        return self.seen / self.sizes[:, None]


def moments(counts: Any, domains: Any) -> Moments:
    """Add up normalised counts (n, genes) per domain, each spot scaled to the median depth as scanpy does.

    The order of the domains is that of a Categorical, else of their names.

    Raises
    ------
    InputError
        If the lengths differ or a label is missing.
    """
    labels = pd.Categorical(domains).remove_unused_categories()
    n, genes = counts.shape
    if len(labels) != n:
        raise InputError(f"{len(labels)} labels for {n} spots; give one label for every row of the counts")
    codes = np.asarray(labels.codes)
    if n == 0 or codes.min() < 0:
        raise InputError("markers need a label for every spot, and at least one spot; leave the others out first")
    k = len(labels.categories)
    matrix = counts if isinstance(counts, OnDisk) else sparse.csr_matrix(counts)
    _, depth, _ = row_sums(matrix)
    target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
    sums = np.zeros((4, k, genes))
    for rows, part in row_blocks(matrix):
        block = sparse.csr_array(part, dtype=np.float64, copy=True)
        block.eliminate_zeros()
        size = block.shape[0]
        member = sparse.csr_array((np.ones(size), (codes[rows], np.arange(size))), shape=(k, size))
        normalised = block.data * np.repeat(scale[rows], np.diff(block.indptr))
        logs = np.log1p(normalised)
        for i, data in enumerate((logs, logs**2, normalised, np.ones_like(logs))):
            block.data = data
            sums[i] += (member @ block).toarray()
    sizes = np.bincount(codes, minlength=k).astype(np.float64)
    return Moments([str(c) for c in labels.categories], sizes, *sums)


def rank(moments: Moments, gene_names: Sequence[str] | NDArray[Any], n_genes: int = 5) -> pd.DataFrame:
    """Rank genes by Welch's t of one domain against the rest; a domain of one spot borrows the variance of the rest.

    Only genes higher inside than outside are listed, at most ``n_genes`` of each domain. The table is that of
    :func:`marker_genes`; its index is the position of the gene in ``gene_names``.
    """
    names = np.asarray(gene_names, dtype=object)
    if len(names) != moments.log_sum.shape[1]:
        raise InputError(f"{len(names)} gene names for {moments.log_sum.shape[1]} genes; give one for every column")
    total = moments.sizes.sum()
    expressed = np.flatnonzero(moments.seen.sum(axis=0) > 0)
    if len(moments.domains) < 2 or len(expressed) == 0:
        return pd.DataFrame({c: pd.Series(dtype=object if c in _COLUMNS[:2] else float) for c in _COLUMNS})

    def inside_and_outside(sums: NDArray[np.float64], i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        own = sums[i, expressed]
        rest = sums[:, expressed].sum(axis=0) - own
        return own / moments.sizes[i], rest / (total - moments.sizes[i])

    tables = []
    for i, domain in enumerate(moments.domains):
        n_in, n_out = moments.sizes[i], total - moments.sizes[i]
        mean_in, mean_out = inside_and_outside(moments.log_sum, i)
        square_in, square_out = inside_and_outside(moments.log_square_sum, i)
        t, p = _welch(mean_in, square_in, n_in, mean_out, square_out, n_out)
        count_in, count_out = inside_and_outside(moments.count_sum, i)
        share_in, share_out = inside_and_outside(moments.seen, i)
        adjusted = stats.false_discovery_control(p)
        best = np.argsort(-t, kind="stable")[:n_genes]
        best = best[t[best] > 0]
        table = pd.DataFrame(
            {
                "domain": domain,
                "gene": names[expressed[best]].astype(str).astype(object),
                "log2_fold_change": np.log2((count_in[best] + _PSEUDOCOUNT) / (count_out[best] + _PSEUDOCOUNT)),
                "score": t[best],
                "share_in": share_in[best],
                "share_out": share_out[best],
                "p_adjusted": adjusted[best],
            },
            index=expressed[best],
        )
        tables.append(table)
    return pd.concat(tables)


def marker_genes(counts: Any, domains: Any, gene_names: Sequence[str] | NDArray[Any], n_genes: int = 5) -> pd.DataFrame:
    """Find the genes that tell each domain from the rest of the tissue, in raw counts (n, genes), never made dense.

    Returns
    -------
    One row for each domain and gene, best first: ``domain``, ``gene``, ``log2_fold_change`` of the normalised counts,
    ``score`` (t), ``share_in`` and ``share_out`` (of spots in which the gene is seen), ``p_adjusted``
    (Benjamini-Hochberg over the genes of a domain). Without a second domain there are no rows.
    """
    return rank(moments(counts, domains), gene_names, n_genes).reset_index(drop=True)


def _welch(
    mean_in: NDArray[np.float64],
    square_in: NDArray[np.float64],
    n_in: float,
    mean_out: NDArray[np.float64],
    square_out: NDArray[np.float64],
    n_out: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return t and two-sided p of Welch's test from means, mean squares and sizes of two groups."""

    def variance(mean: NDArray[np.float64], square: NDArray[np.float64], n: float) -> NDArray[np.float64]:
        # Rounding can leave a difference just below zero.
        return np.maximum(square - mean**2, 0.0) * n / max(n - 1, 1)

    v_in, v_out = variance(mean_in, square_in, n_in), variance(mean_out, square_out, n_out)
    if n_in == 1:
        v_in = v_out
    elif n_out == 1:
        v_out = v_in
    e_in, e_out = v_in / n_in, v_out / n_out
    error = e_in + e_out
    t = (mean_in - mean_out) / np.sqrt(np.maximum(error, _TINY))
    # A borrowed variance has the degrees of freedom of the group that lent it; one spot against one has none.
    if n_in == 1 or n_out == 1:
        freedom = np.full_like(t, max(n_in, n_out) - 1)
    else:
        freedom = error**2 / np.maximum(e_in**2 / (n_in - 1) + e_out**2 / (n_out - 1), _TINY**2)
    p = np.where(freedom > 0, 2 * stats.t.sf(np.abs(t), np.maximum(freedom, _TINY)), 1.0)
    return t, np.asarray(p)

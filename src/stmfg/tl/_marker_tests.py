"""Marker genes of domains: one domain against each other one and against the rest, in one pass over sparse counts."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse, special

from stmfg._core.blocks import BLOCK, Counts, OnDisk, row_blocks, row_sums
from stmfg._core.false_discoveries import adjust_p
from stmfg.errors import InputError
from stmfg.model.threads import map_in_order

Floats = NDArray[np.float64]

SPECIFIC_FOLD = 1.5
"""A gene specific to a domain is that many times as high there as in any other domain, seen as often as in the next,"""
SPECIFIC_SHARE = 0.1
"""and seen in at least that share of its spots."""
SEEN_SHARE = 0.01
"""Genes that fewer of all spots show are not tested: they tell little, and the others would pay for it."""
LEVEL = 0.05
"""Adjusted p-values below it count."""
_PSEUDOCOUNT = 0.1  # counts per spot added to both sides of a fold change: genes seen hardly anywhere stay near 0
_TINY = 1e-12

_TEXT = ["domain", "gene", "next_domain"]
_COLUMNS = [
    "domain", "gene", "specific", "log2_fold_change", "share_in", "share_out", "score", "p_adjusted",
    "next_domain", "log2_fold_change_next", "share_next", "p_adjusted_next",
]  # fmt: skip


@dataclass(frozen=True)
class Moments:
    """What is known of every gene in every domain after one pass over the counts."""

    domains: list[str]
    sizes: Floats  # spots in each of the K domains, (K,)
    log_sum: Floats  # sums of log1p of the normalised counts, (K, genes)
    log_square_sum: Floats  # and of their squares
    count_sum: Floats  # sums of the normalised counts, (K, genes)
    seen: Floats  # spots in which the gene is seen at all, (K, genes)

    @property
    def log_mean(self) -> Floats:
        """Mean ``log1p`` of the normalised counts, (K, genes)."""
        return self.log_sum / self.sizes[:, None]

    @property
    def share(self) -> Floats:
        """Share of the spots of a domain in which the gene is seen, (K, genes)."""
        return self.seen / self.sizes[:, None]


def moments(counts: Any, domains: pd.Categorical[Any]) -> Moments:
    """Add up normalised counts (n, genes) per domain, each spot scaled to the median depth as scanpy does."""
    labels = domains.remove_unused_categories()
    codes = np.asarray(labels.codes)
    if not len(codes) or codes.min() < 0:
        raise InputError("markers need a label for every spot, and at least one spot; leave the others out first")
    k, genes = len(labels.categories), counts.shape[1]
    if not isinstance(counts, (Counts, OnDisk, sparse.csr_matrix)):
        counts = sparse.csr_matrix(counts)
    if isinstance(counts, Counts) and counts.shape[0] <= BLOCK:
        counts = Counts(counts.rows(slice(None)))  # read twice, dealt once
    depth = _sum_rows(counts)
    target = float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0
    scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
    sums = np.zeros((4, k, genes))

    def add_up(rows: Any, block: sparse.csr_matrix) -> Floats:
        return _add_up(block, codes[rows], scale[rows], k)

    for of_block in _map_blocks(add_up, counts):
        sums += of_block
    sizes = np.bincount(codes, minlength=k).astype(np.float64)
    return Moments([str(c) for c in labels.categories], sizes, *sums)


def _add_up(block: sparse.csr_matrix, codes: NDArray[Any], scale: Floats, k: int) -> Floats:
    """Return the sums of the four moments over the spots of each domain in a block, (4, k, genes)."""
    order = np.argsort(codes, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=k))])
    block = sparse.csr_array(block)[order]
    normalised = block.data * np.repeat(scale[order], np.diff(block.indptr))
    logs = np.log1p(normalised)
    sums = np.zeros((4, k, block.shape[1]))
    # Products, unlike a count with weights, let other threads compute meanwhile.
    for total, values in zip(sums, (logs, logs**2, normalised, (block.data != 0).astype(np.float64)), strict=True):
        for code, (start, stop) in enumerate(itertools.pairwise(ends)):
            at = block.indptr[start : stop + 1]
            entries = slice(at[0], at[-1])
            part = sparse.csr_array(
                (values[entries], block.indices[entries], at - at[0]), shape=(stop - start, block.shape[1])
            )
            total[code] = part.T @ np.ones(stop - start)
    return sums


def _sum_rows(counts: Any) -> Floats:
    """Return the sum of every row, (n,)."""
    if not isinstance(counts, Counts):
        return np.asarray(row_sums(counts)[1])
    depth = np.empty(counts.shape[0])

    def add_up(rows: Any, block: sparse.csr_matrix) -> None:
        depth[rows] = np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()

    deque(_map_blocks(add_up, counts), maxlen=0)
    return depth


def _map_blocks(function: Callable[[Any, sparse.csr_matrix], Any], counts: Any) -> Iterator[Any]:
    """Yield what a function makes of every block of rows, and of where they are, in order."""
    if isinstance(counts, Counts):
        return map_in_order(lambda part: function(*counts.finish(*part)), counts.parts())
    return map_in_order(lambda part: function(*part), row_blocks(counts))


def rank(
    moments: Moments,
    gene_names: Sequence[str] | NDArray[Any],
    n_genes: int | None = 5,
    tested: Moments | None = None,
) -> pd.DataFrame:
    """Rank genes by how much higher they are in one domain than in the rest and in each other domain.

    Effects are those of ``moments``; the tests (Welch's t; a domain of one spot borrows the variance of the other side)
    are made in ``tested``, the other half of the molecules, or where there is none in ``moments`` itself. Only genes
    higher inside than outside are listed, specific ones first, and at most ``n_genes`` of each domain. The table is
    that of :func:`stmfg.tl.markers`; its index is the position of the gene in ``gene_names``.
    """
    names = np.asarray(gene_names, dtype=object)
    tested = tested or moments
    expressed = np.flatnonzero(moments.seen.sum(axis=0) >= max(SEEN_SHARE * moments.sizes.sum(), 1))
    domains = [name for name in moments.domains if name in tested.domains]
    if len(domains) < 2 or len(expressed) == 0:
        return pd.DataFrame({c: pd.Series(dtype=object if c in _TEXT else float) for c in _COLUMNS})
    count_mean = moments.count_sum[:, expressed] / moments.sizes[:, None]
    tables = []
    for i, domain in enumerate(moments.domains):
        others = np.delete(np.arange(len(moments.domains)), i)
        following = others[count_mean[others].argmax(axis=0)]  # where the gene is highest of all other domains
        every = np.arange(len(expressed))
        n_out = moments.sizes[others].sum()
        t, p, t_next, p_next = _test(tested, domain, expressed)
        fold = _fold(count_mean[i], moments.count_sum[others][:, expressed].sum(axis=0) / n_out)
        fold_next = _fold(count_mean[i], count_mean[following, every])
        share_in, share_next = moments.share[i, expressed], moments.share[following, expressed]
        higher = moments.log_mean[i, expressed] > moments.log_sum[others][:, expressed].sum(axis=0) / n_out
        specific = higher & (fold_next >= np.log2(SPECIFIC_FOLD)) & (p_next < LEVEL)
        specific &= share_in >= np.maximum(share_next, SPECIFIC_SHARE)
        score = np.where(specific, t_next, t)
        best = np.lexsort([every, -score, ~specific])
        best = best[higher[best]][:n_genes]
        table = pd.DataFrame(
            {
                "domain": domain,
                "gene": names[expressed[best]].astype(str).astype(object),
                "specific": specific[best],
                "log2_fold_change": fold[best],
                "share_in": share_in[best],
                "share_out": moments.seen[others][:, expressed].sum(axis=0)[best] / n_out,
                "score": t[best],
                "p_adjusted": p[best],
                "next_domain": np.asarray(moments.domains, dtype=object)[following[best]],
                "log2_fold_change_next": fold_next[best],
                "share_next": share_next[best],
                "p_adjusted_next": p_next[best],
            },
            index=expressed[best],
        )
        tables.append(table)
    return pd.concat(tables)


def beyond_chance(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of genes that are higher in their domain beyond chance, and those where nothing was tested."""
    return table[~(table["p_adjusted"] >= LEVEL)]


def summarise(table: pd.DataFrame, domains: Sequence[str]) -> pd.DataFrame:
    """Say of every domain (rows) how many genes of a whole table of :func:`rank` are specific to it, and which.

    Columns: ``n_specific``; ``shares_with``, for a domain without any, the other domain that has most of the genes that
    are ``SPECIFIC_FOLD`` times as high as in the rest of the tissue, or ""; ``genes``, the three best of the specific
    or shared ones.
    """
    rows = []
    for name in domains:
        part = table[table["domain"] == name]
        chosen, partner = part[part["specific"].astype(bool)], ""
        n_specific = len(chosen)
        if not n_specific:
            high = (part["log2_fold_change"] >= np.log2(SPECIFIC_FOLD)) & (part["share_in"] >= SPECIFIC_SHARE)
            chosen = part[high & ~(part["p_adjusted"] >= LEVEL)]  # NaN where nothing was tested
            if len(chosen):
                partner = str(chosen["next_domain"].value_counts(sort=True).index[0])
                chosen = chosen[chosen["next_domain"] == partner]
        rows.append({"n_specific": n_specific, "shares_with": partner, "genes": chosen["gene"].tolist()[:3]})
    return pd.DataFrame(rows, index=pd.Index(domains, name="domain"))


def _fold(inside: Floats, outside: Floats) -> Floats:
    return np.asarray(np.log2((inside + _PSEUDOCOUNT) / (outside + _PSEUDOCOUNT)))


def _test(tested: Moments, domain: str, genes: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats]:
    """Test genes of one domain: t and adjusted p against the rest, and the least t and its p against each other domain.

    That a gene is higher than in every other domain is rejected only where each comparison is: the largest of the
    p-values is one of the intersection-union test (Berger 1982). Both are one-sided, adjusted over genes (Benjamini and
    Hochberg 1995).
    """
    if domain not in tested.domains:  # not found in that half
        nothing = np.zeros(len(genes))
        return nothing, nothing + 1, nothing, nothing + 1
    i = tested.domains.index(domain)
    others = np.delete(np.arange(len(tested.domains)), i)
    sums = np.stack([tested.log_sum[:, genes], tested.log_square_sum[:, genes]])

    def compare_with(group: NDArray[np.int64]) -> tuple[Floats, Floats]:
        n_in, n_out = tested.sizes[i], tested.sizes[group].sum()
        inside, outside = sums[:, i] / n_in, sums[:, group].sum(axis=1) / n_out
        return _welch(inside[0], inside[1], n_in, outside[0], outside[1], n_out)

    t, freedom = compare_with(others)
    each = [compare_with(others[j : j + 1]) for j in range(len(others))]
    compared = np.stack([np.stack(one) for one in each])
    least = compared[:, 0].argmin(axis=0)
    t_next, freedom_next = compared[least, :, np.arange(len(genes))].T
    return t, _adjusted(t, freedom), t_next, _adjusted(t_next, freedom_next)


def _adjusted(t: Floats, freedom: Floats) -> Floats:
    return adjust_p(np.where(freedom > 0, special.stdtr(np.maximum(freedom, _TINY), -t), 1.0))


def _welch(
    mean_in: Floats, square_in: Floats, n_in: float, mean_out: Floats, square_out: Floats, n_out: float
) -> tuple[Floats, Floats]:
    """Return t and degrees of freedom of Welch's test from means, mean squares and sizes of two groups."""

    def variance(mean: Floats, square: Floats, n: float) -> Floats:
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
        return t, np.full_like(t, max(n_in, n_out) - 1)
    return t, error**2 / np.maximum(e_in**2 / (n_in - 1) + e_out**2 / (n_out - 1), _TINY**2)

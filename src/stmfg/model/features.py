"""From counts to the network's input: normalisation, principal components, spatial factors. Arrays only.

Nothing is made dense before the principal components: centring is implicit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import linalg, sparse

from stmfg._core.blocks import BLOCK, FIT_AT_MOST, subsample
from stmfg.errors import InputError
from stmfg.model import offsets as _offsets
from stmfg.model.components import Middle, principal_axes
from stmfg.model.graphs import walk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.blocks import Counts
    from stmfg.config import Config

CLIP = 10.0
"""Scaled expression is clipped here, as scanpy's ``scale(max_value=10)`` does."""


@dataclass(frozen=True)
class FeatureMap:
    """The fitted way from counts, or a given representation, to features; saved with the model.

    ``genes`` (n_kept,) indexes the columns used; ``center`` and ``scale`` (n_kept,) standardise them;
    ``loadings`` (n_kept, n_components) and ``rotation`` (n_components, d) lead to the factors and are
    empty where a step does not apply; :meth:`folded` makes one of the two; ``autocorrelation`` (d,) tells how
    spatial each factor is.
    """

    genes: NDArray[np.int64]
    target_sum: float
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    loadings: NDArray[np.float64]
    rotation: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]

    def folded(self) -> FeatureMap:
        """Return the same map with the rotation taken into the loadings: a few columns to keep, not one a component."""
        if not (self.loadings.size and self.rotation.size):
            return self
        return replace(self, loadings=(self.loadings @ self.rotation).astype(np.float32), rotation=np.zeros((0, 0)))

    def restricted(self, columns: NDArray[np.int64]) -> FeatureMap:
        """Return the map for data with other columns: (n_genes,) says where each is now, -1 where it is missing.

        A missing gene counts as its mean, and so adds nothing.
        """
        there = columns[self.genes] >= 0
        return replace(
            self,
            genes=columns[self.genes][there],
            center=self.center[there],
            scale=self.scale[there],
            loadings=self.loadings[there] if self.loadings.size else self.loadings,
        )

    @property
    def width(self) -> int:
        """Number of features."""
        last = self.rotation if self.rotation.size else self.loadings
        return last.shape[1] if last.size else len(self.genes)


def normalize(counts: sparse.csr_matrix, *, target_sum: float, log1p: bool) -> sparse.csr_matrix:
    """Scale each row to ``target_sum`` counts and take log(1 + x) on request; float32 CSR, rows of zeros stay."""
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    factor = np.repeat(target_sum / np.where(total > 0, total, 1.0), np.diff(counts.indptr))
    values = (counts.data * factor).astype(np.float32)
    if log1p:
        np.log1p(values, out=values)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


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


def by_value(counts: sparse.csr_matrix, genes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bring genes into an order that depends on their values alone, as the spots are in one.

    A first weight of the network belongs to a place in this order: permuted genes then change nothing.
    """
    place = np.repeat(np.arange(1.0, counts.shape[0] + 1), np.diff(counts.indptr))
    total = np.bincount(counts.indices, weights=counts.data, minlength=counts.shape[1])
    moment = np.bincount(counts.indices, weights=counts.data * place, minlength=counts.shape[1])
    return genes[np.lexsort([moment[genes], total[genes]])]


def columns(x: sparse.csr_matrix, genes: NDArray[np.int64]) -> sparse.csr_matrix:
    """Return columns in the given order, each row sorted: sums then round alike, whatever the order was before."""
    return x[:, genes].tocsc().tocsr()  # twice transposed is sorted, in linear time


def most_variable(counts: sparse.csr_matrix, n_top: int) -> NDArray[np.int64]:
    """Return the sorted columns with the largest variance after the mean-variance trend (seurat_v3).

    Computed as scanpy does, but without it: its parallel kernels change the number of threads torch uses.
    """
    from skmisc.loess import loess

    n, n_genes = counts.shape
    data = counts.data.astype(np.float64)

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(counts.indices, weights=values, minlength=n_genes), dtype=np.float64)

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


def standardize(x: sparse.csr_matrix, center: NDArray[np.float64], scale: NDArray[np.float64]) -> sparse.csr_matrix:
    """Divide columns by their standard deviation and clip; still not centred, hence still sparse."""
    limit = (CLIP + center / scale).astype(np.float32)
    values = x.data / scale.astype(np.float32)[x.indices]
    np.minimum(values, limit[x.indices], out=values)
    return sparse.csr_matrix((values, x.indices, x.indptr), shape=x.shape)


def moments(x: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; one where a column does not vary."""
    mean = np.bincount(x.indices, weights=x.data, minlength=x.shape[1]) / x.shape[0]
    square = np.bincount(x.indices, weights=np.square(x.data, dtype=np.float64), minlength=x.shape[1]) / x.shape[0]
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    # A constant column is left with rounding errors of the size of its mean.
    return mean, np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1.0), deviation, 1.0)


def fit(
    counts: Counts | None,
    representation: NDArray[Any] | None,
    operator: sparse.csr_matrix,
    config: Config,
    random_state: int,
    *,
    alike: bool = True,
    libraries: NDArray[np.int64] | None = None,
) -> tuple[FeatureMap, NDArray[np.float32]]:
    """Fit the map from raw counts (n, genes), or a given representation (n, d), and apply it.

    Genes, their moments and the principal axes are found on at most ``FIT_AT_MOST`` spots. Of several slices, the
    variation within slices decides on axes and factors, and their offsets are taken off, see
    :func:`stmfg.model.offsets.align`.

    Parameters
    ----------
    counts, representation
        One of the two.
    operator
        Random-walk operator of the spatial graph, (n, n).
    config
        Hyperparameters.
    random_state
        Seed of the sample of spots and of the iterative solver's starting vector.
    alike
        Whether the columns of a representation share a unit; otherwise each is scaled to unit variance.
    libraries
        Slice of each observation, codes (n,) from 0; ``None`` of a single slice.

    Returns
    -------
    The map and the features, float32 (n, d).
    """
    none = np.zeros((0, 0))
    if counts is not None:
        rows = subsample(counts.shape[0], FIT_AT_MOST, random_state)
        sample = counts.rows(rows)
        genes = select_genes(sample, min_spot_share=config.min_spot_share, n_top_genes=config.n_top_genes)
        genes = by_value(sample, genes)
        totals = np.asarray(sample.sum(axis=1, dtype=np.float64)).ravel()
        target = config.target_sum or float(np.median(totals[totals > 0]))
        x = columns(normalize(sample, target_sum=target, log1p=config.log1p), genes)
        center, scale = moments(x)
        if config.features == "genes":  # Spatial-MGCN scales without centring
            feature_map = FeatureMap(genes, target, np.zeros_like(center), scale, none, none, np.zeros(0))
            return feature_map, transform(feature_map, counts, None, log1p=config.log1p)
        middle = Middle(center)
        if libraries is not None:
            middle = Middle(_offsets.slice_means(x, libraries[rows]), libraries[rows])
        loadings = principal_axes(standardize(x, center, scale), middle / scale, config.n_components, random_state)
        scores = _scores(counts, genes, target, center, scale, loadings, log1p=config.log1p)
    elif representation is not None:
        genes = np.arange(representation.shape[1])
        target, loadings = 0.0, none
        center, scale = representation.mean(axis=0, dtype=np.float64), np.ones(len(genes))
        if not alike:
            deviation = representation.std(axis=0, dtype=np.float64)
            scale = np.where(deviation > 1e-6 * np.maximum(np.abs(center), 1.0), deviation, 1.0)
        if config.features == "genes":  # taken as it is
            scale *= max(float(representation.std()), 1e-12) if alike else 1.0
            features = ((representation - center) / scale).astype(np.float32)
            return FeatureMap(genes, target, center, scale, none, none, np.zeros(0)), features
        scores = _compress(_offsets.centred((representation - center) / scale, libraries)).astype(np.float32)
    else:
        raise InputError("neither counts nor a representation were given")
    # Between slices, the batch would pass for the most spatial factor of all.
    within = _offsets.centred(scores, libraries)
    rotation, autocorrelation = spatial_factors(within, operator, config, least=4 if alike else 1)
    feature_map = FeatureMap(genes, target, center, scale, loadings, rotation, autocorrelation)
    return feature_map, _offsets.align((scores @ rotation).astype(np.float32), operator, libraries)


def transform(
    feature_map: FeatureMap,
    counts: Counts | None,
    representation: NDArray[Any] | None,
    *,
    log1p: bool,
    operator: sparse.csr_matrix | None = None,
    libraries: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Apply a fitted map to counts (n, genes) or a representation (n, d); float32 (n, features).

    Of several slices, which need ``operator``, offsets are taken off: those of the observations at hand.
    """
    f = feature_map
    if representation is not None:
        if not f.rotation.size:
            return np.asarray((representation - f.center) / f.scale, dtype=np.float32)
        compressed = _compress(_offsets.centred((representation - f.center) / f.scale, libraries)).astype(np.float32)
        return _offsets.align(np.asarray(compressed @ f.rotation, dtype=np.float32), operator, libraries)
    if counts is None:
        raise InputError("neither counts nor a representation were given")
    if not f.loadings.size:
        features = np.empty((counts.shape[0], len(f.genes)), dtype=np.float32)
        for rows, block in counts.blocks():
            x = normalize(block, target_sum=f.target_sum, log1p=log1p)[:, f.genes].toarray()
            features[rows] = np.minimum(x / f.scale, CLIP)
        return features
    scores = _scores(counts, f.genes, f.target_sum, f.center, f.scale, f.loadings, log1p=log1p)
    features = np.asarray(scores @ f.rotation, dtype=np.float32) if f.rotation.size else scores
    return _offsets.align(features, operator, libraries)


def _scores(
    counts: Counts,
    genes: NDArray[np.int64],
    target_sum: float,
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    loadings: NDArray[np.float64],
    *,
    log1p: bool,
) -> NDArray[np.float32]:
    """Project standardised expression on the loadings; float32 (n, components)."""
    scores = np.empty((counts.shape[0], loadings.shape[1]), dtype=np.float32)
    axes = loadings.astype(np.float32)
    shift = (center / scale) @ loadings
    for rows, block in counts.blocks():
        x = columns(normalize(block, target_sum=target_sum, log1p=log1p), genes)
        scores[rows] = standardize(x, center, scale) @ axes - shift
    return scores


def _compress(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Divide rows by the square root of their norm, in units of the median norm.

    Embeddings of untransformed counts have rows whose length follows depth, and single spots that carry a
    component alone; the square root tames both and hardly touches an embedding with even rows.
    """
    norm = np.linalg.norm(scores, axis=1, keepdims=True)
    middle = float(np.median(norm)) or 1.0
    return np.asarray(scores / np.sqrt(np.maximum(norm, 1e-3 * middle) / middle), dtype=np.float64)


def spatial_factors(
    scores: NDArray[Any], operator: sparse.csr_matrix, config: Config, *, least: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Rotate scores into the directions that agree most with their surroundings.

    Maximum autocorrelation factors (Switzer and Green 1984): the directions u that maximise
    :math:`u^T X^T W X u \,/\, u^T X^T X u`, W the random walk of ``config.factor_steps`` steps. Unlike
    principal components they are ordered by how spatial they are, not by variance, and have unit
    variance each, so that neither cell types nor depth outweigh a weak region signal.

    Parameters
    ----------
    scores
        Centred scores, (n, k).
    operator
        Random-walk operator, (n, n).
    config
        ``factor_steps``, ``min_autocorrelation``, ``max_factors``.
    least
        Factors kept in any case.

    Returns
    -------
    Rotation (k, d) and the autocorrelation of each factor (d,), decreasing.

    Raises
    ------
    InputError
        If the scores do not vary.
    """
    n, k = scores.shape
    total = np.zeros((k, k))  # in float32 the rounding of a strong component would drown a weak one
    for start in range(0, n, BLOCK):
        block = scores[start : start + BLOCK].astype(np.float64)
        total += block.T @ block / n
    shared = np.asarray(scores.T @ walk(operator, scores, config.factor_steps), dtype=np.float64) / n
    if np.trace(total) < 1e-10 * k:  # rounding errors: what differed was depth alone
        raise InputError("the spots do not differ once scaled to the same depth; give data with several genes")
    # Directions with next to no variance would win by chance.
    ridge = 1e-6 * np.trace(total) / k * np.eye(k)
    values, vectors = linalg.eigh((shared + shared.T) / 2, total + ridge)
    order = np.argsort(-values)[: config.max_factors]
    kept = order[: max(min(least, k), int((values[order] > config.min_autocorrelation).sum()))]
    rotation = vectors[:, kept]
    # A sign convention, so that a permuted input gives the same factors.
    strongest = np.abs(rotation).argmax(axis=0)
    return rotation * np.sign(rotation[strongest, np.arange(len(kept))]), values[kept]

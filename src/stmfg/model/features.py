"""From counts to the network's input: normalisation, principal components, spatial factors. Arrays only.

Nothing is made dense before the principal components: centring is implicit. Spots that are mixtures of cells are
described by components, single cells by spatial factors. A further view, such as features of the tissue image or
protein, has spatial factors of its own; the network reads those that show separate groups of spots.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from stmfg._core.blocks import BLOCK, FEW, FIT_AT_MOST, Counts, row_blocks, subsample
from stmfg.errors import InputError
from stmfg.model import offsets as _offsets
from stmfg.model.components import Middle, principal_axes
from stmfg.model.genes import select_genes, sort_genes, sum_genes, take_genes
from stmfg.model.graphs import walk, walk_operator
from stmfg.model.kind import describe_spots, holds_mixtures, measure_moran, measure_spread
from stmfg.model.modes import find_joining_factors
from stmfg.model.threads import map_in_order

if TYPE_CHECKING:
    from stmfg._core.tissue import Tissue
    from stmfg.config import Config

Features = NDArray[np.float32]

CLIP = 10.0
"""Scaled expression is clipped here, as scanpy's ``scale(max_value=10)`` does."""
N_FEATURES = 15
"""Components that are the features of spots."""
N_LEADING = 30
"""Components that are kept for averages that vote beside the network."""
ROWS_PER_COMPONENT = 15
"""Observations needed for each component."""


@dataclass(frozen=True)
class FeatureMap:
    """The fitted way from counts, or a given representation, to factors or components; saved with the model.

    ``genes`` (n_kept,) indexes the columns used; ``center`` and ``scale`` (n_kept,) standardise them; ``loadings``
    (n_kept, d) lead from counts to the factors, ``rotation`` (n_kept, d) from a representation, and the other is empty;
    of mixtures they lead to all leading components, which tell slices apart.
    ``autocorrelation`` (d,) tells how spatial each factor is.
    """

    genes: NDArray[np.int64]
    target_sum: float
    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    loadings: NDArray[Any]
    rotation: NDArray[np.float64]
    autocorrelation: NDArray[np.float64]
    joining: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    """Which columns the network reads, (d,): all of the expression, and of a further view those with separate modes."""
    mixtures: bool = False
    """Whether the columns are leading components of spots, plain and with rows of unit length, not factors."""
    spread: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Of mixtures, what the two parts are divided by, (2,); empty to take it from the observations at hand."""
    to_factors: NDArray[Any] = field(default_factory=lambda: np.zeros(0))
    """Of mixtures on several slices, what leads to the factors, (n_kept, n_factors), in which slices are compared."""

    def restricted(self, columns: NDArray[np.int64]) -> FeatureMap:
        """Return the map for data with other columns: (n_genes,) says where each is now, -1 where it is missing.

        A missing gene counts as its mean, and so adds nothing.
        """
        present = columns[self.genes] >= 0
        return replace(
            self,
            genes=columns[self.genes][present],
            center=self.center[present],
            scale=self.scale[present],
            loadings=self.loadings[present] if self.loadings.size else self.loadings,
            to_factors=self.to_factors[present] if self.to_factors.size else self.to_factors,
        )

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.autocorrelation)


class Fitted(NamedTuple):
    """What :func:`fit` makes of observations."""

    maps: dict[str, FeatureMap]
    """Maps by view, ``"feature"``, the expression, first."""
    factors: Features
    """Columns of all maps side by side, (n, d)."""
    components: Features
    """Leading components of the expression, centred within slices, (n, at most ``N_LEADING``)."""


def fit(spots: Tissue, config: Config, random_state: int) -> Fitted:
    """Fit the maps of the expression, or the embedding in its place, and of every further view, and apply them."""
    operator, libraries = walk_operator(spots.surroundings), spots.libraries
    if spots.counts is not None:
        components, scores, first = fit_counts(spots.counts, config, random_state, libraries)
    elif spots.representation is not None:
        components, scores, first = fit_representation(spots.representation, libraries)
    else:
        raise InputError("neither counts nor a representation were given")
    # Between slices, the batch would pass for the most spatial factor of all.
    rotation, autocorrelation = spatial_factors(_offsets.centred(scores, libraries), operator, config)
    leading = components[:, : limit_components(N_LEADING, len(components))]
    # Factors show domains more clearly than components do: they tell what slices share.
    groups = _offsets.find_groups((scores @ rotation).astype(np.float32), libraries)
    components = _offsets.align(leading, libraries, groups)
    mixtures = config.features == "components" or (
        config.features == "auto"
        and holds_mixtures(components, float(autocorrelation[0]), spots.coordinates, libraries)
    )
    if mixtures:
        leading = components[:, : limit_components(N_FEATURES, len(components))]
        to_factors = first.loadings @ rotation if first.loadings.size else rotation
        first = replace(first, spread=measure_spread(leading), to_factors=np.zeros(0) if groups is None else to_factors)
        rotation = np.eye(scores.shape[1], components.shape[1])
        factors = _offsets.align(describe_spots(leading, first.spread), libraries, groups)
        spread = walk(operator, factors, max(config.factor_steps - 1, 0))
        autocorrelation = np.maximum(measure_moran(spread, operator), 0)
    else:
        factors = _offsets.align((scores @ rotation).astype(np.float32), libraries, groups)
    maps = {"feature": _complete(first, rotation, autocorrelation, mixtures=mixtures)}
    columns = [factors]
    for name, x in spots.extra.items():
        _, scores, view = fit_representation(x, libraries, alike=False)
        rotation, autocorrelation = spatial_factors(_offsets.centred(scores, libraries), operator, config, least=1)
        columns.append(_offsets.align((scores @ rotation).astype(np.float32), libraries))
        joining = find_joining_factors(columns[-1], spots.surroundings)
        maps[name] = replace(_complete(view, rotation, autocorrelation), joining=joining)
    return Fitted(maps, np.hstack(columns), components)


def _complete(
    feature_map: FeatureMap, rotation: NDArray[Any], autocorrelation: NDArray[Any], *, mixtures: bool = False
) -> FeatureMap:
    """Return a map of components with a rotation of them: a few columns to keep, not one a component."""
    more: dict[str, Any] = {"autocorrelation": autocorrelation, "mixtures": mixtures}
    more["joining"] = np.ones(len(autocorrelation), dtype=bool)
    if feature_map.loadings.size:
        return replace(feature_map, loadings=(feature_map.loadings @ rotation).astype(np.float32), **more)
    return replace(feature_map, rotation=rotation, **more)


def select_inputs(factors: Features, maps: dict[str, FeatureMap]) -> Features:
    """Return the columns that the network reads, (n, d)."""
    return factors[:, np.concatenate([feature_map.joining for feature_map in maps.values()])]


def transform(spots: Tissue, maps: dict[str, FeatureMap], config: Config, *, align: bool = True) -> Features:
    """Apply fitted maps to other observations, (n, d); ``align`` takes off what slices differ in as wholes."""
    libraries = spots.libraries if align else None
    sources = {"feature": spots.representation if spots.counts is None else spots.counts} | spots.extra
    columns = []
    for name, feature_map in maps.items():
        x = apply_map(feature_map, sources[name], log1p=config.log1p, libraries=libraries, describe=False)
        groups = find_groups(sources[name], feature_map, config, libraries)
        if feature_map.mixtures:
            components = _offsets.align(x, libraries, groups)
            x = describe_spots(components[:, : feature_map.width // 2], feature_map.spread)
        columns.append(_offsets.align(x, libraries, groups))
    return np.hstack(columns)


def find_groups(
    x: Counts | NDArray[Any] | None,
    feature_map: FeatureMap,
    config: Config,
    libraries: NDArray[np.int64] | None,
) -> NDArray[np.float64] | None:
    """Return the groups that slices of spots share, (n, k), in the factors; None where components must tell them."""
    if libraries is None or not feature_map.to_factors.size:
        return None
    way: dict[str, Any] = {"loadings" if feature_map.loadings.size else "rotation": feature_map.to_factors}
    factors = apply_map(replace(feature_map, mixtures=False, **way), x, log1p=config.log1p, libraries=libraries)
    return _offsets.find_groups(factors, libraries)


def fit_counts(
    counts: Counts, config: Config, random_state: int, libraries: NDArray[np.int64] | None = None
) -> tuple[Features, Features, FeatureMap]:
    """Find the principal components of raw counts (n, genes), twice (n, c), and the map that leads to them.

    Genes, their moments and the principal axes are found on at most ``FIT_AT_MOST`` spots. Of several slices, the
    variation within slices decides on the axes.
    """
    rows = subsample(counts.shape[0], FIT_AT_MOST, random_state)
    sample = counts.rows(rows)
    genes = select_genes(sample, min_spot_share=config.min_spot_share, n_top_genes=config.n_top_genes)
    genes = sort_genes(sample, genes)
    totals = np.asarray(sample.sum(axis=1, dtype=np.float64)).ravel()
    target = config.target_sum or float(np.median(totals[totals > 0]))
    x = take_genes(normalize(sample, target_sum=target, log1p=config.log1p), genes)
    center, scale = moments(x)
    middle = Middle(center)
    if libraries is not None:
        middle = Middle(_offsets.slice_means(x, libraries[rows]), libraries[rows])
    # Started alike for every seed: else the axes, and with them the number of domains, would differ in fine digits.
    x = standardize(x, center, scale)
    loadings = principal_axes(x, middle / scale, config.n_components, 0)
    feature_map = FeatureMap(genes, target, center, scale, loadings, np.zeros((0, 0)), np.ones(loadings.shape[1]))
    if len(rows) < counts.shape[0]:
        components = apply_map(feature_map, counts, log1p=config.log1p)
    else:
        components = (x @ loadings.astype(np.float32) - (center / scale) @ loadings).astype(np.float32)
    return components, components, feature_map


def fit_representation(
    x: NDArray[Any], libraries: NDArray[np.int64] | None = None, *, alike: bool = True
) -> tuple[Features, Features, FeatureMap]:
    """Centre a representation (n, d), also with its rows compressed; columns not ``alike`` in unit are scaled each."""
    center, scale = x.mean(axis=0, dtype=np.float64), np.ones(x.shape[1])
    if not alike:
        deviation = x.std(axis=0, dtype=np.float64)
        scale = np.where(deviation > 1e-6 * np.maximum(np.abs(center), 1.0), deviation, 1.0)
    d = x.shape[1]
    feature_map = FeatureMap(np.arange(d), 0.0, center, scale, np.zeros((0, 0)), np.eye(d), np.ones(d))
    components = ((x - center) / scale).astype(np.float32)
    scores = compress(_offsets.centred((x - center) / scale, libraries)).astype(np.float32)
    return components, scores, feature_map


def apply_map(
    f: FeatureMap,
    x: Counts | NDArray[Any] | None,
    *,
    log1p: bool = True,
    libraries: NDArray[np.int64] | None = None,
    describe: bool = True,
) -> Features:
    """Apply a fitted map to counts (n, genes) or a representation (n, d); offsets of slices stay in the columns.

    Without ``describe`` components of spots are returned as they are: directions are those from the mean of a slice.
    """
    if isinstance(x, Counts):
        features = np.empty((x.shape[0], f.loadings.shape[1]), dtype=np.float32)
        loadings = f.loadings.astype(np.float32)
        shift = (f.center / f.scale) @ f.loadings

        def transform_part(part: tuple[NDArray[np.int64], sparse.csr_matrix]) -> None:
            rows, block = x.finish(*part)
            for few, some in row_blocks(block, FEW):
                values = take_genes(normalize(some, target_sum=f.target_sum, log1p=log1p), f.genes)
                features[rows[few]] = standardize(values, f.center, f.scale) @ loadings - shift

        deque(map_in_order(transform_part, x.parts()), maxlen=0)
        return describe_spots(features[:, : f.width // 2], f.spread) if f.mixtures and describe else features
    if x is None:
        raise InputError("neither counts nor a representation were given")
    if f.mixtures:
        components = (((x - f.center) / f.scale) @ f.rotation).astype(np.float32)
        return describe_spots(components[:, : f.width // 2], f.spread) if describe else components
    scores = compress(_offsets.centred((x - f.center) / f.scale, libraries)).astype(np.float32)
    return np.asarray(scores @ f.rotation, dtype=np.float32)


def limit_components(number: int, n: int) -> int:
    """Return how many components to take of n observations: few observations do not tell many from noise."""
    return max(1, min(number, n // ROWS_PER_COMPONENT))


def normalize(counts: sparse.csr_matrix, *, target_sum: float, log1p: bool) -> sparse.csr_matrix:
    """Scale each row to ``target_sum`` counts and take log(1 + x) on request; float32 CSR, rows of zeros stay."""
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    factor = np.repeat(target_sum / np.where(total > 0, total, 1.0), np.diff(counts.indptr))
    values = (counts.data * factor).astype(np.float32)
    if log1p:
        np.log1p(values, out=values)
    return sparse.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape)


def standardize(x: sparse.csr_matrix, center: NDArray[np.float64], scale: NDArray[np.float64]) -> sparse.csr_matrix:
    """Divide columns by their standard deviation and clip; still not centred, hence still sparse."""
    limit = (CLIP + center / scale).astype(np.float32)
    values = x.data / scale.astype(np.float32)[x.indices]
    np.minimum(values, limit[x.indices], out=values)
    return sparse.csr_matrix((values, x.indices, x.indptr), shape=x.shape)


def moments(x: sparse.csr_matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each column; one where a column does not vary."""
    mean = sum_genes(x, x.data) / x.shape[0]
    square = sum_genes(x, np.square(x.data, dtype=np.float64)) / x.shape[0]
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    # A constant column is left with rounding errors of the size of its mean.
    return mean, np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1.0), deviation, 1.0)


def compress(scores: NDArray[Any], middle: float | None = None) -> NDArray[np.float64]:
    """Divide rows by the square root of their norm, in units of the median norm, or of ``middle``.

    Embeddings of untransformed counts have rows whose length follows depth, and single spots that carry a
    component alone; the square root tames both and hardly touches an embedding with even rows.
    """
    norm = np.linalg.norm(scores, axis=1, keepdims=True)
    middle = middle or float(np.median(norm)) or 1.0
    return np.asarray(scores / np.sqrt(np.maximum(norm, 1e-3 * middle) / middle), dtype=np.float64)


def spatial_factors(
    scores: NDArray[Any], operator: sparse.csr_matrix, config: Config, *, least: int = 4
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Rotate centred scores (n, k) into the directions that agree most with their surroundings.

    Maximum autocorrelation factors (Switzer and Green 1984): the directions u that maximise
    :math:`u^T X^T W X u \,/\, u^T X^T X u`, W the random walk of ``config.factor_steps`` steps. Unlike
    principal components they are ordered by how spatial they are, not by variance, and have unit
    variance each, so that neither cell types nor depth outweigh a weak region signal. ``least`` are kept in any case.

    Returns
    -------
    Rotation (k, d) and the autocorrelation of each factor (d,), decreasing.
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

"""Graphs over the observations: neighbours in tissue and neighbours in expression, CSR and symmetric. Arrays only."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core.geometry import spacing
from stmfg._keys import SPATIAL
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.model.threads import map_in_order, multiply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["feature_graph", "spatial_graph", "walk", "walk_operator"]


BLOCK = 20_000
"""Points whose neighbours are looked up at a time."""
ALL_PAIRS_AT_MOST = 10_000
PAIRS = 2**19
"""Pairs of points measured at a time, of up to so many points: loading scikit-learn takes longer than that."""
EXACT_AT_MOST = 200_000
SLACK = 0.5
"""Beyond so many points, neighbours in expression may be farther by that share: 99 % are still the nearest."""
PATCH = 5_000
"""Observations of one patch of tissue, at most: wide enough that few lie at its edge."""
TREE_DIMENSIONS = 20
"""Up to so many dimensions a tree finds the neighbours, beyond it a search through all pairs of not too many points."""


def _neighbors(
    points: NDArray[Any], k: int, *, slack: float = 0.0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Yield points (b,) with the distances and indices (b, k) of their k nearest others, a block at a time.

    With ``slack`` a neighbour may be farther than the true one by that share; in many dimensions by half as much again,
    along the axes that hold nearly all of the variance, where a tree has few branches to look into.
    """
    n = len(points)
    k = min(k, n - 1)
    order, step = np.arange(n), BLOCK
    if points.shape[1] <= TREE_DIMENSIONS or slack:
        leaf = 16
        if points.shape[1] > TREE_DIMENSIONS:
            # Of 250,000 spots 97 % of those found are the nearest, in half of the time of 30 dimensions as they are.
            points, slack, leaf = _turn(points, TREE_DIMENSIONS), 1.5 * slack, 32
        tree = cKDTree(points, leafsize=leaf)
        order = tree.indices  # leaf after leaf: the memory one look-up needs is still at hand from the last
        # `workers=-1` is as fast as threads of ours, but where one cannot start for want of memory, the others go on
        # with arrays that are freed, and the process crashes.
        look_up = partial(tree.query, k=k + 1, eps=slack)
    elif n <= ALL_PAIRS_AT_MOST:
        step = PAIRS // n
        look_up = partial(_search_all, points, k=k + 1)
    else:
        from sklearn.neighbors import NearestNeighbors

        step = BLOCK // 4
        look_up = NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors

    def look_up_others(start: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        rows = order[start : start + step]
        distances, indices = look_up(points[rows])
        if not np.isfinite(distances).all():  # then an index points past the end, and compiled code follows it
            raise InputError("distances between the spots are not finite; give positions and features of ordinary size")
        own = indices == rows[:, None]
        own[~own.any(axis=1), -1] = True  # among many points at one place, a point may not find itself
        return rows, distances[~own].reshape(-1, k), indices[~own].reshape(-1, k)

    yield from map_in_order(look_up_others, range(0, n, step))


def _turn(points: NDArray[Any], n_axes: int) -> NDArray[np.float64]:
    """Return points (n, d) along their widest principal axes, (n, n_axes)."""
    center = points.mean(axis=0, dtype=np.float64)
    parts = [points[start : start + BLOCK] - center for start in range(0, len(points), BLOCK)]
    axes = np.linalg.eigh(sum(part.T @ part for part in parts))[1][:, ::-1][:, :n_axes]
    return np.concatenate([part @ axes for part in parts])


def _search_all(points: NDArray[Any], some: NDArray[Any], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return distances and indices (b, k) of the nearest of all points to some of them, by measuring every pair."""
    points, some = points.astype(np.float64), some.astype(np.float64)
    square = (some**2).sum(axis=1)[:, None] - 2 * some @ points.T + (points**2).sum(axis=1)
    indices = np.argpartition(square, k - 1, axis=1)[:, :k]
    distances = np.take_along_axis(square, indices, axis=1)
    order = np.argsort(distances, axis=1, kind="stable")
    distances = np.sqrt(np.maximum(np.take_along_axis(distances, order, axis=1), 0))
    return distances, np.take_along_axis(indices, order, axis=1)


def _nearest_graph(points: NDArray[Any], k: int, *, ties: bool = False, slack: float = 0.0) -> sparse.csr_matrix:
    """Link each point to its k nearest others; symmetric, ones.

    ``ties`` links those exactly as far as the k-th too. On a grid many points are equally far; taking all of
    them makes the graph independent of the order of the points and of rotations.
    """
    n = len(points)
    k = min(k, n - 1)
    # Up to half as many ties again are looked for, more than the rings of a grid hold.
    wanted = k + k // 2 + 2 if ties else k
    order, degrees, columns = [], [], []
    for rows, distances, indices in _neighbors(points, wanted, slack=slack):
        linked = distances <= distances[:, k - 1 : k] * (1 + 1e-6)
        linked[:, :k] = True
        order.append(rows)
        degrees.append(linked.sum(axis=1))
        columns.append(indices[linked].astype(np.int32))
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(degrees))])
    indices = np.concatenate(columns)
    graph = sparse.csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=(n, n))
    graph = graph[np.argsort(np.concatenate(order))]
    graph = graph.maximum(graph.T.tocsr()).tocsr()
    graph.sort_indices()
    return graph


def spatial_graph(
    coordinates: NDArray[np.float64],
    *,
    n_neighbors: int = Config.spatial_neighbors,
    radius: float = Config.spatial_radius,
    libraries: NDArray[Any] | None = None,
) -> sparse.csr_matrix:
    """Link observations that are close in tissue.

    Parameters
    ----------
    coordinates
        Positions, (n, 2) or (n, 3), any unit.
    n_neighbors
        Nearest neighbours, symmetrised with OR.
    radius
        Radius in spot spacings, used instead when positive.
    libraries
        Slice of each observation, (n,): slices are never linked.

    Returns
    -------
    Symmetric (n, n) matrix of ones, no diagonal.
    """
    if libraries is not None:
        order = np.argsort(libraries, kind="stable")
        parts = np.split(order, np.flatnonzero(libraries[order][1:] != libraries[order][:-1]) + 1)
        blocks = [spatial_graph(coordinates[p], n_neighbors=n_neighbors, radius=radius) for p in parts]
        inverse = np.argsort(order, kind="stable")
        return sparse.block_diag(blocks, format="csr", dtype=np.float32)[inverse][:, inverse]
    n = len(coordinates)
    if n < 2:
        return sparse.csr_matrix((n, n), dtype=np.float32)
    if radius <= 0:
        return _nearest_graph(coordinates, n_neighbors, ties=True)
    pairs = cKDTree(coordinates).query_pairs(radius * spacing(coordinates), output_type="ndarray")
    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=(n, n))


def patches(
    coordinates: NDArray[np.float64],
    at_most: int,
    libraries: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Choose whole patches of tissue, spread over it, that hold about so many observations; sorted indices (m,).

    The tissue is halved along its longer side again and again until a patch holds at most ``PATCH``
    observations; of the patches, in the order of the halving, every m-th is taken. No patch holds parts of two
    slices (codes, (n,)).
    """
    n = len(coordinates)
    if n <= at_most:
        return np.arange(n)
    slices = [np.arange(n)] if libraries is None else [np.flatnonzero(libraries == c) for c in np.unique(libraries)]
    parts = [part for one in slices for part in halve(coordinates, one)]
    step = n / at_most
    chosen = [parts[int(i * step)] for i in range(max(1, int(len(parts) / step)))]
    return np.sort(np.concatenate(chosen))


def fold_patches(coordinates: NDArray[np.float64], size: float, n_folds: int) -> NDArray[np.int64]:
    """Deal small patches of tissue of about so many observations to folds, (n,): neighbours share one."""
    folds = np.zeros(len(coordinates), dtype=np.int64)
    for i, part in enumerate(halve(coordinates, np.arange(len(coordinates)), max(int(size), 1))):
        folds[part] = i % n_folds
    return folds


def halve(
    coordinates: NDArray[np.float64], part: NDArray[np.int64], largest: int | None = None
) -> list[NDArray[np.int64]]:
    """Halve a part of the tissue along its longer side, and halves again, down to ``largest`` (``PATCH``) spots."""

    def halve_once(part: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        places = coordinates[part]
        longer = int(np.ptp(places, axis=0).argmax())
        return np.array_split(part[np.argsort(places[:, longer], kind="stable")], 2)

    parts = [part]
    while len(parts[0]) > (largest or PATCH):
        halves = map_in_order(halve_once, parts) if len(part) > BLOCK else map(halve_once, parts)
        parts = list(itertools.chain.from_iterable(halves))
    return parts


def feature_graph(x: NDArray[Any], *, n_neighbors: int = Config.feature_neighbors) -> sparse.csr_matrix:
    """Link observations (n, d) to those nearest by cosine; symmetric (n, n) matrix of ones, no diagonal."""
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    # On the unit sphere the nearest by Euclidean distance are the nearest by cosine, and trees apply.
    slack = SLACK if len(x) > EXACT_AT_MOST else 0.0
    return _nearest_graph(x / np.maximum(norm, 1e-12), n_neighbors, slack=slack)


def walk_operator(graph: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the matrix that averages over an observation and its neighbours: one step of a lazy random walk.

    Of a symmetric graph without diagonal, (n, n); rows sum to one.
    """
    with_self = graph + sparse.identity(graph.shape[0], dtype=np.float32, format="csr")
    degree = np.asarray(with_self.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags_array(1 / degree) @ with_self, dtype=np.float32)


def walk(operator: sparse.csr_matrix, x: NDArray[Any], steps: int) -> NDArray[Any]:
    """Take ``steps`` steps of a random walk: features (n, d) averaged over ever wider surroundings."""
    for _ in range(steps):
        x = multiply(operator, x)
    return x


def unlinked(coordinates: NDArray[Any], libraries: NDArray[Any] | None, *, stacked: bool) -> NDArray[Any] | None:
    """Return the slices (n,) that are not to be linked in tissue: none of a stack, which its third coordinate joins."""
    if not stacked:
        return libraries
    if coordinates.shape[1] != 3:
        raise InputError(f"stacked slices need z: give obsm[{SPATIAL!r}] a third column, in the unit of the other two")
    return None

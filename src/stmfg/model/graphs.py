"""Graphs over the observations: neighbours in tissue and neighbours in expression, CSR and symmetric. Arrays only."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from stmfg._core.blocks import view_rows
from stmfg._core.geometry import spacing, turn
from stmfg._keys import SPATIAL
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.model.threads import map_in_order, multiply

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["feature_graph", "spatial_graph", "walk", "walk_operator"]


BLOCK = 20_000
"""Points whose neighbours are looked up at a time."""
ALL_PAIRS_AT_MOST = 10_000
PAIRS = 2**19
"""Pairs of points measured at a time, of up to so many points: loading scikit-learn takes longer than that."""
EXACT_AT_MOST = 200_000
DEALT = 60_000
SLACK = 0.75
"""Of more points than the first, neighbours in expression are looked for among so many, dealt alike from all of the
tissue as in training, and may be farther than the nearest by that share: 97 % are still the nearest of those."""
PATCH = 5_000
"""Observations of one patch of tissue, at most: wide enough that few lie at its edge."""
TREE_DIMENSIONS = 20
"""Up to so many dimensions a tree finds the neighbours, beyond it a search through all pairs of not too many points."""

LookUp = Callable[[NDArray[Any]], tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Finds the nearest points of some, (b, d): distances and indices (b, k)."""


def _neighbors(
    points: NDArray[Any], k: int, *, slack: float = 0.0
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Yield points (b,) with the distances and indices (b, k) of their k nearest others, a block at a time.

    With ``slack`` they are the nearest of a part of the points, and may be farther by that share, along the axes that
    hold nearly all of the variance: a tree of many points in many dimensions has too many branches to look into.
    """
    k = min(k, len(points) - 1)
    n_parts = -(-len(points) // DEALT) if slack else 1
    if slack and points.shape[1] > TREE_DIMENSIONS:
        points = turn(points, TREE_DIMENSIONS)[0]

    def list_blocks() -> Iterator[tuple[LookUp, NDArray[Any], int, NDArray[np.int64]]]:
        for part in range(n_parts):
            dealt = points[part::n_parts]
            look_up, order, step = _prepare_search(dealt, k + 1, slack)
            for start in range(0, len(dealt), step):
                yield look_up, dealt, part, order[start : start + step]

    def look_up_others(
        block: tuple[LookUp, NDArray[Any], int, NDArray[np.int64]],
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        look_up, dealt, part, rows = block
        distances, indices = look_up(dealt[rows])
        if not np.isfinite(distances).all():  # then an index points past the end, and compiled code follows it
            raise InputError("distances between the spots are not finite; give positions and features of ordinary size")
        own = indices == rows[:, None]
        own[~own.any(axis=1), -1] = True  # among many points at one place, a point may not find itself
        others = part + n_parts * indices[~own].reshape(-1, k)
        return part + n_parts * rows, distances[~own].reshape(-1, k), others

    yield from map_in_order(look_up_others, list_blocks())


def _prepare_search(points: NDArray[Any], k: int, slack: float) -> tuple[LookUp, NDArray[np.int64], int]:
    """Return what finds the k nearest points, in which order to ask for those of all, and for how many at a time."""
    n = len(points)
    if points.shape[1] <= TREE_DIMENSIONS:
        tree = cKDTree(points)
        # Leaf after leaf: the memory one look-up needs is still at hand from the last. `workers=-1` is as fast as
        # threads of ours, but where one cannot start for want of memory, the others go on with arrays that are freed,
        # and the process crashes.
        return partial(tree.query, k=k, eps=slack), tree.indices, BLOCK
    if n <= ALL_PAIRS_AT_MOST:
        return partial(_search_all, points, k=k), np.arange(n), PAIRS // n
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k).fit(points).kneighbors, np.arange(n), BLOCK // 4


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
    share = 1 / np.asarray(with_self.sum(axis=1)).ravel()
    for start in range(0, len(share), BLOCK):  # in place: of a million spots it is half a gigabyte
        rows = view_rows(with_self, start, min(start + BLOCK, len(share)))
        scaled = sparse.diags_array(share[start : start + BLOCK]) @ rows
        rows.data[:], rows.indices[:] = scaled.data, scaled.indices
    parts = with_self.data, with_self.indices, with_self.indptr
    return sparse.csr_matrix(parts, shape=graph.shape, dtype=np.float32)


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

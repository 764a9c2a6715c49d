"""Numbers that describe a finished result: what figures and the report show. Nothing is drawn here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from stmfg import _keys
from stmfg._core import checks
from stmfg._core.palette import palette, stored_or_palette
from stmfg.errors import InputError, require

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

UNCERTAIN = 0.5
"""Below this confidence a spot is called uncertain."""

_RUN = "run stmfg.tl.domains(adata) first"
_DEPTH_PANEL, _DEPTH_WHOLE, _WHOLE = 20, 500, 2000  # median counts to warn below; genes from which it is no panel
_SMALL_DOMAIN = 0.005  # share of all spots
_SCATTERED = 0.2  # share of a domain's spots without a neighbour in it
_STRAY = 0.01  # share of spots off the main piece that is still no second piece
_SQUARE, _SQUARES = 4, 80  # spots in a square of the tissue, and squares along its longer side at most


def labels(adata: AnnData, key: str = _keys.DOMAIN) -> pd.Categorical[Any]:
    """Return ``obs[key]`` as categories of text, without those that no spot has.

    They keep their order; labels that have none are put in the natural one, "2" before "10".

    Parameters
    ----------
    adata
        Annotated data.
    key
        Column of labels; numbers with a fraction are refused.
    """
    column = require(adata, "obs", key, _RUN if key == _keys.DOMAIN else "name a column of labels")
    if pd.api.types.is_float_dtype(column.dtype):
        raise InputError(f"obs[{key!r}] holds numbers ({column.dtype}), expected labels; use a column of categories")
    if isinstance(column.dtype, pd.CategoricalDtype):
        kept = column.cat.remove_unused_categories().cat
        return pd.Categorical.from_codes(np.asarray(kept.codes), categories=pd.Index([str(c) for c in kept.categories]))
    text = column.astype(object).where(column.isna(), column.astype(str))
    names = [str(c) for c in text.dropna().unique()]
    return pd.Categorical(text, categories=sorted(names, key=lambda c: (not c.isdecimal(), len(c) * c.isdecimal(), c)))


def colours(adata: AnnData, categories: list[str], key: str = _keys.DOMAIN) -> list[str]:
    """Return a colour for every category: those scanpy keeps in ``uns`` if there, otherwise the palette.

    Numbered domains take the colour of their number, so that a subset looks like the whole.

    Parameters
    ----------
    adata
        Annotated data.
    categories
        Names in the order of :func:`labels`.
    key
        Column of labels.
    """
    stored, column = adata.uns.get(f"{key}_colors"), adata.obs[key]
    if stored is None and categories and all(c.isdecimal() and len(c) < 4 for c in categories):
        numbers = [int(c) for c in categories]
        first = min(1, *numbers, 1)
        known = palette(max(numbers) - first + 1)
        return [known[i - first] for i in numbers]
    # The stored colours belong to all categories, also to those no spot has any more.
    names = [str(c) for c in column.cat.categories] if isinstance(column.dtype, pd.CategoricalDtype) else categories
    by_name = dict(zip(names, stored_or_palette(stored, len(names)), strict=True))
    return [by_name[c] for c in categories]


def sizes(domains: pd.Categorical[Any], confidence: NDArray[Any] | None) -> pd.DataFrame:
    """Return spots, share and median confidence of every domain.

    Parameters
    ----------
    domains
        Label of each spot.
    confidence
        Confidence of each label, or None.
    """
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    table = pd.DataFrame({"domain": list(domains.categories), "spots": spots, "share": spots / max(spots.sum(), 1)})
    if confidence is not None:
        by_domain = pd.Series(np.asarray(confidence)).groupby(np.asarray(domains.codes)).median()
        table["confidence"] = by_domain.reindex(range(len(table))).to_numpy()
    return table


def view_weights(adata: AnnData, domains: pd.Categorical[Any]) -> pd.DataFrame:
    """Return the mean attention of every domain (rows) on every layer and view (columns).

    Parameters
    ----------
    adata
        Annotated data with ``obsm["stmfg_view_weights"]``.
    domains
        Label of each spot.
    """
    weights = np.asarray(require(adata, "obsm", _keys.VIEW_WEIGHTS, _RUN))
    record = require(adata, "uns", _keys.UNS, _RUN)
    names = [str(c) for c in record.get("view_weight_names", [])]
    if len(names) != weights.shape[1]:
        names = [f"weight {i + 1}" for i in range(weights.shape[1])]
    table = pd.DataFrame(weights, columns=names).groupby(np.asarray(domains.codes)).mean()
    table = table.reindex(range(len(domains.categories)))
    table.index = pd.Index([str(c) for c in domains.categories], name="domain")
    return table


def plane(embedding: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first two principal components (n, 2) and their shares of the variance.

    Parameters
    ----------
    embedding
        Embedding (n, d).
    """
    centred = np.asarray(embedding, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    # The sign of an eigenvector is free: fixed, so that a figure does not flip from one machine to the next.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    share = values[::-1][:2] / max(values.sum(), np.finfo(float).tiny)
    flat = centred @ axes
    missing = 2 - flat.shape[1]
    return np.pad(flat, ((0, 0), (0, missing))), np.pad(share, (0, missing))


def counts(adata: AnnData, layer: str | None = None) -> Any:
    """Return the raw counts in rows, or None where there are none.

    Parameters
    ----------
    adata
        Annotated data.
    layer
        Layer with raw counts; by default ``layers["counts"]`` where present, else ``X``.
    """
    try:
        return checks.counts(adata, layer)
    except InputError:
        return None


def neighbourhoods(graph: Any, domains: pd.Categorical[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return where the neighbours of each domain (rows) lie: their share in each domain (columns), and over chance.

    Chance is what holds on average when the labels outside a domain are shuffled: of the neighbours that are not in
    domain i, a share ``n_j / (n - n_i)`` then lies in domain j. Shuffling all labels, as squidpy's neighbourhood
    enrichment does, would say of compact domains only that they are compact. On the diagonal, where there is nothing
    outside to shuffle, chance is the share of the domain, ``n_i / n``. The averages are exact; nothing is drawn.

    Parameters
    ----------
    graph
        Spatial graph, CSR.
    domains
        Label of each spot.

    Returns
    -------
    Shares (K, K), whose rows sum to one, and shares over chance (K, K), NaN where chance expects less than one edge.
    """
    member = _membership(domains)
    edges = sparse.csr_array(graph).astype(bool).astype(np.float64)
    touching = np.asarray((member.T @ edges @ member).toarray(), dtype=np.float64)
    total = touching.sum(axis=1, keepdims=True)
    sizes = np.asarray(member.sum(axis=0), dtype=np.float64).ravel()
    outside = np.maximum(sizes.sum() - sizes, 1.0)
    expected = (total - np.diag(touching)[:, None]) * sizes[None, :] / outside[:, None]
    np.fill_diagonal(expected, total.ravel() * sizes / max(sizes.sum(), 1.0))
    over_chance = np.divide(touching, expected, out=np.full_like(touching, np.nan), where=expected >= 1.0)
    return touching / np.maximum(total, 1.0), over_chance


def deepest(xy: NDArray[np.float64], domains: pd.Categorical[Any]) -> NDArray[np.intp]:
    """Return for each domain a spot far from its borders and from the edge of the tissue: a place for its name.

    The tissue is cut into squares of a few spots, each of the domain that most of its spots are in; the deepest square
    of a domain is the one farthest from any other.

    Parameters
    ----------
    xy
        Positions (n, 2).
    domains
        Label of each spot.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    squares = np.clip(np.sqrt(len(xy) / _SQUARE), 1, _SQUARES)
    side = max(float((high - low).max()) / squares, np.finfo(float).tiny)
    column, row = ((xy - low) / side).astype(np.intp).T
    height, width = int(row.max()) + 1, int(column.max()) + 1
    square = row * width + column
    counts = np.stack(
        [np.bincount(square[domains.codes == i], minlength=height * width) for i in range(len(domains.categories))]
    )
    most = np.where(counts.any(axis=0), counts.argmax(axis=0), -1).reshape(height, width)
    found = []
    for i, own in enumerate(counts):
        depth = ndimage.distance_transform_edt(np.pad(most == i, 1))[1:-1, 1:-1].ravel()
        # Of squares equally deep, the one with most of its spots; a domain that rules no square still has one.
        best = int(np.lexsort((own, depth))[-1])
        spots = np.flatnonzero(domains.codes == i)
        middle = low + side * (np.array([best % width, best // width]) + 0.5)
        found.append(spots[((xy[spots] - middle) ** 2).sum(axis=1).argmin()])
    return np.array(found, dtype=np.intp)


def stability(found: Mapping[str, Any]) -> str:
    """Say in one sentence how well runs with other seeds agree.

    Parameters
    ----------
    found
        As in ``run.json`` under ``stability``.
    """
    values = found["ari"]
    return (
        f"stability {found['mean_ari']:.2f}: mean agreement (ARI) with {len(values)} "
        f"{'runs of other seeds' if len(values) > 1 else 'run of another seed'}, lowest {min(values):.2f}"
    )


def warnings(
    adata: AnnData, domains: pd.Categorical[Any], depth: NDArray[np.float64] | None, graph: Any, *, slices: int = 1
) -> list[str]:
    """Say in plain words what a reader should know before believing the result.

    Parameters
    ----------
    adata
        Annotated data.
    domains
        Label of each spot.
    depth
        Counts of each spot, or None.
    graph
        Spatial graph, or None.
    slices
        How many slices the data hold: nothing joins one to another.
    """
    said = []
    n = adata.n_obs
    if depth is not None:
        empty, median = int((depth == 0).sum()), float(np.median(depth))
        if empty:
            said.append(
                f"{empty:,} of {n:,} spots have no counts at all; their domain is a guess from their neighbours."
            )
        if median < (_DEPTH_WHOLE if adata.n_vars >= _WHOLE else _DEPTH_PANEL):
            said.append(f"The data are shallow: half of the spots have fewer than {median:,.0f} counts.")
    if _keys.CONFIDENCE in adata.obs:
        unsure = float((np.asarray(adata.obs[_keys.CONFIDENCE]) < UNCERTAIN).mean())
        if unsure > 0.1:
            said.append(
                f"{unsure:.0%} of the spots have a confidence below {UNCERTAIN}: borders may lie elsewhere, "
                "or the number of domains may not suit the tissue."
            )
    if graph is not None:
        pieces, piece = connected_components(graph, directed=False)
        if pieces > slices:
            largest = int(np.bincount(piece).max())
            if slices == 1 and n - largest < _STRAY * n:
                said.append(f"{n - largest:,} of {n:,} spots lie apart from the main piece of tissue.")
            else:
                what = "tissue is" if slices == 1 else f"tissue of the {slices:,} slices is"
                said.append(
                    f"The {what} in {pieces:,} separate pieces; the largest holds {largest:,} of {n:,} spots. "
                    "No edge of the spatial graph joins them."
                )
        alone = np.asarray(_within(graph, domains).sum(axis=1)).ravel() == 0
        for i, name in enumerate(domains.categories):
            share = float(alone[domains.codes == i].mean())
            if share > _SCATTERED:
                said.append(
                    f"Domain {name} is scattered: {share:.0%} of its spots have no neighbour in the same domain."
                )
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    said += [
        f"Domain {name} is very small ({count:,} spots); judge it with care."
        for name, count in zip(domains.categories, spots, strict=True)
        if count < _SMALL_DOMAIN * n
    ]
    return said


def _membership(domains: pd.Categorical[Any]) -> Any:
    """Return the 0/1 matrix (n, K) of which spot is in which domain."""
    known = np.flatnonzero(domains.codes >= 0)
    shape = (len(domains), len(domains.categories))
    return sparse.csr_array((np.ones(len(known)), (known, domains.codes[known])), shape=shape)


def _within(graph: Any, domains: pd.Categorical[Any]) -> Any:
    """Return the edges of `graph` that join spots of one domain, as 0/1."""
    edges = sparse.coo_array(graph)
    same = (domains.codes[edges.row] == domains.codes[edges.col]) & (edges.row != edges.col) & (edges.data != 0)
    return sparse.csr_array((np.ones(int(same.sum())), (edges.row[same], edges.col[same])), shape=edges.shape)

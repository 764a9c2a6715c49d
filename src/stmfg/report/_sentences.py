"""What the report says of a result in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from stmfg._keys import CONFIDENCE
from stmfg.tl._summary import UNCERTAIN as UNCERTAIN

_DEPTH_PANEL, _DEPTH_WHOLE, _WHOLE = 20, 500, 2000  # median counts to warn below; genes from which it is no panel
_SMALL_DOMAIN = 0.005  # share of all spots
_SCATTERED = 0.2  # share of a domain's spots without a neighbour in it
_STRAY = 0.01  # share of spots off the main piece that is still no second piece


def describe_stability(stability: Mapping[str, Any]) -> str:
    """Return how well runs with other seeds agree, from ``stability`` of ``run.json``."""
    values = stability["ari"]
    return (
        f"stability {stability['mean_ari']:.2f}: mean agreement (ARI) with {len(values)} "
        f"{'runs of other seeds' if len(values) > 1 else 'run of another seed'}, lowest {min(values):.2f}"
    )


def as_sentence(warning: str) -> str:
    """Return a warning of the run as it stands in a list of sentences; a name that it begins with stays as it is."""
    first = warning.split(" ", 1)[0]
    start = warning[:1].upper() if first.isalpha() and first.islower() else warning[:1]
    return f"{start}{warning[1:]}{'' if warning.endswith(('.', '?', '!')) else '.'}"


def list_warnings(
    adata: AnnData, domains: pd.Categorical[Any], depth: NDArray[np.float64] | None, graph: Any, n_slices: int
) -> list[str]:
    """Return a sentence for each thing to know before relying on a result; no edge joins one slice to another."""
    sentences = []
    n = adata.n_obs
    if depth is not None:
        empty, median = int((depth == 0).sum()), float(np.median(depth))
        if empty:
            sentences.append(
                f"{empty:,} of {n:,} spots have no counts at all; their domain is a guess from their neighbours."
            )
        if median < (_DEPTH_WHOLE if adata.n_vars >= _WHOLE else _DEPTH_PANEL):
            sentences.append(f"The data are shallow: half of the spots have fewer than {median:,.0f} counts.")
    if CONFIDENCE in adata.obs:
        unsure = float((np.asarray(adata.obs[CONFIDENCE]) < UNCERTAIN).mean())
        if unsure > 0.1:
            sentences.append(
                f"{unsure:.1%} of the spots have a confidence below {UNCERTAIN}: borders may lie elsewhere, "
                "or the number of domains may not suit the tissue."
            )
    if graph is not None:
        sentences += _about_pieces(graph, n_slices) + _about_scattered_domains(graph, domains)
    spots = np.bincount(domains.codes[domains.codes >= 0], minlength=len(domains.categories))
    return sentences + [
        f"Domain {name} is very small ({count:,} spots); judge it with care."
        for name, count in zip(domains.categories, spots, strict=True)
        if count < _SMALL_DOMAIN * n
    ]


def _about_pieces(graph: Any, n_slices: int) -> list[str]:
    n = graph.shape[0]
    n_pieces, piece = connected_components(graph, directed=False)
    if n_pieces <= n_slices:
        return []
    largest = int(np.bincount(piece).max())
    if n_slices == 1 and n - largest < _STRAY * n:
        return [f"{n - largest:,} of {n:,} spots lie apart from the main piece of tissue."]
    tissue = "tissue is" if n_slices == 1 else f"tissue of the {n_slices:,} slices is"
    return [
        f"The {tissue} in {n_pieces:,} separate pieces; the largest holds {largest:,} of {n:,} spots. "
        "No edge of the spatial graph joins them."
    ]


def _about_scattered_domains(graph: Any, domains: pd.Categorical[Any]) -> list[str]:
    edges = sparse.coo_array(graph)
    same = (domains.codes[edges.row] == domains.codes[edges.col]) & (edges.row != edges.col) & (edges.data != 0)
    alone = np.bincount(edges.row[same], minlength=len(domains)) == 0
    shares = [float(alone[domains.codes == i].mean()) for i in range(len(domains.categories))]
    return [
        f"Domain {name} is scattered: {share:.0%} of its spots have no neighbour in the same domain."
        for name, share in zip(domains.categories, shares, strict=True)
        if share > _SCATTERED
    ]

"""A small finished result, as stmfg.tl.domains leaves one, made without the rest of the package."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.spatial import cKDTree

SPACING = 137.0
"""Distance of neighbouring spots, in pixels of the full image."""
PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"]
"""Colours of the first domains."""
NASTY = "<script>window.stmfgHacked=1</script>"
"""A name that must never run."""


def finished(side: int = 20, k: int = 4, genes: int = 40, *, image: bool = False, seed: int = 0) -> ad.AnnData:
    """Return `side` x `side` spots on a hexagonal grid in `k` bands, with everything a run writes."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(side * side), side)
    xy = np.column_stack([(column + 0.5 * (row % 2)) * SPACING, row * SPACING * np.sqrt(0.75)]) + 300.0
    n = len(xy)
    depth = (xy[:, 1] - 300 + 250 * np.sin(xy[:, 0] / 700)) / (side * SPACING)
    band = np.clip(np.floor(depth * k), 0, k - 1).astype(int)
    rate = rng.gamma(1.0, 1.0, size=genes)[None, :] * np.ones((n, 1))
    for i in range(min(k * 3, genes)):
        rate[band == i % k, i] += 4.0
    counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32)) if genes else None
    neighbours = cKDTree(xy).query_pairs(SPACING * 1.1, output_type="ndarray")
    graph = sparse.coo_matrix((np.ones(len(neighbours)), neighbours.T), shape=(n, n))
    weights = rng.uniform(0.3, 0.7, size=(n, 2))
    labels = [str(b + 1) for b in band]
    adata = ad.AnnData(
        X=counts,
        obs=pd.DataFrame(
            {
                "stmfg_domain": pd.Categorical(labels, categories=[str(i + 1) for i in range(k)]),
                "stmfg_confidence": rng.beta(6, 2, size=n).astype(np.float32),
            },
            index=[f"spot{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(genes)]),
    )
    adata.obsm["spatial"] = xy
    adata.obsm["X_stmfg"] = (rng.normal(size=(n, 8)) + 3 * np.eye(8)[band % 8]).astype(np.float32)
    adata.obsm["stmfg_view_weights"] = np.column_stack(
        [weights[:, 0], 1 - weights[:, 0], weights[:, 1], 1 - weights[:, 1]]
    ).astype(np.float32)
    adata.obsp["spatial_connectivities"] = (graph + graph.T).tocsr()
    epochs = np.arange(50)
    adata.uns["stmfg"] = {
        "version": "0.1.0",
        "params": {"n_domains": k, "preset": "default", "model": {"layers": 2, "width": 64}},
        "random_state": 0,
        "n_domains": k,
        "history": {
            "total": 3 + 2 * np.exp(-epochs / 10),
            "reconstruction": 2 + np.exp(-epochs / 10),
            "contrastive": 1 + np.exp(-epochs / 10),
            "spatial": 0.7 + 0.1 * np.exp(-epochs / 20),
        },
        "view_weight_names": np.array(["layer 1: spatial", "layer 1: feature", "layer 2: spatial", "layer 2: feature"]),
    }
    if image:
        adata.uns["spatial"] = {"sample": {"images": {"lowres": _tissue(xy)}, "scalefactors": dict(_SCALE)}}
    return adata


def run_record(adata: ad.AnnData, **changes: Any) -> dict[str, Any]:
    """Return what ``run.json`` holds after a run that ended in `adata`."""
    record = {
        "version": "0.1.0",
        "input": "/data/sample_A/outs",
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "options": {"n_domains": 4, "seed": 0},
        "params": adata.uns["stmfg"]["params"],
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "stages": [
            {"name": "read", "seconds": 0.4, "peak_mb": 210.0},
            {"name": "train", "seconds": 61.3, "peak_mb": 900.0},
        ],
        "history": {k: v.tolist() for k, v in adata.uns["stmfg"]["history"].items()},
        "warnings": ["3 spots have no counts."],
    }
    return record | changes


_SCALE = {"tissue_lowres_scalef": 0.1, "spot_diameter_fullres": 75.0, "fiducial_diameter_fullres": 144.0}


def _tissue(xy: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a smooth pink picture a little larger than the spots, one pixel for ten of the full image."""
    width, height = (xy.max(axis=0) / 10 + 30).astype(int)
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.5 * np.sin(x / 9.0) * np.cos(y / 7.0)
    return np.stack([0.93 - 0.1 * wave, 0.75 - 0.2 * wave, 0.86 - 0.1 * wave], axis=-1).astype(np.float32)

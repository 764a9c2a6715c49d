"""Simulated tissue with an image that tells more than the counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.spatial import cKDTree

from stmfg.datasets import simulate


def simulate_pictured(n: int = 1500, seed: int = 0) -> tuple[AnnData, pd.Series]:
    """Simulate tissue of three domains, one of which only the image tells from its other half."""
    adata = simulate(n, 150, n_domains=3, tissue="blobs", difficulty=0.5, random_state=seed)
    truth = adata.obs["ground_truth"].astype(str).to_numpy()
    xy = adata.obsm["spatial"] - adata.obsm["spatial"].min(axis=0)
    middle = np.median(xy[truth == "D1", 0])
    truth = np.where((truth == "D1") & (xy[:, 0] < middle), "D0", truth)
    scale = 0.1
    height, width = (xy.max(axis=0) * scale + 10).astype(int)[::-1]
    y, x = np.mgrid[:height, :width] / scale
    nearest = truth[cKDTree(xy).query(np.column_stack([x.ravel(), y.ravel()]))[1]].reshape(height, width)
    density = np.where(nearest == "D0", 0.5, 0.2)[..., None]
    density = density + 0.1 * np.random.default_rng(seed).standard_normal((height, width, 1))
    density = density.clip(0) * [0.65, 0.70, 0.29] + 0.4 * np.array([0.07, 0.99, 0.11])
    bare = AnnData(adata.X, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))
    bare.obsm["spatial"] = xy
    picture = np.clip(256 * 10**-density - 1, 0, 255).astype(np.uint8)
    factors = {"tissue_hires_scalef": scale, "spot_diameter_fullres": 55.0}
    bare.uns["spatial"] = {"slice": {"images": {"hires": picture}, "scalefactors": factors}}
    return bare, pd.Series(truth, index=adata.obs_names)

"""What the runners of all peers share: arguments, seeds, the label file, and the search for a resolution.

A runner is ``run.py INPUT.h5ad K OUTPUT.csv --seed S --kind spots|cells [--use-rep KEY]`` in the peer's environment.
"""

from __future__ import annotations

import argparse
import random
import warnings
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd

Labels = np.ndarray


def main(domains: Callable[[ad.AnnData, argparse.Namespace], Labels]) -> None:
    """Read the input, call ``domains(adata, args)`` with seeded generators, write one label per spot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("k", type=int)
    parser.add_argument("output")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=("spots", "cells"), required=True)
    parser.add_argument("--use-rep")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    random.seed(args.seed)
    np.random.seed(args.seed)  # noqa: NPY002  (the peers draw from the global generator)
    adata = ad.read_h5ad(args.input)
    names = adata.obs_names.copy()
    labels = pd.Series(np.asarray(domains(adata, args)).astype(str))
    pd.DataFrame({"domain": labels.to_numpy()}, index=names).to_csv(args.output, index_label="spot")


def embedded(adata: ad.AnnData, key: str) -> ad.AnnData:
    """Return the embedding ``obsm[key]`` in place of the genes, for methods made for expression alone."""
    x = np.asarray(adata.obsm[key], dtype=np.float32)
    return ad.AnnData(x, obs=adata.obs, obsm={"spatial": np.asarray(adata.obsm["spatial"])})


def search_resolution(cluster: Callable[[float], Labels], k: int, *, low: float = 0.01, high: float = 3.0) -> Labels:
    """Bisect the resolution until ``cluster`` returns ``k`` domains; else the labels whose number is nearest to it."""
    best, distance = None, np.inf
    for _ in range(15):
        resolution = (low + high) / 2
        labels = cluster(resolution)
        found = len(np.unique(labels))
        if abs(found - k) < distance:
            best, distance = labels, abs(found - k)
        if found == k:
            break
        low, high = (resolution, high) if found < k else (low, resolution)
    return best

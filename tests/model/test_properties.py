"""What must not matter does not: the order of spots and genes, names, units, the form in which counts are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from threadpoolctl import threadpool_limits

from stmfg import tl
from stmfg.datasets import simulate
from stmfg.metrics import ari

QUICK: dict[str, Any] = {"epochs": 2, "n_votes": 1, "n_starts": 1, "redraws": 2}
few = settings(max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


def found(adata: AnnData) -> pd.Series[str]:
    tl.domains(adata, n_domains=4, **QUICK)
    return adata.obs["stmfg_domain"].astype(str)


@pytest.fixture(scope="module", params=["hex", "cells"])
def tissue(request: pytest.FixtureRequest) -> tuple[AnnData, pd.Series[str]]:
    """A section and its domains; on a hexagonal grid many neighbours are equally far."""
    adata = simulate(200, 60, n_domains=4, difficulty=0.4, layout=request.param, random_state=2)
    return adata, found(adata.copy())


@few
@given(seed=seeds)
def test_the_order_of_spots_and_genes(tissue: tuple[AnnData, pd.Series[str]], seed: int) -> None:
    adata, domains = tissue
    random = np.random.default_rng(seed)
    spots, genes = random.permutation(adata.n_obs), random.permutation(adata.n_vars)
    assert ari(found(adata[spots][:, genes].copy()), domains.iloc[spots]) == 1


@few
@given(angle=st.floats(0, 7), mirrored=st.booleans(), exponent=st.floats(-6, 6), shift=st.floats(-1e4, 1e4))
def test_how_the_section_lies_and_in_which_unit(
    tissue: tuple[AnnData, pd.Series[str]], angle: float, mirrored: bool, exponent: float, shift: float
) -> None:
    adata, domains = tissue
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = adata.copy()
    moved.obsm["spatial"] = (adata.obsm["spatial"] @ turn * [-1 if mirrored else 1, 1] + shift) * 10**exponent
    assert ari(found(moved), domains) == 1


@few
@given(names=st.lists(st.text(min_size=1), min_size=200, max_size=200, unique=True), gene=st.text())
def test_names(tissue: tuple[AnnData, pd.Series[str]], names: list[str], gene: str) -> None:
    adata, domains = tissue
    renamed = adata.copy()
    renamed.obs_names, renamed.var_names = names, [f"{gene}{i}" for i in range(adata.n_vars)]
    assert found(renamed).tolist() == domains.tolist()


FORMS: dict[str, Callable[[Any], Any]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": lambda X: X.toarray(),
    "dense by columns": lambda X: np.asfortranarray(X.toarray()),
    "unsorted": lambda X: sparse.csr_matrix((X.data[::-1], X.indices[::-1], X.nnz - X.indptr[::-1]), X.shape)[::-1],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["float32", "float64", "int32", "int64", "uint16"])
def test_how_counts_are_stored(tissue: tuple[AnnData, pd.Series[str]], form: str, kind: str) -> None:
    adata, domains = tissue
    stored = adata.copy()
    stored.X = FORMS[form](adata.X.tocsr()).astype(kind)
    assert found(stored).tolist() == domains.tolist()

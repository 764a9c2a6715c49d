"""Extreme but honest data: everything stays finite, and where it cannot, the run stops and says where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from stmfg import tl
from stmfg.datasets import simulate
from stmfg.errors import InputError, TrainingError

QUICK: dict[str, Any] = {"epochs": 3, "n_votes": 1, "n_starts": 1, "redraws": 2}


def _large(adata: AnnData) -> None:
    adata.X = sparse.csr_matrix(adata.X * np.float32(1e6 / adata.X.max())).astype(np.int64)


def _one_large(adata: AnnData) -> None:
    adata.X[3, 5] = 1e6


def _zero_genes(adata: AnnData) -> None:
    adata.X = sparse.csr_matrix(adata.X.multiply(np.arange(adata.n_vars) % 3 == 0), dtype=np.float32)


def _nearly_empty(adata: AnnData) -> None:
    adata.X = sparse.csr_matrix(adata.X.multiply(np.arange(adata.n_vars) < 2), dtype=np.float32)


def _isolated(adata: AnnData) -> None:
    adata.obsm["spatial"][:3] = [[1e7, 0], [0, -1e7], [1e7, 1e7]]


def _disconnected(adata: AnnData) -> None:
    adata.obsm["spatial"][::2] += 1e6


def _duplicated(adata: AnnData) -> None:
    adata.obsm["spatial"][100:] = adata.obsm["spatial"][0]


def _line(adata: AnnData) -> None:
    adata.obsm["spatial"][:, 1] = 0


def _identical(adata: AnnData) -> None:
    adata.X = sparse.vstack([adata.X[:100], *[adata.X[0]] * (adata.n_obs - 100)], format="csr")


CASES: dict[str, Callable[[AnnData], None]] = {
    "counts up to a million": _large,
    "one count of a million": _one_large,
    "genes without a count": _zero_genes,
    "two genes with counts": _nearly_empty,
    "isolated spots": _isolated,
    "tissue in two pieces": _disconnected,
    "many spots at one place": _duplicated,
    "spots on a line": _line,
    "identical spots": _identical,
}


@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")
@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("case", CASES)
def test_everything_stays_finite(section: AnnData, case: str, preset: str) -> None:
    section.obsm["spatial"] = np.array(section.obsm["spatial"], dtype=np.float64)
    CASES[case](section)
    tl.domains(section, n_domains=4, preset=preset, **QUICK)
    assert np.isfinite(section.obsm["X_stmfg"]).all()
    assert np.isfinite(section.obsm["stmfg_view_weights"]).all()
    assert np.isfinite(section.uns["stmfg"]["history"]["total"]).all()
    assert section.obs["stmfg_confidence"].between(0, 1).all()
    assert section.obs["stmfg_domain"].nunique() == 4


@pytest.mark.parametrize("genes", [30, 60_000])
def test_few_and_many_genes(genes: int) -> None:
    few = simulate(150, 30, n_domains=3, random_state=0)
    rest = sparse.random_array((150, genes - 30), density=0.002, rng=np.random.default_rng(0), format="csr")
    X = sparse.hstack([few.X, rest.astype(bool).astype(np.float32)], format="csr", dtype=np.float32)
    adata = AnnData(X, obsm={"spatial": few.obsm["spatial"]})
    tl.domains(adata, n_domains=3, **QUICK)
    assert np.isfinite(adata.obsm["X_stmfg"]).all()


def test_a_domain_of_one_spot(section: AnnData) -> None:
    tl.domains(section, n_domains=section.n_obs // 2, clusterer="kmeans", **QUICK)
    sizes = section.obs["stmfg_domain"].value_counts()
    assert sizes.min() >= 1
    assert len(sizes) == section.n_obs // 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.X.data.__setitem__(0, 1e18), "impossibly large"),
        (lambda a: a.obsm.update(spatial=a.obsm["spatial"] * 1e200), "no length in any unit"),
        (lambda a: a.obsm.update(spatial=a.obsm["spatial"] * 1e-300), "no length in any unit"),
    ],
)
def test_what_no_instrument_measures_is_refused(
    section: AnnData, refused: Callable[..., str], change: Callable[[AnnData], Any], said: str
) -> None:
    change(section)
    assert said in refused(tl.domains, section, n_domains=4, **QUICK)


def test_an_embedding_too_large_for_float32_is_refused(section: AnnData, refused: Callable[..., str]) -> None:
    section.obsm["X_pca"] = 1e20 * np.random.default_rng(0).normal(size=(section.n_obs, 5))
    assert "scale it" in refused(tl.domains, section, n_domains=4, use_rep="X_pca", **QUICK)


def test_a_training_that_diverges_stops_and_names_the_last_good_state(
    section: AnnData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    import stmfg.model.train

    monkeypatch.setattr(stmfg.model.train, "CHECKPOINT_SECONDS", 0.0)
    good = stmfg.model.train.spatial_regularization
    calls: list[int] = []

    def diverging(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return good(*arguments) * (float("nan") if len(calls) == 3 else 1.0)

    monkeypatch.setattr(stmfg.model.train, "spatial_regularization", diverging)
    said = r"spatial term of the loss is nan at epoch 3; .* checkpoint is .*state"
    with pytest.raises(TrainingError, match=said) as caught:
        tl.domains(section, n_domains=4, checkpoint=tmp_path / "state", **{**QUICK, "epochs": 5})
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, InputError)
    assert "X_stmfg" not in section.obsm
    monkeypatch.setattr(stmfg.model.train, "spatial_regularization", good)
    tl.domains(section, n_domains=4, checkpoint=tmp_path / "state", **{**QUICK, "epochs": 5})  # which is finite
    assert np.isfinite(section.uns["stmfg"]["history"]["total"]).all()
    assert len(section.uns["stmfg"]["history"]["total"]) == 5


def test_weights_that_diverge_are_not_used(section: AnnData) -> None:
    with pytest.raises(TrainingError, match=r"not finite after epoch|term of the loss is"):
        tl.domains(section, n_domains=4, **{**QUICK, "learning_rate": 1e37})

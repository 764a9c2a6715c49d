"""A user's own clusterer, fusion and loss terms."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

from stmfg import STMFG, tl


def halves(x: np.ndarray, k: int, *, random_state: int) -> np.ndarray:
    """Cut the first column of an embedding into k parts of equal size."""
    return np.argsort(np.argsort(x[:, 0])) * k // len(x)


class First(nn.Module):
    """A fusion that looks at the first view alone, with a width to learn."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.zeros(views.shape[:2])
        weights[:, 0] = 1.0
        return views[:, 0] * self.scale, weights


def small(encoded: Any, batch: Any) -> Tensor:
    return 1e3 * encoded.embedding[batch.spots].square().mean()


def test_a_clusterer_of_ones_own_finds_the_domains(section: AnnData, quick: dict[str, Any]) -> None:
    model = STMFG(n_domains=4, clusterer=halves, n_votes=1, scales="embedding", averages=False, **quick).fit(section)
    assert np.bincount(model.result.labels.astype(int)).tolist() == [0, 75, 75, 75, 75]
    adata = section.copy()
    tl.domains(section, n_domains=4, **quick)
    tl.domains(
        section, n_domains=4, clusterer=halves, n_votes=1, scales="embedding", averages=False
    )  # the embedding stays
    tl.domains(adata, n_domains=4, clusterer=halves, n_votes=1, scales="embedding", averages=False, **quick)
    assert (section.obs["stmfg_domain"] == adata.obs["stmfg_domain"]).all()
    assert adata.uns["stmfg"]["params"]["clusterer"].endswith("halves")


@pytest.mark.parametrize("labels", [lambda x: x[:, 0], lambda x: np.full(len(x), 9), lambda x: np.zeros(3, dtype=int)])
def test_a_clusterer_that_returns_no_labels_is_refused(
    section: AnnData, quick: dict[str, Any], refused: Callable[..., str], labels: Callable[..., np.ndarray]
) -> None:
    model = STMFG(n_domains=4, clusterer=lambda x, k, random_state: labels(x), **quick)
    assert "labels from 0 to 3" in refused(model.fit, section)


def test_a_fusion_of_ones_own_is_trained_and_must_be_given_again(
    section: AnnData, quick: dict[str, Any], tmp_path: Path, refused: Callable[..., str]
) -> None:
    model = STMFG(n_domains=4, fusion=First, **quick).fit(section)
    np.testing.assert_array_equal(model.result.view_weights[:, 1::2], 0)
    model.save(tmp_path)
    assert "First" in refused(STMFG.load, tmp_path)
    assert "fusion=..." in refused(STMFG.load, tmp_path)
    assert "leave it out" in refused(STMFG.load, tmp_path, fusion=First, clusterer=halves)
    loaded = STMFG.load(tmp_path, fusion=First)
    np.testing.assert_array_equal(loaded.predict(section), model.predict(section))


def test_a_loss_of_ones_own_is_followed_and_counts(
    section: AnnData,
    quick: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    refused: Callable[..., str],
) -> None:
    options = quick | {"convolution": "relu", "epochs": 20, "n_domains": 4}
    plain, pulled = STMFG(**options).fit(section), STMFG(extra_losses=[small], **options).fit(section)
    size = [float((m.result.embedding**2).mean()) for m in (plain, pulled)]
    assert size[1] < 0.5 * size[0]
    assert len(pulled.history["small"]) == 20
    pulled.save(tmp_path)
    with caplog.at_level(logging.WARNING, "stmfg"):
        loaded = STMFG.load(tmp_path)
    assert "small" in caplog.text
    np.testing.assert_array_equal(loaded.predict(section), pulled.predict(section))
    assert "given" in refused(loaded.fit, section)
    assert "names" in refused(STMFG, extra_losses=[small, small])

"""The training: what its loss does, and that it can be stopped and continued."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from safetensors.torch import save_file

import stmfg.model.train
from stmfg import STMFG
from stmfg.model.train import TERMS, pick_device

CPU = torch.device("cpu")
WEIGHTS = {"held_out_weight": 2.0, "reconstruction_weight": 1.5, "contrastive_weight": 0.5, "spatial_weight": 0.25}
OPTIONS: dict[str, Any] = {"n_domains": None, "n_layers": 2, "decoder_width": 8, "batch_size": 64, "epochs": 3}


def fit(adata: AnnData, *, checkpoint: Path | None = None, use_rep: str | None = None, **options: Any) -> STMFG:
    return STMFG(**OPTIONS | WEIGHTS | options).fit(adata, checkpoint=checkpoint, use_rep=use_rep)


def same(a: STMFG, b: STMFG) -> bool:
    return a.history == b.history and np.array_equal(a.result.embedding, b.result.embedding)


@pytest.mark.parametrize("batch_size", [64, 0])
@pytest.mark.parametrize("convolution", ["linear", "relu"])
def test_the_loss_falls(section: AnnData, convolution: str, batch_size: int) -> None:
    history = fit(section, convolution=convolution, batch_size=batch_size, epochs=40).history
    assert {term: len(values) for term, values in history.items()} == dict.fromkeys(TERMS, 40)
    for term in ("reconstruction", "total", "held_out"):
        assert np.mean(history[term][-5:]) < np.mean(history[term][:5])


@pytest.mark.parametrize("term", ["held_out", "contrastive", "spatial"])
def test_every_term_can_be_learned(section: AnnData, term: str) -> None:
    alone = dict.fromkeys(WEIGHTS, 0.0) | {f"{term}_weight": 1.0}
    history = fit(section, **alone, convolution="relu", epochs=80).history
    assert np.mean(history[term][-5:]) < 0.99 * np.mean(history[term][:5])


def test_every_term_weighs_what_it_should(section: AnnData) -> None:
    history = fit(section).history
    parts = sum(weight * np.array(history[name.removesuffix("_weight")]) for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(history["total"], parts, rtol=1e-6)


def test_the_seed_decides(section: AnnData, global_generators: Callable[[], Any]) -> None:
    before = global_generators()
    first, again, other = (fit(section, random_state=seed) for seed in (4, 4, 5))
    assert same(first, again)
    assert first.history["total"] != other.history["total"]
    assert global_generators() == before


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_of_weight_zero_is_zero_and_changes_no_other(section: AnnData, name: str) -> None:
    everything, without = (fit(section, epochs=2, **options).history for options in ({}, {name: 0.0}))
    term = name.removesuffix("_weight")
    assert without[term] == [0.0, 0.0]
    assert everything[term][0] != 0
    spots_differ = {"reconstruction"} if term == "held_out" else set()  # the decoder then no longer learns alone
    for other in set(TERMS) - {term, "total"} - spots_differ:
        assert without[other][0] == everything[other][0]  # the first step: the same spots and weights


def test_a_single_view_has_nothing_to_contrast(section: AnnData) -> None:
    history = fit(section, views=("spatial",)).history
    assert history["contrastive"] == [0.0] * 3
    assert np.isfinite(history["total"]).all()


def test_with_every_weight_zero_there_is_nothing_to_train(section: AnnData, refused: Callable[..., str]) -> None:
    assert "weight" in refused(fit, section, **dict.fromkeys(WEIGHTS, 0.0))


def test_spots_without_a_neighbor_are_trained_too(section: AnnData) -> None:
    model = fit(section, spatial_neighbors=0, spatial_radius=0.01)
    assert model.result.graph.nnz == 0
    assert np.isfinite(model.history["total"]).all()


# -- checkpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_rep", [None, "X_rep"])
def test_continuing_is_the_same_as_not_stopping(
    section: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use_rep: str | None
) -> None:
    section.obsm["X_rep"] = np.log1p(section.X.toarray()[:, :12])
    calls: list[int] = []

    def interrupt(encoded: Any, batch: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return torch.zeros(())

    monkeypatch.setattr(stmfg.model.train, "CHECKPOINT_SECONDS", 0.0)  # one after every epoch
    options: dict[str, Any] = {"epochs": 6, "n_domains": 4, "n_votes": 1, "n_starts": 1, "extra_losses": [interrupt]}
    with pytest.raises(KeyboardInterrupt):
        fit(section, checkpoint=tmp_path / "checkpoint", use_rep=use_rep, **options)
    continued = fit(section, checkpoint=tmp_path / "checkpoint", use_rep=use_rep, **options)
    assert len(calls) == 4 + 3  # it went on where it had stopped
    at_once = fit(section, use_rep=use_rep, **options)
    assert same(continued, at_once)
    np.testing.assert_array_equal(continued.result.labels, at_once.result.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def rubbish(file: Path) -> None:
    file.write_bytes(b"not a checkpoint at all")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def without_tensors(file: Path) -> None:
    save_file({"x": torch.zeros(2)}, file, metadata={"fingerprint": "mine", "history": "{}"})


@pytest.mark.parametrize("damage", [rubbish, empty, without_tensors])
def test_a_damaged_checkpoint_is_ignored_with_a_warning(
    section: AnnData, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    file = tmp_path / "checkpoint"
    fresh = fit(section, checkpoint=file)
    damage(file)
    with caplog.at_level(logging.WARNING, "stmfg"):
        assert same(fit(section, checkpoint=file), fresh)
    assert "starting anew" in caplog.text
    caplog.clear()
    assert same(fit(section, checkpoint=file), fresh)  # it is replaced by a good one
    assert "starting anew" not in caplog.text


def test_devices() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu0", "cpu:x"])
def test_unknown_devices_are_refused(name: str, refused: Callable[..., str]) -> None:
    assert repr(name) in refused(pick_device, name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_refused(refused: Callable[..., str]) -> None:
    said = refused(pick_device, "cuda")
    assert "no usable GPU" in said
    assert "'cpu'" in said


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    assert "0 to 1" in refused(pick_device, "cuda:99")

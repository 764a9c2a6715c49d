"""The training loop and its checkpoint."""

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

from stmfg.config import Config
from stmfg.errors import TrainingError
from stmfg.model import graphs
from stmfg.model.batches import TrainingData
from stmfg.model.checkpoint import Checkpoint
from stmfg.model.features import Counts, fit_counts
from stmfg.model.network import STMFGNet
from stmfg.model.train import TERMS, History, pick_device, train

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {
    "n_components": 10,
    "max_factors": 5,
    "widths": (0, 4),
    "decoder_width": 8,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "reconstruction_weight": 1.0,
    "contrastive_weight": 0.5,
    "spatial_weight": 0.25,
    "temperature": 0.5,
}


class Task:
    """A network and what it is trained on; every run starts from the same weights."""

    def __init__(self, adata: AnnData, *, counts: bool = True, **options: Any) -> None:
        self.config = Config().replace(**OPTIONS | options)
        graph = graphs.spatial_graph(adata.obsm["spatial"])
        _, self.features = fit_counts(Counts(adata.X), graphs.walk_operator(graph), self.config, 0)
        self.graphs = {"spatial": graph, "feature": graphs.feature_graph(self.features, n_neighbors=8)}
        self.counts = adata.X[:, :20] if counts else None
        self.depth = np.asarray(adata.X.sum(axis=1)).ravel().astype(np.float64) if counts else None

    def net(self) -> STMFGNet:
        n_in = self.features.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return STMFGNet(n_in, n_in if self.counts is None else 20, self.config, counts=self.counts is not None)

    def run(self, *, epochs: int = 3, random_state: int = 0, **arguments: Any) -> tuple[History, STMFGNet]:
        config, net = self.config.replace(epochs=epochs), self.net()
        data = TrainingData(self.features, self.graphs, self.counts, self.depth, config, CPU)
        return train(net, data, config, random_state=random_state, **arguments), net


def equal(a: STMFGNet, b: STMFGNet) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("target", ["own", "neighbourhood"])
@pytest.mark.parametrize("batch_size", [64, 0])
def test_the_loss_falls(section: AnnData, target: str, batch_size: int) -> None:
    history, _ = Task(section, target=target, batch_size=batch_size).run(epochs=40)
    assert {term: len(values) for term, values in history.items()} == dict.fromkeys(TERMS, 40)
    for term in ("total", "reconstruction"):
        assert np.mean(history[term][-5:]) < 0.9 * np.mean(history[term][:5])


@pytest.mark.parametrize("term", ["contrastive", "spatial"])
def test_every_term_can_be_learned(section: AnnData, term: str) -> None:
    alone = dict.fromkeys(("reconstruction_weight", "contrastive_weight", "spatial_weight"), 0.0)
    history, _ = Task(section, **alone | {f"{term}_weight": 1.0}, convolution="relu").run(epochs=80)
    assert np.mean(history[term][-5:]) < 0.95 * np.mean(history[term][:5])


def test_every_term_weighs_what_it_should(section: AnnData) -> None:
    history, _ = Task(section).run()
    parts = zip(history["reconstruction"], history["contrastive"], history["spatial"], strict=True)
    np.testing.assert_allclose(history["total"], [r + 0.5 * c + 0.25 * s for r, c, s in parts], rtol=1e-6)


def test_the_same_seed_gives_the_same_history_and_weights(
    section: AnnData, global_generators: Callable[[], Any]
) -> None:
    task = Task(section)
    before = global_generators()
    (first, net), (again, same), (other, _) = (task.run(random_state=seed) for seed in (4, 4, 5))
    assert first == again
    assert equal(net, same)
    assert first["total"] != other["total"]
    assert global_generators() == before


@pytest.mark.parametrize("term", ["reconstruction", "contrastive", "spatial"])
def test_a_term_of_weight_zero_is_zero_and_changes_no_other(section: AnnData, term: str) -> None:
    everything, _ = Task(section).run(epochs=2)
    without, _ = Task(section, **{f"{term}_weight": 0.0}).run(epochs=2)
    assert without[term] == [0.0, 0.0]
    assert everything[term][0] != 0
    for other in set(TERMS) - {term, "total"}:
        assert without[other][0] == everything[other][0]  # the first step: the same spots and weights


def test_a_single_view_has_nothing_to_contrast(section: AnnData) -> None:
    history, _ = Task(section, views=("spatial",)).run()
    assert history["contrastive"] == [0.0] * 3
    assert np.isfinite(history["total"]).all()


def test_with_every_weight_zero_there_is_nothing_to_train(section: AnnData, refused: Callable[..., str]) -> None:
    task = Task(section, reconstruction_weight=0.0, contrastive_weight=0.0, spatial_weight=0.0)
    assert "weight" in refused(task.run)


def test_spots_without_a_neighbor_are_trained_too(section: AnnData) -> None:
    task = Task(section)
    task.graphs["spatial"] = task.graphs["spatial"] * 0
    task.graphs["spatial"].eliminate_zeros()
    history, _ = task.run()
    assert np.isfinite(history["total"]).all()


# -- checkpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
def test_continuing_is_the_same_as_not_stopping(section: AnnData, tmp_path: Path, counts: bool) -> None:
    task, file = Task(section, counts=counts), tmp_path / "checkpoint"
    at_once, straight = task.run(epochs=6)
    half, _ = task.run(epochs=3, checkpoint=Checkpoint(file, "mine"))
    assert half["total"] == at_once["total"][:3]
    continued, net = task.run(epochs=6, checkpoint=Checkpoint(file, "mine"))
    assert continued == at_once
    assert equal(net, straight)
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
    task, file = Task(section), tmp_path / "checkpoint"
    fresh, straight = task.run(epochs=2, checkpoint=Checkpoint(file, "mine"))
    damage(file)
    with caplog.at_level(logging.WARNING, "stmfg"):
        history, net = task.run(epochs=2, checkpoint=Checkpoint(file, "mine"))
    assert history == fresh
    assert equal(net, straight)
    assert "starting anew" in caplog.text
    # It is replaced by a good one.
    continued, _ = task.run(epochs=2, checkpoint=Checkpoint(file, "mine"))
    assert continued == fresh


# -- failures ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_term_and_epoch(section: AnnData, tmp_path: Path) -> None:
    task = Task(section, counts=False, contrastive_weight=0.0, spatial_weight=0.0)
    task.features = task.features.copy()
    task.features[5, 0] = np.inf
    with pytest.raises(TrainingError, match=r"the reconstruction term .* epoch 1;") as caught:
        task.run(checkpoint=Checkpoint(tmp_path / "checkpoint", ""))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "checkpoint").exists()  # nothing to continue from


def test_the_culprit_is_named_among_terms_that_are_finite(section: AnnData) -> None:
    task = Task(section)
    task.counts = task.counts * np.float32(1e36)  # no float32 holds its log-gamma; the features are as they were
    with pytest.raises(TrainingError, match="the reconstruction term"):
        task.run()


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

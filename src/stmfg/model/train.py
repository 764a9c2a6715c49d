"""The training loop, on one page."""

from __future__ import annotations

import itertools
import math
import re
import time
from typing import TYPE_CHECKING

import torch

from stmfg._core.progress import follow
from stmfg.errors import InputError, TrainingError
from stmfg.model import checkpoint as _checkpoint
from stmfg.model.adam import Adam
from stmfg.model.losses import gaussian_nll, info_nce, spatial_regularization, zinb_nll
from stmfg.model.processes import Processes

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from stmfg.config import Config
    from stmfg.model.batches import TrainingData
    from stmfg.model.network import STMFGNet

__all__ = ["TERMS", "History", "pick_device", "train"]

TERMS = ("reconstruction", "contrastive", "spatial", "total")
History = dict[str, list[float]]
"""Loss per epoch, by term."""

CHECKPOINT_SECONDS = 20.0
_SEEDS_APART = 1_000_003
"""Between the seeds of two processes: each draws spots of its own."""


def pick_device(name: str) -> torch.device:
    """Return the device for ``"auto"`` (a GPU when there is one), ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    InputError
        If the name is unknown or there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise InputError(f"device {name!r} is unknown; choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but this machine has no usable GPU; use device 'cpu' or 'auto'")
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} was asked for; the GPUs here are 0 to {torch.cuda.device_count() - 1}")
    return torch.device(name)


def train(
    net: STMFGNet,
    data: TrainingData,
    config: Config,
    *,
    random_state: int,
    checkpoint: Path | None = None,
    fingerprint: str = "",
    processes: Processes | None = None,
    progress: bool = False,
) -> History:
    """Train the network in place.

    Parameters
    ----------
    net, data, config
        Network, data and hyperparameters.
    random_state
        Seed of the sampling.
    checkpoint
        File to continue from when it is there and of the same run, and to save to from time to time.
    fingerprint
        Identifies the run; a checkpoint with another one is ignored.
    processes
        Who else trains, each on data of its own: they start from the first one's state and step together.
    progress
        Whether to show a progress bar, or, where standard error is no terminal, to log a line at the end.

    Returns
    -------
    Loss per epoch, by term.

    Raises
    ------
    TrainingError
        If a term of the loss or a weight is not finite (names the epoch, the term and the last good checkpoint), or
        another process is lost.
    """
    processes = processes or Processes(data.device)
    generator = torch.Generator().manual_seed(random_state + _SEEDS_APART * processes.rank)
    optimizer = Adam(net.parameters(), config.learning_rate, config.weight_decay)
    history: History = {term: [] for term in TERMS}
    start = 0
    if checkpoint is not None and checkpoint.exists():
        start = _checkpoint.restore(checkpoint, fingerprint, net, optimizer, generator, history)
    if processes.size > 1:
        start = optimizer.steps = processes.share(start)
        processes.share_([*net.state_dict().values(), *optimizer.mean, *optimizer.square])
    saved_at = time.monotonic()
    net.train()
    bar = follow(start, config.epochs, show=progress)
    for epoch in range(start, config.epochs):
        before = generator.get_state()
        losses = _losses(net, data, config, generator)
        values = {term: float(losses[term].detach()) for term in TERMS}
        for term, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"the {term} term of the loss is {value} at epoch {epoch + 1}; {_kept(checkpoint)}")
        losses["total"].backward()  # type: ignore[no-untyped-call]
        try:
            processes.average_gradients_(optimizer.parameters)
        except TrainingError:
            if checkpoint is not None:
                generator.set_state(before)  # of the last whole step
                _checkpoint.save(checkpoint, fingerprint, net, optimizer, generator, history)
            raise
        optimizer.step()
        if not all(bool(p.isfinite().all()) for p in optimizer.parameters):
            raise TrainingError(f"the weights are not finite after epoch {epoch + 1}; {_kept(checkpoint)}")
        for term, value in values.items():
            history[term].append(value)
        bar.step(history["total"][-1])
        if checkpoint is not None and time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            _checkpoint.save(checkpoint, fingerprint, net, optimizer, generator, history)
            saved_at = time.monotonic()
    if checkpoint is not None and config.epochs > start:
        _checkpoint.save(checkpoint, fingerprint, net, optimizer, generator, history)
    net.eval()
    return history


def _kept(checkpoint: Path | None) -> str:
    """Say what helps, and where the last state lies that was finite."""
    help_ = "a smaller learning_rate, or counts without extreme values, may help"
    return (
        f"{help_}; the last good checkpoint is {checkpoint}"
        if checkpoint is not None and checkpoint.exists()
        else help_
    )


def _losses(net: STMFGNet, data: TrainingData, config: Config, generator: torch.Generator) -> dict[str, Tensor]:
    """Weighted total and unweighted terms of one step; a term of weight zero is not computed."""
    batch = data.batch(generator)
    encoded = net.encode(data.features, data.operators)
    none = data.features.new_zeros(())
    losses = {"reconstruction": none, "contrastive": none, "spatial": none}
    if config.reconstruction_weight:
        z = encoded.embedding[batch.spots]
        if data.counts is not None:
            losses["reconstruction"] = zinb_nll(batch.target, *net.decoder(z, batch.size, batch.library))
        else:
            losses["reconstruction"] = gaussian_nll(batch.target, net.decoder(z))
    if config.contrastive_weight and len(config.views) > 1:
        pairs = [
            info_nce(views[batch.spots, a], views[batch.spots, b], config.temperature)
            for views in encoded.views
            for a, b in itertools.combinations(range(views.shape[1]), 2)
        ]
        losses["contrastive"] = torch.stack(pairs).mean()
    if config.spatial_weight:
        losses["spatial"] = spatial_regularization(encoded.embedding, batch.neighbors, batch.strangers)
    losses["total"] = (
        config.reconstruction_weight * losses["reconstruction"]
        + config.contrastive_weight * losses["contrastive"]
        + config.spatial_weight * losses["spatial"]
    )
    if not losses["total"].requires_grad:
        raise InputError(
            "no term of the loss is left: set a weight above zero (the contrastive one needs two views), "
            "or epochs=0 to skip training"
        )
    return losses

"""The training loop, on one page."""

from __future__ import annotations

import itertools
import math
import re
import time
from typing import TYPE_CHECKING

import torch
from torch.optim.adam import adam

from stmfg._core.progress import follow
from stmfg.errors import InputError, TrainingError
from stmfg.model.losses import contrast_dimensions, gaussian_nll, held_out_error, spatial_regularization, zinb_nll
from stmfg.model.plugins import NO_PLUGINS, Plugins

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from stmfg.config import Config
    from stmfg.model.batches import TrainingData
    from stmfg.model.checkpoint import Checkpoint
    from stmfg.model.network import STMFGNet

__all__ = ["TERMS", "Adam", "History", "pick_device", "train"]

TERMS = ("held_out", "reconstruction", "contrastive", "spatial", "total")
History = dict[str, list[float]]
"""Loss per epoch, by term."""

CHECKPOINT_SECONDS = 20.0
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam
SLOW = 0.05
"""Share of the rate at which a decoder learns that learns alone: with steps as large as those of attention, which has
few weights, it learns the noise of the spots it is shown."""


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


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1), by torch's own function.

    ``torch.optim.Adam``, the class, loads torch's compiler: 3.5 s of a run that trains for one or two.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, slow: Iterable[Tensor] = ()) -> None:
        self.parameters, self.steps = list(parameters), 0
        self._of_rate: dict[float, list[int]] = {learning_rate: [], SLOW * learning_rate: []}
        slow_ones = set(map(id, slow))
        for i, parameter in enumerate(self.parameters):
            self._of_rate[SLOW * learning_rate if id(parameter) in slow_ones else learning_rate].append(i)
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradients, and forget these."""
        betas = {"beta1": BETAS[0], "beta2": BETAS[1], "eps": EPSILON}
        for rate, places in self._of_rate.items():
            moved = [
                (parameter, parameter.grad, self.mean[i], self.square[i])
                for i in places
                if (parameter := self.parameters[i]).grad is not None
            ]
            if not moved:
                continue
            parameters, gradients, means, squares = (list(column) for column in zip(*moved, strict=True))
            steps = [torch.tensor(float(self.steps)) for _ in moved]
            how = {"amsgrad": False, "lr": rate, "weight_decay": 0.0, "maximize": False}
            adam(parameters, gradients, means, squares, [], steps, **betas, **how)  # type: ignore[arg-type]
        self.steps += 1
        for parameter in self.parameters:
            parameter.grad = None


def train(
    net: STMFGNet,
    data: TrainingData,
    config: Config,
    *,
    random_state: int,
    plugins: Plugins = NO_PLUGINS,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> History:
    """Train the network in place and return the loss per epoch, by term.

    Parameters
    ----------
    net, data, config, random_state
        Network, data, hyperparameters, and the seed of the sampling.
    plugins
        Whose extra terms are added to the loss.
    checkpoint
        File to continue from when it is there and of the same run, and to save to from time to time.
    progress
        Whether to show a progress bar, or, where standard error is no terminal, to log a line at the end.

    Raises
    ------
    TrainingError
        If a term of the loss or a weight is not finite (names the epoch, the term and the last good checkpoint).
    """
    generator = torch.Generator().manual_seed(random_state)
    slow = net.decoder.parameters() if config.decodes_apart else ()
    optimizer = Adam(net.parameters(), config.learning_rate, slow)
    history: History = {term: [] for term in (*TERMS, *plugins.loss_names)}
    start = checkpoint.restore(net, optimizer, generator, history) if checkpoint else 0
    saved_at = time.monotonic()
    net.train()
    bar = follow(start, config.epochs, show=progress)
    for epoch in range(start, config.epochs):
        losses = compute_losses(net, data, config, generator, plugins)
        values = {term: float(loss.detach()) for term, loss in losses.items()}
        for term, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(f"the {term} term of the loss is {value} at epoch {epoch + 1}; {_help(checkpoint)}")
        losses["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if not torch.cat([p.detach().flatten() for p in optimizer.parameters]).isfinite().all():
            raise TrainingError(f"the weights are not finite after epoch {epoch + 1}; {_help(checkpoint)}")
        for term, value in values.items():
            history[term].append(value)
        bar.step(values["total"])
        due = time.monotonic() - saved_at > CHECKPOINT_SECONDS or epoch + 1 == config.epochs
        if checkpoint and due:
            checkpoint.save(net, optimizer, generator, history)
            saved_at = time.monotonic()
    net.eval()
    return history


def _help(checkpoint: Checkpoint | None) -> str:
    """Say what helps, and where the last state lies that was finite."""
    advice = "a smaller learning_rate, or counts without extreme values, may help"
    there = checkpoint is not None and checkpoint.path.exists()
    return f"{advice}; the last good checkpoint is {checkpoint.path}" if checkpoint and there else advice


def compute_losses(
    net: STMFGNet, data: TrainingData, config: Config, generator: torch.Generator, plugins: Plugins
) -> dict[str, Tensor]:
    """Compute the terms of the loss of one step, and their weighted total; a term of weight zero is not computed."""
    batch = data.batch(generator)
    encoded = net.encode(data.features, data.operators)
    losses = dict.fromkeys(TERMS[:-1], data.features.new_zeros(()))
    layers = [layer for layer in encoded.layers if layer.shape == data.target.shape]
    if config.held_out_weight and layers:
        losses["held_out"] = held_out_error(layers, data.target, data.share)
    if config.reconstruction_weight:
        embedding = encoded.embedding.detach() if config.decodes_apart else encoded.embedding
        z = embedding[batch.spots[: len(batch.target)]]
        if data.counts is not None:
            losses["reconstruction"] = zinb_nll(batch.target, *net.decoder(z, batch.size, batch.library))
        else:
            losses["reconstruction"] = gaussian_nll(batch.target, net.decoder(z))
    if config.contrastive_weight and len(config.views) > 1:
        pairs = [
            contrast_dimensions(views[batch.spots, a], views[batch.spots, b])
            for views in encoded.views
            for a, b in itertools.combinations(range(views.shape[1]), 2)
        ]
        losses["contrastive"] = torch.stack(pairs).mean()
    if config.spatial_weight:
        losses["spatial"] = spatial_regularization(encoded.embedding, batch.neighbors, batch.strangers)
    total = (
        config.held_out_weight * losses["held_out"]
        + config.reconstruction_weight * losses["reconstruction"]
        + config.contrastive_weight * losses["contrastive"]
        + config.spatial_weight * losses["spatial"]
    )
    for name, extra_loss in zip(plugins.loss_names, plugins.extra_losses, strict=True):
        losses[name] = extra_loss(encoded, batch)
        total = total + losses[name]
    if not total.requires_grad:
        raise InputError(
            "no term of the loss is left: set a weight above zero (the contrastive one needs two views), "
            "or epochs=0 to skip training"
        )
    return losses | {"total": total}

"""The optimizer. ``torch.optim`` loads torch's compiler, 1.5 s of a run that trains for half a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with L2 weight decay, step for step as ``torch.optim.Adam``.

    Parameters
    ----------
    parameters
        What is trained.
    learning_rate, weight_decay
        Step size and weight of the squared norm's gradient.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps = 0
        self.mean = [torch.zeros_like(p) for p in self.parameters]
        self.square = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters against their gradients, and forget these."""
        self.steps += 1
        for parameter, mean, square in zip(self.parameters, self.mean, self.square, strict=True):
            if parameter.grad is None:
                continue
            gradient = parameter.grad.add(parameter, alpha=self.weight_decay)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            scale = (square / (1 - BETAS[1] ** self.steps)).sqrt_().add_(EPSILON)
            parameter.addcdiv_(mean, scale, value=-self.learning_rate / (1 - BETAS[0] ** self.steps))
            parameter.grad = None

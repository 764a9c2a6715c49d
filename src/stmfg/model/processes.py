"""The processes of one run: started by ``torchrun`` or ``fabric run``, joined by Lightning Fabric; else one."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from stmfg.errors import MissingDependencyError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor


class Processes:
    """Who else trains. With one process every method does nothing.

    Parameters
    ----------
    device
        Where the tensors live.
    """

    def __init__(self, device: torch.device) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size == 1:
            return
        try:
            from lightning_fabric import Fabric
        except ImportError as error:
            raise MissingDependencyError(
                'several processes need Lightning Fabric: pip install "stmfg[processes]"'
            ) from error
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        self._fabric: Any = Fabric(accelerator=device.type, devices=here, num_nodes=self.size // here, strategy="ddp")
        with _lost("could not be reached"):
            self._fabric.launch()

    def share(self, value: Any) -> Any:
        """Return the first process's value, for all to use."""
        return value if self.size == 1 else self._collective(lambda: self._fabric.broadcast(value, src=0))

    def share_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of the first process."""
        if self.size > 1:
            for tensor in tensors:
                tensor.data.copy_(self.share(tensor.detach().cpu()))

    def average_gradients_(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by the mean over the processes, in one message."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([g.flatten() for g in gradients])
        mean = self._collective(lambda: self._fabric.all_reduce(flat, reduce_op="mean"))
        for gradient, values in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))

    def _collective(self, call: Callable[[], Any]) -> Any:
        with _lost("was lost"):
            return call()


@contextmanager
def _lost(what: str) -> Iterator[None]:
    """Turn what the network layer raises into one line."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise TrainingError(
            f"another process of this run {what} ({reason}); start all of them again, with --resume to continue"
        ) from error

"""The state of an interrupted training run, in one file that is always whole."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from stmfg._core.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from stmfg.model.network import STMFGNet
    from stmfg.model.train import Adam

logger = logging.getLogger("stmfg")


def fingerprint(settings: list[Any], arrays: Iterable[NDArray[Any]]) -> str:
    """Identify a run by its settings, which JSON can hold, and the arrays it trains on."""
    digest = hashlib.sha256(json.dumps(settings).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A file, and the fingerprint of the run that may continue from it."""

    path: Path
    fingerprint: str

    def save(self, net: STMFGNet, optimizer: Adam, generator: torch.Generator, history: dict[str, list[float]]) -> None:
        """Write the state, whole or not at all."""
        tensors = {f"net.{name}": value.detach() for name, value in net.state_dict().items()}
        for index, (mean, square) in enumerate(zip(optimizer.mean, optimizer.square, strict=True)):
            tensors |= {f"adam.mean.{index}": mean, f"adam.square.{index}": square}
        tensors["generator"] = generator.get_state()
        metadata = {"fingerprint": self.fingerprint, "history": json.dumps(history)}
        with replacing(self.path) as partial:
            partial.write_bytes(to_bytes({k: value.cpu().contiguous() for k, value in tensors.items()}, metadata))

    def restore(
        self, net: STMFGNet, optimizer: Adam, generator: torch.Generator, history: dict[str, list[float]]
    ) -> int:
        """Load the state of the same run and return the epochs done; 0, with a warning, when it is another run's.

        A file that cannot be used changes nothing.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("fingerprint") != self.fingerprint:
                    logger.warning("%s is of a run with other data or options; starting anew", self.path)
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            losses = json.loads(metadata["history"])
            random = tensors["generator"]
            moments = [
                (mean, tensors[f"adam.mean.{i}"], square, tensors[f"adam.square.{i}"])
                for i, (mean, square) in enumerate(zip(optimizer.mean, optimizer.square, strict=True))
            ]
            # The network last: nothing is changed by a file that lacks something.
            net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            logger.warning("%s cannot be read (%s); starting anew", self.path, str(error).splitlines()[0])
            return 0
        for mean, stored_mean, square, stored_square in moments:
            mean.copy_(stored_mean)
            square.copy_(stored_square)
        generator.set_state(random)
        history.update(losses)
        optimizer.steps = done = len(history["total"])
        logger.info("continuing at epoch %d from %s", done + 1, self.path)
        return done

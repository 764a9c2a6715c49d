"""The state of an interrupted training run, in one file that is always whole."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from stmfg._core.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from stmfg.model.adam import Adam
    from stmfg.model.network import STMFGNet

logger = logging.getLogger("stmfg")


def save(
    path: Path,
    fingerprint: str,
    net: STMFGNet,
    optimizer: Adam,
    generator: torch.Generator,
    history: dict[str, list[float]],
) -> None:
    """Write the state, whole or not at all.

    Parameters
    ----------
    path
        The file.
    fingerprint
        Identifies data and options of the run.
    net, optimizer, generator, history
        The state.
    """
    tensors = {f"net.{name}": value.detach() for name, value in net.state_dict().items()}
    for index, (mean, square) in enumerate(zip(optimizer.mean, optimizer.square, strict=True)):
        tensors |= {f"adam.mean.{index}": mean, f"adam.square.{index}": square}
    tensors["generator"] = generator.get_state()
    metadata = {"fingerprint": fingerprint, "history": json.dumps(history)}
    with replacing(path) as written:
        written.write_bytes(to_bytes({name: value.cpu().contiguous() for name, value in tensors.items()}, metadata))


def restore(
    path: Path,
    fingerprint: str,
    net: STMFGNet,
    optimizer: Adam,
    generator: torch.Generator,
    history: dict[str, list[float]],
) -> int:
    """Load the state of the same run and return the epochs done; 0, with a warning, when it is another run's.

    Parameters
    ----------
    path, fingerprint
        As in :func:`save`.
    net, optimizer, generator, history
        Take the state; unchanged by a file that cannot be used.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("fingerprint") != fingerprint:
                logger.warning("%s is of a run with other data or options; starting anew", path)
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
        logger.warning("%s cannot be read (%s); starting anew", path, str(error).splitlines()[0])
        return 0
    for mean, stored_mean, square, stored_square in moments:
        mean.copy_(stored_mean)
        square.copy_(stored_square)
    generator.set_state(random)
    history.update(losses)
    done = len(history["total"])
    optimizer.steps = done
    logger.info("continuing at epoch %d from %s", done + 1, path)
    return done

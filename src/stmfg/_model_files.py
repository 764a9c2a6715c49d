"""Model files: a folder with ``model.safetensors`` (arrays) and ``model.json`` (everything else); never pickle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from stmfg._errors import InputError, StmfgError
from stmfg._features import FeatureMap
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.model import STMFG

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Version of the model files."""
_ARRAYS, _RECORD = "model.safetensors", "model.json"


def save(model: STMFG, folder: Path) -> None:
    """Write a trained model; the record is put in place last, and says which arrays belong to it."""
    feature_map, net = model.fitted()
    arrays = {f"map.{k}": np.asarray(v) for k, v in vars(feature_map).items()}
    arrays |= {f"net.{k}": v.detach().cpu().numpy() for k, v in net.state_dict().items()}
    arrays["decoded"] = model.decoded
    record = {
        "format": FORMAT,
        "version": __version__,
        "config": model.config.to_dict(),
        "random_state": model.random_state,
        "use_rep": model.use_rep,
        "genes": model.genes,
        "spot_size": model.spot_size,
        "n_in": net.n_in,
        "history": model.history,
    }
    folder.mkdir(parents=True, exist_ok=True)
    partial = {name: folder / f".{name}.partial" for name in (_ARRAYS, _RECORD)}
    try:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, partial[_ARRAYS])
        partial[_RECORD].write_text(json.dumps(record, indent=1))
        for name, written in partial.items():
            written.replace(folder / name)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)


def load(folder: Path, device: str) -> STMFG:
    """Read a model, or say in one line why the folder holds none."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        arrays = load_file(folder / _ARRAYS)
        if record["format"] > FORMAT:
            raise InputError(f"{folder} is of format {record['format']}, newer than {FORMAT}; upgrade stmfg")
        model = STMFG(Config(**record["config"]), random_state=record["random_state"], device=device)
        model.genes, model.use_rep, model.history = list(record["genes"]), record["use_rep"], record["history"]
        model.decoded, model.spot_size = arrays["decoded"], float(record["spot_size"])
        parts: dict[str, Any] = {k.removeprefix("map."): v for k, v in arrays.items() if k.startswith("map.")}
        parts["target_sum"] = float(parts["target_sum"].item())
        model.feature_map = FeatureMap(**parts)
        state = {k.removeprefix("net."): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("net.")}
        counts = "decoder.mean.weight" in state
        n_out = len(state["decoder.mean.weight" if counts else "decoder.weight"])
        model.net = model.build(int(record["n_in"]), n_out, counts=counts)
        model.net.load_state_dict(state)
        model.net.eval()
    except StmfgError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder} holds no readable stMFG model ({reason}); save one with model.save") from error
    return model

"""Model files: a folder with ``model.safetensors`` (arrays) and ``model.json`` (everything else); never pickle.

The same two parts are kept in ``uns`` of every result, so that a result is a model too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from stmfg._core.files import replacing
from stmfg._keys import UNS
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.errors import InputError, StmfgError
from stmfg.model.features import FeatureMap
from stmfg.model.network import build_network
from stmfg.model.plugins import Plugins
from stmfg.model.transfer import DomainMap

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stmfg._core.annotated import Annotated
    from stmfg.model.estimator import STMFG

    Arrays = dict[str, Any]

FORMAT = 3
"""Version of the model files. The network of format 3 learns from held-out molecules and has other parts."""
_ARRAYS, _RECORD, _RESULT = "model.safetensors", "model.json", "result.h5ad"


def packed(model: STMFG) -> dict[str, Any]:
    """Return a trained model as ``record``, JSON text, and ``arrays`` by name."""
    net = model.fitted()
    arrays: Arrays = {}
    for name, feature_map in model.maps.items():
        arrays |= {f"{_prefix(name)}{k}": _storable(v) for k, v in vars(feature_map).items()}
    arrays |= {f"net.{k}": v.detach().cpu().numpy() for k, v in net.state_dict().items()}
    arrays["decoded"] = model.decoded
    names: tuple[str, ...] = ()
    if model.domain_map is not None:
        names = model.domain_map.names
        arrays |= {f"domain.{k}": np.asarray(v) for k, v in replace(model.domain_map, names=()).to_dict().items()}
    record = {
        "format": FORMAT,
        "version": __version__,
        "config": model.config.to_dict(),
        "n_domains": model.n_domains,
        "domain_names": names,
        "random_state": model.random_state,
        "use_rep": model.use_rep,
        "genes": model.genes,
        "spot_size": model.spot_size,
        "n_in": net.n_in,
        "history": model.history,
    }
    return {"record": json.dumps(record, indent=1), "arrays": arrays}


def save(model: STMFG, folder: Path) -> None:
    """Write a trained model; the record is put in place last, and says which arrays belong to it."""
    parts = packed(model)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _RECORD) as record, replacing(folder / _ARRAYS) as arrays:
        record.write_text(parts["record"])
        arrays.write_bytes(to_bytes({k: np.ascontiguousarray(v) for k, v in parts["arrays"].items()}))


def load(model_class: type[STMFG], source: str | Path | Annotated, device: str, plugins: dict[str, Any]) -> STMFG:
    """Read a model, or say in one line why there is none."""
    path = Path(source).expanduser() if isinstance(source, (str, Path)) else None
    name = "the AnnData" if path is None else str(path)
    try:
        if path is None:
            text, arrays = _of_result(source.uns.get(UNS, {}), name)  # type: ignore[union-attr]
        elif path.is_file() or (path / _RESULT).is_file():
            text, arrays = _of_result(_read_uns(path if path.is_file() else path / _RESULT), name)
        else:
            text, arrays = (path / _RECORD).read_text(), load_file(path / _ARRAYS)
        record = json.loads(text)
        return _unpack(model_class, record, arrays, device, plugins, name)
    except StmfgError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} holds no readable stMFG model ({reason}); save one with model.save") from error


def _read_uns(path: Path) -> dict[str, Any]:
    """Read what stMFG left in ``uns`` of an ``.h5ad``, and nothing else of it."""
    import h5py

    def read(node: Any) -> Any:
        if isinstance(node, h5py.Group):
            return {name: read(child) for name, child in node.items()}
        return node.asstr()[()] if h5py.check_string_dtype(node.dtype) else node[()]

    with h5py.File(path) as file:
        return {key: read(file[f"uns/{UNS}/{key}"]) for key in ("model", "domain_map") if f"uns/{UNS}/{key}" in file}


def _of_result(record: dict[str, Any], name: str) -> tuple[str, Arrays]:
    """Return the parts of the model in a result, with the domains found last."""
    if "model" not in record:
        raise InputError(f"{name} holds no model; give a result of this version of stmfg: run it on the data again")
    arrays = {k: np.asarray(v) for k, v in record["model"]["arrays"].items()}
    return str(record["model"]["record"]), arrays | {f"domain.{k}": v for k, v in record.get("domain_map", {}).items()}


def _unpack(
    model_class: type[STMFG], record: dict[str, Any], arrays: Arrays, device: str, plugins: dict[str, Any], name: str
) -> STMFG:
    if record["format"] > FORMAT:
        raise InputError(f"{name} is of format {record['format']}, newer than {FORMAT}; upgrade stmfg")
    if record["format"] < FORMAT:
        raise InputError(f"{name} was made by stmfg {record['version']}, whose network was another; fit it again")
    try:
        config = Config.from_dict(record["config"])
    except InputError as error:
        raise ValueError(str(error)) from error
    model = model_class(config, n_domains=record.get("n_domains"), random_state=record["random_state"], device=device)
    model.plugins = Plugins.of(config, plugins, name)
    model.genes, model.use_rep, model.history = list(record["genes"]), record["use_rep"], record["history"]
    model.decoded, model.spot_size = arrays["decoded"], float(record["spot_size"])
    model.maps = {name: _feature_map(_prefix(name), arrays) for name in ("feature", *model.config.extra_views)}
    names = record.get("domain_names", ())
    model.domain_map = DomainMap.of({"names": names} | _below("domain.", arrays)) if "domain.means" in arrays else None
    state = {k: torch.from_numpy(v) for k, v in _below("net.", arrays).items()}
    counts = "decoder.mean.weight" in state
    n_out = len(state["decoder.mean.weight" if counts else "decoder.weight"])
    n_libraries = len(state.get("decoder.library.weight", [()]))
    options = {"counts": counts, "n_libraries": n_libraries, "fusion": model.plugins.fusion}
    net = build_network(config, int(record["n_in"]), n_out, random_state=model.random_state, **options)
    model.net = net.to(model.device)
    model.net.load_state_dict(state)
    model.net.eval()
    return model


def _feature_map(prefix: str, arrays: Arrays) -> FeatureMap:
    parts = _below(prefix, arrays)
    parts |= {"target_sum": float(parts["target_sum"].item()), "mixtures": bool(parts["mixtures"].item())}
    return FeatureMap(**parts | {"joining": parts["joining"].astype(bool)})


def _storable(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    return array.astype(np.uint8) if array.dtype == bool else array


def _prefix(view: str) -> str:
    return "map." if view == "feature" else f"view.{view}."


def _below(prefix: str, arrays: Arrays) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

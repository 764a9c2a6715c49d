"""Parts of the model that a user brings along: a clusterer, a fusion of the views, terms of the loss."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmfg.config import PLUG_IN
from stmfg.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stmfg.config import Config
    from stmfg.model.batches import Batch
    from stmfg.model.network import Encoded

    Loss = Callable[[Encoded, Batch], Tensor]

logger = logging.getLogger("stmfg")

Clusterer = Callable[..., NDArray[Any]]
"""Takes an embedding (n, d), a number of clusters k and ``random_state``; returns labels (n,) or posteriors (n, k)."""


@dataclass(frozen=True)
class Plugins:
    """What was given as callables; the options of :class:`stmfg.Config` hold their names."""

    clusterer: Clusterer | None = None
    fusion: Callable[[int], nn.Module] | None = None
    """Makes the fusion of a layer from its width d: a module from views (n, v, d) to fused (n, d), weights (n, v)."""
    extra_losses: tuple[Loss, ...] = ()
    """Each is added to the loss, under the name of its function."""

    @classmethod
    def split(cls, options: dict[str, Any]) -> tuple[Plugins, dict[str, Any]]:
        """Take the callables out of options, and put their names in their place."""
        options, given = dict(options), dict[str, Any]()
        for name in ("clusterer", "fusion"):
            if callable(options.get(name)):
                given[name] = options[name]
                options[name] = PLUG_IN + _full_name(options[name])
        losses = options.get("extra_losses", ())
        if callable(losses) or (losses and all(map(callable, losses))):
            given["extra_losses"] = (losses,) if callable(losses) else tuple(losses)
            options["extra_losses"] = tuple(map(_full_name, given["extra_losses"]))
        plugins = cls(**given)
        if len(set(plugins.loss_names)) < len(plugins.loss_names):
            raise InputError(f"extra_losses have the names {', '.join(plugins.loss_names)}; give each its own")
        return plugins, options

    @classmethod
    def of(cls, config: Config, options: dict[str, Any], name: str) -> Plugins:
        """Return the plug-ins of a saved model, which must be those whose names it holds, its fusion among them."""
        plugins, names = cls.split(options)
        for option, given in names.items():
            if given != getattr(config, option, None):
                raise InputError(f"{name} has {option}={getattr(config, option, None)!r}, not {given!r}; leave it out")
        if missing := plugins.missing(config):
            again = (
                f"{name} was made with {', '.join(missing)}, which must be given again: STMFG.load(path, fusion=...)"
            )
            if plugins.fusion is None and config.fusion.startswith(PLUG_IN):
                raise InputError(again)
            logger.warning("%s, before it can be fitted anew", again)
        return plugins

    @property
    def loss_names(self) -> list[str]:
        """Names of the extra terms of the loss, as in the history."""
        return [_name(loss) for loss in self.extra_losses]

    def missing(self, config: Config) -> list[str]:
        """Return the options that name a plug-in which was not given, as ``name='module.function'``."""
        names = [name for name in ("clusterer", "fusion") if getattr(config, name).startswith(PLUG_IN)]
        names += ["extra_losses"] if config.extra_losses else []
        return [f"{name}={getattr(config, name)!r}" for name in names if not getattr(self, name)]


NO_PLUGINS = Plugins()


def cluster_with(clusterer: Clusterer, x: NDArray[Any], k: int, random_state: int) -> NDArray[np.float64]:
    """Return the posterior (n, k) of a user's clusterer, which may return labels."""
    result = np.asarray(clusterer(x, k, random_state=random_state))
    if result.shape == (len(x),) and result.dtype.kind in "iu" and result.min() >= 0 and result.max() < k:
        return np.asarray(np.eye(k)[result])
    if result.shape == (len(x), k) and result.dtype.kind == "f":
        return np.asarray(result)
    raise InputError(
        f"the clusterer {_full_name(clusterer)} returned {result.dtype} of shape {result.shape}; "
        f"it must return labels from 0 to {k - 1}, shape ({len(x)},), or posteriors, shape ({len(x)}, {k})"
    )


def _name(part: Any) -> str:
    return str(getattr(part, "__name__", type(part).__name__))


def _full_name(part: Any) -> str:
    return f"{getattr(part, '__module__', '')}.{_name(part)}"

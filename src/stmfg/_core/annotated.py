"""What stMFG reads of an AnnData, for code that takes one without importing anndata."""

from __future__ import annotations

from typing import Any, Protocol


class Annotated(Protocol):
    """The elements of an AnnData that are read."""

    X: Any
    obs: Any
    var: Any
    obsm: Any
    obsp: Any
    layers: Any
    raw: Any
    uns: Any
    obs_names: Any
    var_names: Any

    @property
    def n_obs(self) -> int:
        """Number of observations."""

    @property
    def n_vars(self) -> int:
        """Number of genes."""

    @property
    def isbacked(self) -> bool:
        """Whether X stays in the file."""

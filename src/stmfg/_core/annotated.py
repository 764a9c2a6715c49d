"""AnnData under a name that code may use which must not import anndata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData as Annotated
else:
    Annotated = Any

__all__ = ["Annotated"]

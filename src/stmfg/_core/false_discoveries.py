"""Many tests at once: ``scipy.stats`` has this too, but takes 0.4 s to load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def adjust_p(p: NDArray[Any]) -> NDArray[np.float64]:
    """Return p-values (n,) adjusted to the false discovery rate (Benjamini and Hochberg 1995)."""
    order = np.argsort(-p, kind="stable")
    scaled = p[order] * len(p) / np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return adjusted

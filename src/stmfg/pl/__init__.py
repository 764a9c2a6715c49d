"""Figures of a result. Every function draws on the given axes, or on new ones, and returns them."""

from stmfg.pl._charts import loss, markers, n_domains, view_weights
from stmfg.pl._maps import confidence, differences, domains, embedding
from stmfg.pl._study import abundance

__all__ = [
    "abundance",
    "confidence",
    "differences",
    "domains",
    "embedding",
    "loss",
    "markers",
    "n_domains",
    "view_weights",
]

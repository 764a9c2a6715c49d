"""Figures of a result. Every function draws on the given axes, or on new ones, and returns them."""

from stmfg.pl._figures import confidence, domains, embedding, loss, markers, n_domains, view_weights

__all__ = ["confidence", "domains", "embedding", "loss", "markers", "n_domains", "view_weights"]

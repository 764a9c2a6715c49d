"""The report: one HTML file that needs nothing else; and the page over all samples of a batch."""

from stmfg.report._page import render, write

__all__ = ["render", "write"]

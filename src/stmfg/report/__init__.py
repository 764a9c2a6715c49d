"""The report: one HTML file that needs nothing else; and the page over all samples of a sheet."""

from stmfg.report._genes import remove_genes as remove_genes
from stmfg.report._overview import write_overview as write_overview
from stmfg.report._page import write
from stmfg.report._sentences import describe_stability as describe_stability

__all__ = ["write"]

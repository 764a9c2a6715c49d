"""The report: one HTML file that needs nothing else; and the page over all samples of a sheet."""

from stmfg.report._genes import remove_genes
from stmfg.report._overview import write_overview
from stmfg.report._page import write
from stmfg.report._sentences import describe_stability

__all__ = ["describe_stability", "remove_genes", "write", "write_overview"]

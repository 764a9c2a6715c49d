"""What a user calls on an AnnData: embed, domains, apply, and what is done with domains once they are found."""

from stmfg.tl._abundance import abundance, composition
from stmfg.tl._after import adjacency, markers, pseudobulk, subdomains
from stmfg.tl._compare import compare
from stmfg.tl._domains import apply, domains, embed
from stmfg.tl._edit import merge, recolour, rename, split
from stmfg.tl._levels import cut, levels
from stmfg.tl._summary import summary

__all__ = [
    "abundance",
    "adjacency",
    "apply",
    "compare",
    "composition",
    "cut",
    "domains",
    "embed",
    "levels",
    "markers",
    "merge",
    "pseudobulk",
    "recolour",
    "rename",
    "split",
    "subdomains",
    "summary",
]

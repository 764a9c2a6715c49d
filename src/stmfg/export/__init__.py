"""Domains for other programs: Loupe Browser, Xenium Explorer, and whatever reads SpatialData, such as napari."""

from stmfg.export._write import loupe, spatialdata, xenium_explorer

__all__ = ["loupe", "spatialdata", "xenium_explorer"]

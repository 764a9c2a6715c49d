"""Every AnnData key stMFG reads or writes, and the record of a run in ``uns``.

The names are a contract with users: other tools and saved files rely on them.
"""

from __future__ import annotations

from typing import Final

SPATIAL: Final = "spatial"
"""``obsm``: (x, y) of each observation."""
COUNTS: Final = "counts"
"""``layers``: raw counts, used instead of ``X`` when present."""
PLATFORM: Final = "spatial_platform"
"""``uns``: which instrument a folder was read as, why, what was taken from it, and the unit of the positions."""

SLICE: Final = "stmfg_slice"
"""``obs``: name of the slice, where several inputs were put together."""
DOMAIN: Final = "stmfg_domain"
"""``obs``: domain of each observation, string categories ``"1"``, ``"2"``, ..."""
CONFIDENCE: Final = "stmfg_confidence"
"""``obs``: confidence of that domain, float32 in 0..1."""
UNLIKE: Final = "stmfg_unlike"
"""``obs``, of a slice a model was applied to: share of the spots it was trained on that are more typical, 0..1."""
COLORS: Final = "_colors"
"""``uns``: after the name of a column of domains, colours of its categories, where scanpy and squidpy look for them."""
SUBDOMAIN: Final = "stmfg_subdomain"
"""``obs``: domains with one of them split, on request."""
EMBEDDING: Final = "X_stmfg"
"""``obsm``: embedding, float32 (n, d)."""
VIEW_WEIGHTS: Final = "stmfg_view_weights"
"""``obsm``: attention per layer and view, float32 (n, layers * views); columns named in ``uns``."""
DENOISED: Final = "stmfg_denoised"
"""``layers``: denoised expression, float32, on request."""
FEATURES: Final = "X_stmfg_input"
"""``obsm``: the network's input features, float32 (n, d)."""
IMAGE_FEATURES: Final = "stmfg_image"
"""``obsm``: colour and texture of the tissue image around each observation, float32 (n, 12)."""
HIGHLY_VARIABLE: Final = "stmfg_highly_variable"
"""``var``: genes the model is trained on."""

SPATIAL_GRAPH: Final = "spatial_connectivities"
"""``obsp``: spatial graph, named as squidpy names it and reused when present."""
FEATURE_GRAPH: Final = "stmfg_feature_connectivities"
"""``obsp``: expression graph."""

MARKERS: Final = "stmfg_markers"
"""``uns``: table of marker genes, on request."""
ADJACENCY: Final = "stmfg_adjacency"
"""``uns``: table of domains that touch, on request."""
SPATIALDATA: Final = "spatialdata_attrs"
"""``uns``: which elements a table of SpatialData annotates, as SpatialData names it."""
REGION: Final = "stmfg_region"
"""``obs`` of a table of SpatialData that we write: the element that the row belongs to."""
INSTANCE: Final = "stmfg_instance"
"""``obs`` of a table of SpatialData that we write: its name in that element."""
UNS: Final = "stmfg"
"""``uns``: parameters with seed, loss history, names of the view-weight columns, version."""

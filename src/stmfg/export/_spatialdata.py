"""SpatialData objects with domains in them: that of a store, or one made of the spots of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from stmfg._core import checks
from stmfg._core.labels import labels
from stmfg._core.spots import spots
from stmfg._keys import COLORS, CONFIDENCE, DOMAIN, EMBEDDING, INSTANCE, REGION, SPATIALDATA, UNS, VIEW_WEIGHTS
from stmfg.errors import InputError
from stmfg.io.spatialdata_elements import GLOBAL, package, read_store


def add_domains(adata: AnnData, source: Path, name: str | None, key: str) -> Any:
    """Return a SpatialData object like that in `source` whose table has the domains of `adata`."""
    store = read_store(source.expanduser())
    tables = ", ".join(store.tables) or "none"
    if name is None and len(store.tables) != 1:
        raise InputError(f"{source} has several tables or none ({tables}); name the one to write to with table")
    if name is not None and name not in store.tables:
        raise InputError(f"{source} has no table {name!r}; name one of these: {tables}")
    table = next(iter(store.tables.values())) if name is None else store.tables[name]
    rows = _rows(adata, table, source)
    domains = labels(adata, key)
    codes = np.full(table.n_obs, -1)
    codes[rows] = domains.codes
    table.obs[key] = pd.Categorical.from_codes(codes, categories=domains.categories)
    confidence = CONFIDENCE if key == DOMAIN else f"{key}_confidence"
    if confidence in adata.obs:
        table.obs[confidence] = _spread(adata.obs[confidence].to_numpy(np.float32), rows, table.n_obs)
    for name in {EMBEDDING, VIEW_WEIGHTS} & set(adata.obsm):
        table.obsm[name] = _spread(np.asarray(adata.obsm[name]), rows, table.n_obs)
    for name in {UNS, f"{key}{COLORS}"} & set(adata.uns):
        table.uns[name] = adata.uns[name]
    return store


def from_spots(adata: AnnData, library_key: str | None) -> Any:
    """Return a SpatialData object of the spots, the image under them, and `adata` as the table."""
    sd = package()
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Identity

    checks.names(adata)
    drawn = spots(adata)
    slices = np.full(adata.n_obs, "spots") if library_key is None else checks.library_names(adata, library_key)
    regions = {name: sd.sanitize_name(name) for name in map(str, np.unique(slices))}
    shapes, images = {}, {}
    for name, region in regions.items():
        members = slices == name
        if region in shapes:
            raise InputError(f"{region!r} would name two slices of obs[{library_key!r}]; give them other names")
        options: dict[str, Any] = {"geometry": 0, "radius": drawn.diameter / 2, "index": adata.obs_names[members]}
        options["transformations"] = {GLOBAL if library_key is None else name: Identity()}
        circles = ShapesModel.parse(drawn.xy[members], **options)
        if drawn.square:
            circles["geometry"] = circles.buffer(drawn.diameter / 2, cap_style="square")
            circles = ShapesModel.parse(circles.drop(columns="radius"))
        shapes[region] = circles
    if drawn.image is not None and library_key is None:
        left, right, _, top = drawn.extent
        scale = (right - left) / drawn.image.shape[1]
        onto = Affine([[scale, 0, left], [0, scale, top], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
        pixels = np.moveaxis(drawn.image, 2, 0)
        images["image"] = Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations={GLOBAL: onto})
    table = adata.copy()
    table.uns.pop(SPATIALDATA, None)  # of a store it was read from
    sd.sanitize_table(table)  # keys in SpatialData have no spaces and the like
    table.obs[REGION] = pd.Categorical([regions[name] for name in slices])
    table.obs[INSTANCE] = adata.obs_names.to_numpy(dtype=object)
    table = TableModel.parse(table, region=list(shapes), region_key=REGION, instance_key=INSTANCE)
    return sd.SpatialData(images=images, shapes=shapes, tables={"table": table})


def _rows(adata: AnnData, table: AnnData, source: Path) -> NDArray[np.intp]:
    """Find the row of the table for each observation, by its name or by what the table calls its instance."""
    checks.names(adata)
    candidates = [table.obs_names]
    instance = table.uns.get(SPATIALDATA, {}).get("instance_key")
    if instance in table.obs:
        candidates.append(pd.Index(table.obs[instance].astype(str)))
    if SPATIALDATA not in adata.uns:  # not read from SpatialData: what the instrument calls its cells comes first
        candidates.reverse()
    matches = [names.get_indexer(adata.obs_names) for names in candidates if names.is_unique]
    best = max(matches, key=lambda rows: int((rows >= 0).sum()), default=np.full(adata.n_obs, -1))
    missing = int((best < 0).sum())
    if missing:
        first, theirs = adata.obs_names[best < 0][0], table.obs_names[0]
        raise InputError(
            f"{source} does not have {missing} of {adata.n_obs} spots of the result (first {str(first)!r}, "
            f"its own are like {str(theirs)!r}); give the store that the result was made from"
        )
    return np.asarray(best)


def _spread(values: NDArray[Any], rows: NDArray[np.intp], n: int) -> NDArray[Any]:
    """Put values into their rows of n, NaN elsewhere."""
    whole = np.full((n, *values.shape[1:]), np.nan, dtype=values.dtype)
    whole[rows] = values
    return whole

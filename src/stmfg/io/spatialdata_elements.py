"""Reading SpatialData with its own package, for what its table alone does not say: where the rows lie.

The package is heavy and optional, so it is imported on use.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmfg._keys import SPATIAL, SPATIALDATA
from stmfg.errors import InputError, MissingDependencyError, reason, require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("stmfg")

GLOBAL: Final = "global"
"""The coordinate system that SpatialData puts elements in where nothing else is said."""


def package() -> Any:
    """Import spatialdata, or say how to get it."""
    try:
        import spatialdata
    except ImportError as error:
        raise MissingDependencyError(
            f'this needs spatialdata, which cannot be imported ({error}); pip install "stmfg[spatialdata]"'
        ) from error
    return spatialdata


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what spatialdata and the packages below it tell their developers."""
    theirs = logging.getLogger("spatialdata")
    level = theirs.level
    theirs.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        theirs.setLevel(level)


def read_store(store: Path, **options: Any) -> Any:
    """Read a SpatialData store; images stay on disk."""
    sd = package()
    if not (store / "tables").is_dir():
        raise InputError(f"{store} is no SpatialData store with a table; give the .zarr that the result was made from")
    try:
        return sd.read_zarr(store, **options)
    except Exception as error:  # of many kinds, as many as there are packages below
        fix = "check that the copy is complete"
        raise InputError(f"{store} as SpatialData cannot be read ({reason(error)}); {fix}") from error


def place_by_elements(table: AnnData, store: Path) -> dict[str, str]:
    """Give a table of a store the centres of the elements that it annotates, as ``obsm["spatial"]``.

    Returns the coordinate system of the positions of each element.
    """
    of_region = {}
    attrs = table.uns[SPATIALDATA]
    logger.info("%s: its table has no positions; the centres of the elements it annotates are used", store)
    with quiet():
        sd = package()
        elements = read_store(store, selection=("shapes", "labels", "points"))
        regions, instances = (
            require(table, "obs", attrs[name], "write the table again with spatialdata").astype(str).to_numpy()
            for name in ("region_key", "instance_key")
        )
        xy = np.full((table.n_obs, 2), np.nan)
        for region in np.unique(regions):
            if region not in elements:
                raise InputError(f"{store} has no element {region!r}, which its table annotates; put (x, y) in obsm")
            element = elements[region]
            systems = sd.transformations.get_transformation(element, get_all=True)
            system = of_region[str(region)] = GLOBAL if GLOBAL in systems else str(next(iter(systems)))
            centres = sd.get_centroids(element, coordinate_system=system).compute()
            rows = regions == region
            xy[rows] = centres.set_axis(centres.index.astype(str))[["x", "y"]].reindex(instances[rows])
    table.obsm[SPATIAL] = xy
    return of_region

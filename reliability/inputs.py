"""Small inputs of every kind that stMFG reads, as their writers leave them."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anndata import AnnData

from stmfg.datasets import simulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from _data import write_space_ranger
from _platforms import WRITERS, write_cosmx, write_curio, write_gem, write_matched_slideseq, write_square_gef
from _tenx import write_aggregated, write_hd_cells, write_xenium

N_SPOTS, N_GENES, N_DOMAINS = 300, 100, 4
QUICK: dict[str, Any] = {"epochs": 2, "n_votes": 1, "n_starts": 1}
"""Hyperparameters of a run of a second; what is checked here does not depend on how good the domains are."""


def tissue(n: int = N_SPOTS, genes: int = N_GENES, *, seed: int = 1, **options: Any) -> AnnData:
    """Return simulated tissue with four clear domains."""
    return simulate(n, genes, n_domains=N_DOMAINS, difficulty=0.3, random_state=seed, **options)


def write_zarr(adata: AnnData, path: Path, version: int) -> None:
    """Write a zarr store of either format."""
    import anndata

    with anndata.settings.override(zarr_write_format=version), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata.write_zarr(path)


def _spatialdata(folder: Path) -> None:
    write_zarr(tissue(), folder / "input.zarr" / "tables" / "table", 3)
    (folder / "input.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


def _spatialdata_image(folder: Path) -> None:
    """Write a store with an image and the circles that its table annotates, by their form on disk."""
    import numpy as np
    import pyarrow as pa
    import zarr
    from pyarrow import parquet

    store, adata = folder / "input.zarr", tissue()
    adata.uns["spatialdata_attrs"] = {"region": "spots", "region_key": "region", "instance_key": "instance"}
    write_zarr(adata, store / "tables" / "table", 3)
    axes = {"axes": [{"name": name} for name in "xy"], "name": "xy"}
    onto = {"type": "scale", "scale": [2.0, 2.0], "input": axes, "output": axes | {"name": "global"}}
    zarr.open_group(store / "shapes" / "spots", mode="w").attrs["coordinateTransformations"] = [onto]
    low, high = adata.obsm["spatial"].min(axis=0), adata.obsm["spatial"].max(axis=0)
    geo = {"primary_column": "geometry", "columns": {"geometry": {"bbox": [*low.tolist(), *high.tolist()]}}}
    table = pa.table({"radius": np.ones(adata.n_obs)}).replace_schema_metadata({"geo": json.dumps(geo)})
    parquet.write_table(table, store / "shapes" / "spots" / "shapes.parquet")
    image = zarr.open_group(store / "images" / "he", mode="w")
    image["0"] = np.zeros((3, *(2 * high[::-1].astype(int) + 9)), dtype=np.uint8)
    channels = {"axes": [{"name": name} for name in "cyx"], "name": "cyx"}
    still = {"type": "identity", "input": channels, "output": channels | {"name": "global"}}
    levels = {"axes": channels["axes"], "datasets": [{"path": "0"}], "coordinateTransformations": [still]}
    image.attrs["ome"] = {"multiscales": [levels]}


def _h5ad_gz(folder: Path) -> None:
    tissue().write_h5ad(folder / "plain.h5ad")
    _compress(folder / "plain.h5ad", folder / "input.h5ad.gz")


def _zarr_zip(folder: Path, write: Callable[[Path], None] = _spatialdata) -> None:
    write(folder)
    shutil.make_archive(str(folder / "input.zarr"), "zip", folder / "input.zarr")
    shutil.rmtree(folder / "input.zarr")


def _compressed(folder: Path) -> None:
    WRITERS["visium"](folder / "input", tissue())
    for path in [p for p in (folder / "input").rglob("*") if p.is_file()]:
        _compress(path, path.with_name(path.name + ".gz"))


def _compress(path: Path, target: Path) -> None:
    target.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def _instrument(write: Callable[[Path, AnnData], Any]) -> Callable[[Path], None]:
    return lambda folder: write(folder / "input", tissue())


KINDS: dict[str, Callable[[Path], Any]] = {
    "h5ad": lambda folder: tissue().write_h5ad(folder / "input.h5ad"),
    "zarr 2": lambda folder: write_zarr(tissue(), folder / "input.zarr", 2),
    "zarr 3": lambda folder: write_zarr(tissue(), folder / "input.zarr", 3),
    "spatialdata": _spatialdata,
    "spatialdata with an image": _spatialdata_image,
    "visium h5": lambda folder: write_space_ranger(folder / "input", 1),
    "visium mtx": lambda folder: write_space_ranger(folder / "input", 2, zipped=False),
    "visium mtx.gz": lambda folder: write_space_ranger(folder / "input", 3),
    "xenium text": _instrument(lambda folder, adata: write_xenium(folder, adata, h5=False, parquet=False)),
    "stereoseq squares": _instrument(lambda folder, adata: write_square_gef(folder / "C04.tissue.gef", adata, (50,))),
    "stereoseq text": _instrument(lambda folder, adata: write_gem(folder / "C04.tissue.gem", adata)),
    "stereoseq text.gz": _instrument(lambda folder, adata: write_gem(folder / "C04.gem.gz", adata, cells=True)),
    "slideseq matched": _instrument(write_matched_slideseq),
    "slideseq curio": _instrument(write_curio),
    "visium aggregated": _instrument(write_aggregated),
    "visiumhd cells": _instrument(write_hd_cells),
    "h5ad.gz": _h5ad_gz,
    "zarr.zip": _zarr_zip,
    "zarr.zip with an image": lambda folder: _zarr_zip(folder, _spatialdata_image),
    "cosmx text": _instrument(lambda folder, adata: write_cosmx(folder, adata, gz=False, beside=True)),
    "stereoseq release": _instrument(lambda f, adata: write_gem(f / "GEM_CellBin.tsv", adata, cells=True, new=False)),
    "visium, all compressed": _compressed,
    **{name: _instrument(write) for name, write in WRITERS.items()},
}
"""What writes ``input``, ``input.h5ad`` or ``input.zarr`` into a folder, by kind."""


def record(path: Path, **options: Any) -> Path:
    """Write the record of a quick run, which ``stmfg run --from`` takes the options from."""
    from stmfg.config import Config

    given = {"n_domains": N_DOMAINS, "preset": "default", "random_state": 0} | options
    said = {"version": "0.1.0", "input": "none", "options": given, "params": Config(**QUICK).to_dict()}
    path.write_text(json.dumps(said))
    return path

"""Neighbourhoods are narrow where layers are a spot or two wide, and wide elsewhere."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import stmfg

N_LAYERS = 4


def make_layers(width: int, *, seed: int = 0) -> ad.AnnData:
    """Return a square grid of 24 x 24 spots in layers of so many spots, over and over; ``obs["layer"]`` says which."""
    rng = np.random.default_rng(seed)
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(24), np.arange(24)))
    layer = x // width % N_LAYERS
    profiles = rng.gamma(2.0, size=(N_LAYERS, 150))
    depth = rng.lognormal(0, 0.3, (len(x), 1))
    counts = rng.poisson(depth * 2 * profiles[layer]).astype(np.float32)
    obs = pd.DataFrame({"layer": layer.astype(str)}, index=[f"spot{i}" for i in range(len(x))])
    return ad.AnnData(counts, obs=obs, obsm={"spatial": np.column_stack([x, y]) * 100.0})


def find(adata: ad.AnnData, **options: object) -> tuple[str, float]:
    """Return which neighbourhoods a run took, and how well it found the layers."""
    stmfg.tl.domains(adata, n_domains=N_LAYERS, redraws=0, finest_level=0, epochs=5, **options)
    scores = stmfg.metrics.compare(adata.obs["layer"], adata.obs["stmfg_domain"])
    return adata.uns["stmfg"]["params"]["neighborhoods"], float(scores.ari)


def test_layers_two_spots_wide_are_found_in_narrow_neighbourhoods() -> None:
    chosen, ari = find(make_layers(2))
    assert chosen == "narrow"
    assert ari > 0.9
    assert find(make_layers(2), neighborhoods="wide")[1] < ari - 0.1


def test_wide_layers_are_found_in_wide_neighbourhoods() -> None:
    chosen, ari = find(make_layers(6))
    assert chosen == "wide"
    assert ari > 0.9


@pytest.mark.parametrize("width", [2, 6])
def test_rotation_and_order_of_the_spots_change_nothing(width: int) -> None:
    adata = make_layers(width)
    turned = adata[::-1].copy()
    turned.obsm["spatial"] = turned.obsm["spatial"] @ np.array([[0.6, -0.8], [0.8, 0.6]]) * 3
    assert find(adata)[0] == find(turned)[0]
    domains, again = (part.obs["stmfg_domain"] for part in (adata, turned[adata.obs_names]))
    assert stmfg.metrics.compare(domains, again).ari > 0.99  # equally large ones may swap their names


def test_what_is_given_is_kept() -> None:
    adata = make_layers(2)
    assert find(adata, spatial_neighbors=12)[0] == "narrow"
    assert adata.uns["stmfg"]["params"]["spatial_neighbors"] == 12
    linked = make_layers(2)
    stmfg.gr.spatial(linked)
    graph = linked.obsp["spatial_connectivities"].copy()
    assert find(linked)[0] == "narrow"
    assert (linked.obsp["spatial_connectivities"] != graph).nnz == 0
    assert find(make_layers(6), neighborhoods="narrow")[0] == "narrow"


def test_domains_of_the_same_embedding_keep_what_was_decided() -> None:
    adata = make_layers(2)
    find(adata)
    first = adata.obs["stmfg_domain"].copy()
    find(adata, preset="default")
    assert (first == adata.obs["stmfg_domain"]).all()
    model = stmfg.STMFG.load(adata)
    assert model.config.neighborhoods == "narrow"
    assert set(model.predict(adata)) == set(first)

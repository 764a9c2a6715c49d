"""Data written in good form that say something bad."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from reliability.inputs import tissue, write_zarr
from reliability.payloads import MARK, NASTY, NUMBERS, Random, pick


def annotated(path: Path, random: Random) -> None:
    """Write data with hostile names or impossible values, in good form."""
    adata = tissue(seed=int(random.integers(100)))
    for _ in range(int(random.integers(1, 4))):
        with suppress(Exception):  # nothing is left to change
            pick(random, HOSTILE)(adata, random)
    written = path.with_name("written")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_zarr(adata, written, int(random.integers(2, 4))) if path.is_dir() else adata.write_h5ad(written)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    written.rename(path)


def _gene_names(adata: AnnData, random: Random) -> None:
    adata.var_names = [pick(random, NASTY) + (str(i) if random.integers(2) else "") for i in range(adata.n_vars)]


def _spot_names(adata: AnnData, random: Random) -> None:
    adata.obs_names = [pick(random, NASTY) + str(i) for i in range(adata.n_obs)]


def _columns(adata: AnnData, random: Random) -> None:
    name = pick(random, [n for n in NASTY if n.strip("/. ") and "/" not in n] + ["stmfg_domain", "domain", "spot"])
    adata.obs[name] = pd.Categorical([pick(random, NASTY) for _ in range(adata.n_obs)])
    adata.uns[name + "_colors"] = [pick(random, [*NASTY, "red", "#12345"]) for _ in range(4)]


def _colours(adata: AnnData, random: Random) -> None:
    adata.uns["stmfg_domain_colors"] = [
        pick(random, ["red", f'red"><script>{MARK}</script>', "url(//x)"]) for _ in range(4)
    ]
    if random.integers(3) == 0:
        adata.uns["stmfg_domain_colors"] = pick(random, [3, "red", {"a": 1}])


def _positions(adata: AnnData, random: Random) -> None:
    xy = np.array(adata.obsm["spatial"])
    rows = random.integers(len(xy), size=int(pick(random, [1, 1, 50])))
    way = random.integers(8)
    if way < 3:
        xy[rows, int(random.integers(2))] = pick(random, NUMBERS)
    elif way == 3:
        xy[rows] = xy[0]
    elif way == 4:
        xy[:, 0] = 0
    elif way == 5:
        xy = xy * pick(random, [1e-300, 1e-30, 1e30, 1e200])
    else:
        forms = [xy[:, :1], np.hstack([xy, xy]), np.hstack([xy, xy[:, :1]]), xy.astype("f2"), xy.astype("i4"), xy.astype("S8"),
                 xy + 1j, pd.DataFrame(xy, index=adata.obs_names, columns=["x", "y"]).astype(str)]  # fmt: skip
        xy = pick(random, forms)
    adata.obsm["spatial"] = xy


def _counts(adata: AnnData, random: Random) -> None:
    X = adata.X.tocsr().astype(np.float32)
    way = random.integers(10)
    if way < 3:
        X.data[random.integers(len(X.data), size=int(pick(random, [1, 100])))] = pick(random, NUMBERS)
    elif way == 3:
        X = sparse.csr_matrix(X.shape, dtype=np.float32)
    elif way == 4:
        X = sparse.csr_matrix(X.multiply(random.random(X.shape[0])[:, None] < 0.05), dtype=np.float32)
    elif way == 5:
        X = sparse.csr_matrix(X.multiply(random.random(X.shape[1])[None] < 0.05), dtype=np.float32)
    elif way == 6:
        X = pick(random, [X.toarray(), X.tocsc(), X.toarray().astype(bool), X.astype(np.uint8), X.astype(np.int64)])
    elif way == 7:
        X.data[:] = pick(random, [1, 1e6, 1e9])
    elif way == 8:
        adata.layers["counts"] = X * pick(random, [-1, 0.3, 1])
    else:
        X[: X.shape[0] // 2] = X[0]
    adata.X = X


def _embedding(adata: AnnData, random: Random) -> None:
    """An embedding that may be asked for in place of counts."""
    values = random.normal(size=(adata.n_obs, int(pick(random, [1, 2, 20, 500]))))
    if random.integers(2):
        values[random.integers(len(values), size=int(pick(random, [1, 50])))] = pick(random, NUMBERS)
    values = values * pick(random, [1, 0, 1e-30, 1e18, 1e37])
    with np.errstate(all="ignore"):
        adata.obsm["X_rep"] = pick(
            random, [values, values.astype("f4"), values.astype("f2"), np.round(values), values.astype("S9")]
        )


def _earlier(adata: AnnData, random: Random) -> None:
    """What looks like an earlier result."""
    adata.uns["stmfg"] = pick(random, [{"params": "x", "left_out": [1]}, "text", {"n_domains": {"a": 1}}, 3])
    adata.obsm["X_stmfg"] = np.full((adata.n_obs, 2), np.nan)
    adata.obs["stmfg_domain"] = pick(random, NASTY)


def _graph(adata: AnnData, random: Random) -> None:
    n = adata.n_obs
    data = pick(random, [np.nan, -1.0, np.inf, 1.0, 0.0])
    graph = sparse.random_array((n, n), density=pick(random, [0.0, 0.001, 0.05]), rng=random, format="csr")
    graph.data[:] = data
    key = pick(random, ["spatial_connectivities", "stmfg_feature_connectivities"])
    adata.obsp[key] = pick(random, [graph, graph.toarray(), graph.tocsc(), graph.astype(bool)])


def _library(adata: AnnData, random: Random) -> None:
    images = [
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3)),
        np.zeros(3),
        np.full((4, 4), np.nan),
        np.array(["x"]),
        np.zeros((2, 2, 9)),
    ]
    factor = pick(random, [*NUMBERS, 0.0, "0.1", "x", np.array([1.0, 2.0])])
    one = {"images": {"hires": pick(random, images)}, "scalefactors": {"tissue_hires_scalef": factor}}
    one["scalefactors"]["spot_diameter_fullres"] = pick(random, [*NUMBERS, "x"])
    name = pick(random, [n for n in NASTY if n.strip("/. ") and "/" not in n])
    adata.uns["spatial"] = pick(
        random, [{name: one}, {name: one}, {name: "text"}, "text", {name: {"images": "x", "scalefactors": 1}}]
    )


def _few(adata: AnnData, random: Random) -> None:
    spots, genes = pick(random, [3, 4, 5, 20, 300]), pick(random, [0, 1, 2, 5, 100])
    adata._init_as_actual(adata[:spots, :genes].copy())


def _raw(adata: AnnData, random: Random) -> None:
    adata.raw = adata[:, :10].copy()
    adata.varm["x"] = random.random((adata.n_vars, 2))
    adata.layers[pick(random, ["stmfg_denoised", "counts"])] = pick(random, [adata.X.toarray(), adata.X.astype("f8")])


HOSTILE: list[Callable[[AnnData, Random], None]] = [
    _gene_names, _spot_names, _columns, _colours, _positions, _positions, _counts, _counts, _embedding, _embedding, _earlier, _graph, _library, _few, _raw,
]  # fmt: skip

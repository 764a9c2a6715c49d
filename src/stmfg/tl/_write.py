"""Results of a model as elements of an AnnData, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from stmfg._core import checks
from stmfg._core.labels import colours
from stmfg._core.palette import palette
from stmfg._core.stored_graph import DATA, OPTIONS, RECORD, TRAINING, moved, record
from stmfg._keys import (
    COLORS,
    COMPONENTS,
    CONFIDENCE,
    DOMAIN,
    EMBEDDING,
    LEAF,
    SPATIAL_GRAPH,
    UNLIKE,
    UNS,
    VIEW_WEIGHTS,
)
from stmfg._version import __version__
from stmfg.config import DOMAIN_OPTIONS, Config
from stmfg.errors import InputError, require
from stmfg.model.averages import Base
from stmfg.model.domains import Result
from stmfg.model.estimator import STMFG
from stmfg.model.files import packed
from stmfg.tl._levels import level_colours


def write_embedding(adata: AnnData, model: STMFG, result: Result, library_key: str | None) -> None:
    """Write embedding, view weights, spatial graph, and the model itself."""
    adata.obs.drop(columns=UNLIKE, errors="ignore", inplace=True)  # of another model
    if result.graph_made_by == TRAINING or SPATIAL_GRAPH not in adata.obsp:
        adata.obsp[SPATIAL_GRAPH] = result.graph
    options = {} if result.graph_made_by == DATA else {name: getattr(model.config, name) for name in OPTIONS}
    libraries = None if model.config.stacked else result.libraries
    graph = record(result.graph, result.graph_made_by, result.coordinates, libraries, options)
    adata.obsm[EMBEDDING], adata.obsm[VIEW_WEIGHTS] = result.embedding, result.view_weights
    adata.obsm.pop(COMPONENTS, None)  # of another run
    adata.uns[UNS] = {
        "version": __version__,
        "params": {k: np.asarray(v) if isinstance(v, list) else v for k, v in model.config.to_dict().items()},
        "random_state": model.random_state,
        "history": {term: np.asarray(values) for term, values in model.history.items()},
        "view_weight_names": np.asarray(model.view_weight_names, dtype=object),
        "scales": np.asarray(result.widths),
        "model": packed(model),
        RECORD: graph,
    }
    for name, value in (("use_rep", model.use_rep), ("library_key", library_key)):
        if value is not None:
            adata.uns[UNS][name] = value
    if result.base is not None:
        adata.obsm[COMPONENTS] = result.base.values
        adata.uns[UNS]["mixtures"], adata.uns[UNS]["n_joined"] = result.base.mixtures, result.base.n_joined
    if result.left_out.any():
        adata.uns[UNS]["left_out"] = adata.obs_names[result.left_out].to_numpy(dtype=object)


def read_embedding(adata: AnnData, library_key: str | None = None) -> Result:
    """Read what :func:`write_embedding` wrote, to be clustered anew."""
    run = "run stmfg.tl.domains(adata) first"
    trained = require(adata, "uns", UNS, run)
    embedding = np.asarray(require(adata, "obsm", EMBEDDING, run))
    library_key = library_key or trained.get("library_key")
    coordinates = checks.coordinates(adata)
    libraries = None if library_key is None else checks.library_codes(adata, library_key)
    if moved(adata, coordinates, None if trained["params"]["stacked"] else libraries):
        raise InputError(
            f"positions or slices are not those that obsm[{EMBEDDING!r}] was trained on; "
            f"del adata.obsm[{EMBEDDING!r}] to train anew"
        )
    base = None
    if COMPONENTS in adata.obsm and "mixtures" in trained:
        narrow = trained["params"].get("neighborhoods") == "narrow"
        base = Base(np.asarray(adata.obsm[COMPONENTS]), bool(trained["mixtures"]), int(trained["n_joined"]), narrow)
    return Result(
        embedding=embedding,
        view_weights=np.asarray(adata.obsm.get(VIEW_WEIGHTS, embedding[:, :0])),
        widths=[int(width) for width in trained["scales"]],
        coordinates=coordinates,
        graph=sparse.csr_matrix(require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first")),
        graph_made_by=str(trained.get(RECORD, {}).get("made_by", DATA)),
        left_out=np.isin(adata.obs_names, trained.get("left_out", [])),
        base=base,
        libraries=libraries,
    )


def trained_config(adata: AnnData, preset: str | None, use_rep: str | None, options: dict[str, Any]) -> Config:
    """Return the hyperparameters of the embedding in ``adata``, with changes to the clustering alone."""
    record = require(adata, "uns", UNS, f"delete obsm[{EMBEDDING!r}] to train anew")
    stored = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in record["params"].items()}
    trained = Config.from_dict(stored)
    wanted = (trained if preset is None else Config.preset(preset)).replace(**options)
    if wanted.neighborhoods == "auto":  # what the data decided
        wanted = wanted.replace(neighborhoods=trained.neighborhoods)
    differing = [
        f"{name}={getattr(trained, name)!r}, not {value!r}"
        for name, value in vars(wanted).items()
        if name not in DOMAIN_OPTIONS and value != getattr(trained, name)
    ]
    if use_rep is not None and use_rep != record.get("use_rep"):
        differing.append(f"use_rep={record.get('use_rep')!r}, not {use_rep!r}")
    if differing:
        raise InputError(
            f"obsm[{EMBEDDING!r}] was trained with {differing[0]}; "
            f"del adata.obsm[{EMBEDDING!r}] to train anew, or leave the option out"
        )
    return wanted


def write_domains(adata: AnnData, result: Result, key: str) -> None:
    """Write labels, confidence and colours, the tree around them, and what labels another slice."""
    record: dict[str, Any] = adata.uns[UNS]
    if result.labels is None or result.domain_map is None:
        raise ValueError("the result has no domains")
    k = result.n_domains
    adata.obs[key] = pd.Categorical(result.labels, categories=result.domain_map.categories)
    adata.obs[CONFIDENCE if key == DOMAIN else f"{key}_confidence"] = result.confidence
    write_colours(adata, key)
    record["n_domains"] = {"chosen": k} if result.choice is None else result.choice.to_dict()
    record["domain_map"] = result.domain_map.to_dict()
    if key == DOMAIN:
        record.pop("tree", None)  # of an earlier run
        adata.uns.pop(f"{LEAF}{COLORS}", None)
        adata.obs.drop(columns=LEAF, errors="ignore", inplace=True)
        if result.tree is not None:
            record["tree"] = result.tree.to_dict()
            write_level(adata, result, int(result.tree.levels[-1]), LEAF)


def write_level(adata: AnnData, result: Result, level: int, key: str, anchor_key: str = DOMAIN) -> None:
    """Write the domains at a level of the tree, in colours that go with those of the anchor."""
    if result.tree is None or result.leaves is None:
        raise ValueError("the result has no tree")
    shades = level_colours(result.tree, result.leaves, colours(adata, anchor_key), level)
    adata.obs[key] = pd.Categorical(result.cut(level), categories=list(shades))
    adata.uns[f"{key}{COLORS}"] = np.array(list(shades.values()), dtype=object)


def write_colours(adata: AnnData, key: str) -> None:
    """Give every category of a column of ``obs`` a colour, where scanpy keeps it; enough colours of the user stay."""
    k, stored = len(adata.obs[key].cat.categories), adata.uns.get(f"{key}{COLORS}")
    if not isinstance(stored, (list, tuple, np.ndarray)) or np.ndim(stored) != 1 or len(stored) < k:
        adata.uns[f"{key}{COLORS}"] = np.asarray(palette(k), dtype=object)

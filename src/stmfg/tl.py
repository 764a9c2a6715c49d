"""What a user calls: ``embed`` and ``domains``, and what is done with domains once they are found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse
from threadpoolctl import threadpool_limits

from stmfg import _validate, cluster, gr
from stmfg._abundance import abundance, composition
from stmfg._downstream import adjacency, markers, pseudobulk, subdomains, write_colours
from stmfg._errors import InputError, require
from stmfg._keys import CONFIDENCE, DENOISED, DOMAIN, EMBEDDING, SPATIAL, SPATIAL_GRAPH, UNS, VIEW_WEIGHTS
from stmfg._stages import stage
from stmfg._version import __version__
from stmfg.config import DOMAIN_OPTIONS, Config

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg.model import STMFG, Fitted

__all__ = [
    "abundance",
    "adjacency",
    "composition",
    "domains",
    "embed",
    "markers",
    "pseudobulk",
    "subdomains",
]

logger = logging.getLogger("stmfg")


def embed(
    adata: AnnData,
    *,
    preset: str = "default",
    use_rep: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    denoised: bool = False,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = False,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Train the network and write the embedding.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``; coordinates in ``obsm["spatial"]``.
    preset
        ``"default"`` or ``"paper"``.
    use_rep
        Key of an embedding in ``obsm`` that takes the place of the counts.
    layer
        Layer with the raw counts.
    library_key
        Column of ``obs`` that names the slice. What slices differ in as wholes is taken off; they are linked where
        expression is alike, and in tissue only when ``stacked``.
    denoised
        Also write the denoised expression.
    random_state
        Seed; the same seed gives the same result.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    checkpoint
        File to continue training from and to save it to.
    progress
        Whether to show a progress bar.
    copy
        Return a changed copy instead of changing ``adata``.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    ``None``, or the copy. Written:

    ``obsm["X_stmfg"]``
        Embedding, float32 (n_obs, d).
    ``obsm["stmfg_view_weights"]``
        Attention per layer and view, float32; columns named in ``uns["stmfg"]["view_weight_names"]``.
    ``obsp["spatial_connectivities"]``
        The spatial graph, unless there was one.
    ``layers["stmfg_denoised"]``
        With ``denoised``: expected counts at the median depth, NaN for genes that are not decoded.
    ``uns["stmfg"]``
        Hyperparameters, seed, loss history, version.

    Raises
    ------
    InputError
        If data or options cannot be used; says why in one line.
    TrainingError
        If the loss becomes non-finite.
    """
    from stmfg.model import STMFG

    adata = adata.copy() if copy else adata
    model = STMFG(preset=preset, random_state=random_state, device=device, **options)
    if denoised and use_rep is not None:
        raise InputError("denoised expression needs raw counts; leave out use_rep")
    shared: dict[str, Any] = {"layer": layer, "library_key": library_key}
    fitted = model.fit_apply(adata, use_rep=use_rep, checkpoint=checkpoint, progress=progress, **shared)
    _write_embedding(adata, model, fitted, denoised=denoised, **shared)
    return adata if copy else None


def _write_embedding(
    adata: AnnData, model: STMFG, fitted: Fitted, *, denoised: bool, layer: str | None, library_key: str | None
) -> None:
    left_out = np.isnan(fitted.embedding[:, 0])
    if SPATIAL_GRAPH not in adata.obsp and fitted.graph is not None:
        adata.obsp[SPATIAL_GRAPH] = fitted.graph
    elif SPATIAL_GRAPH not in adata.obsp:
        config = model.config
        gr.spatial(
            adata,
            n_neighbors=config.spatial_neighbors,
            radius=config.spatial_radius,
            library_key=library_key,
            stacked=config.stacked,
        )
    if denoised:
        adata.layers[DENOISED] = model.denoise(adata, layer=layer, library_key=library_key)
    near = _surroundings(adata, left_out, library_key)
    for values, key in ((fitted.embedding, EMBEDDING), (fitted.view_weights, VIEW_WEIGHTS)):
        values[left_out] = near @ np.nan_to_num(values)
        adata.obsm[key] = values
    adata.uns[UNS] = {
        "version": __version__,
        "params": {k: np.asarray(v) if isinstance(v, list) else v for k, v in model.config.to_dict().items()},
        "random_state": model.random_state,
        "history": {term: np.asarray(values) for term, values in model.history.items()},
        "view_weight_names": np.asarray(model.view_weight_names, dtype=object),
        "scales": np.asarray(model.scales),
    }
    if model.use_rep is not None:
        adata.uns[UNS]["use_rep"] = model.use_rep
    if left_out.any():
        adata.uns[UNS]["left_out"] = adata.obs_names[left_out].to_numpy(dtype=object)


def _surroundings(adata: AnnData, left_out: NDArray[np.bool_], library_key: str | None) -> sparse.csr_matrix:
    """Weights (n_left_out, n_obs) that average over the used spatial neighbours of each observation left out.

    One without a used neighbour takes the nearest used observation of its slice.
    """
    from scipy.spatial import cKDTree

    graph = require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first")
    weights = sparse.lil_matrix(sparse.csr_matrix(graph)[left_out] @ sparse.diags_array((~left_out).astype(float)))
    coordinates = _validate.coordinates(adata, SPATIAL)
    slices = np.zeros(adata.n_obs) if library_key is None else gr.library_names(adata, library_key)
    rows = np.flatnonzero(left_out)
    alone = np.flatnonzero(np.asarray(weights.sum(axis=1)).ravel() == 0)
    for name in np.unique(slices[rows[alone]]):
        here = alone[slices[rows[alone]] == name]
        used = np.flatnonzero((slices == name) & ~left_out)
        if not len(used):  # a slice without a single count: any slice will do
            used = np.flatnonzero(~left_out)
        _, nearest = cKDTree(coordinates[used]).query(coordinates[rows[here]])
        weights[here, used[nearest]] = 1.0
    result = sparse.csr_matrix(weights)
    result.eliminate_zeros()
    return sparse.csr_matrix(sparse.diags_array(1 / np.asarray(result.sum(axis=1)).ravel()) @ result)


def domains(
    adata: AnnData,
    *,
    n_domains: int | str,
    preset: str | None = None,
    use_rep: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    denoised: bool = False,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = False,
    key_added: str = DOMAIN,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Find spatial domains.

    Trains the network first when ``obsm["X_stmfg"]`` is not there; with it, only clusters, and takes the
    hyperparameters it was trained with.

    Parameters
    ----------
    adata
        As in :func:`embed`.
    n_domains
        Number of domains; exactly so many come out, none empty. ``"auto"`` takes the number with the most
        evidence, see :func:`choose_n_domains`.
    preset
        ``"default"`` when not given, or the preset of the embedding that is there.
    use_rep, layer, library_key, denoised, random_state, device, checkpoint, progress, copy
        As in :func:`embed`. Denoising takes the trained network, so an embedding that is there must come with it.
    key_added
        Column of ``obs`` to write the domains to.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Returns
    -------
    ``None``, or the copy. Written, besides what :func:`embed` writes:

    ``obs["stmfg_domain"]``
        Categories ``"1"`` (largest) to ``str(n_domains)``.
    ``obs["stmfg_confidence"]``
        Share of the vote for that domain, float32 in 0..1; 0 where an observation was left out. With another
        ``key_added`` it is that key followed by ``_confidence``.
    ``uns["stmfg_domain_colors"]``
        Colours of the domains, after ``key_added``, unless there were enough of them.

    Raises
    ------
    InputError
        If data or options cannot be used, or options of the training differ from those of the embedding that
        is there; says why in one line.
    """
    if n_domains != "auto":
        n_domains = _validate.n_domains(n_domains, adata.n_obs)
    config = Config.preset(preset or "default").replace(**options)
    random_state = _validate.random_state(random_state)
    adata = adata.copy() if copy else adata
    if EMBEDDING in adata.obsm:
        if denoised and DENOISED not in adata.layers:
            raise InputError(
                f"denoising needs the network that made obsm[{EMBEDDING!r}]; "
                f"del adata.obsm[{EMBEDDING!r}] to train anew, or call model.denoise(adata)"
            )
        logger.info("clustering the embedding in obsm[%r]; delete it to train anew", EMBEDDING)
        config = _trained_config(adata, preset, use_rep, options)
    else:
        embed(
            adata,
            preset=preset or "default",
            use_rep=use_rep,
            layer=layer,
            library_key=library_key,
            denoised=denoised,
            random_state=random_state,
            device=device,
            checkpoint=checkpoint,
            progress=progress,
            **options,
        )
    record = adata.uns[UNS]
    for key in ("n_domains_candidates", "n_domains_evidence"):
        record.pop(key, None)  # of an earlier choice
    left_out = np.isin(adata.obs_names, record.get("left_out", []))
    embedding = np.asarray(adata.obsm[EMBEDDING])
    # An order that depends on the values alone: permuted input gives permuted domains.
    used = np.flatnonzero(~left_out)
    used = used[np.lexsort([*_validate.coordinates(adata, SPATIAL)[used].T, *embedding[used].T[2::-1]])]
    scales = [int(width) for width in record["scales"]]
    graph = sparse.csr_matrix(require(adata, "obsp", SPATIAL_GRAPH, "run stmfg.gr.spatial(adata) first"))[used][:, used]
    if n_domains == "auto":
        with stage("number of domains"):
            table = choose_n_domains(embedding[used], 1 + graph.nnz / len(used), config, random_state)
        n_domains = int(table.index[int(table.to_numpy().argmax())])
        record["n_domains_candidates"] = table.index.to_numpy()
        record["n_domains_evidence"] = table.to_numpy()
    n_domains = int(n_domains)
    if len(used) < n_domains:
        raise InputError(f"{n_domains} domains were asked for, but only {len(used)} spots have counts")
    with stage("domains"):
        posterior = cluster.consensus(clusterings(embedding[used], scales, n_domains, config, random_state))
        posterior = cluster.refine(posterior, gr.walk_operator(graph), config.refine)
    labels = np.zeros(adata.n_obs, dtype=np.int64)
    confidence = np.zeros(adata.n_obs, dtype=np.float32)
    found = cluster.non_empty(posterior)
    labels[used] = _by_size(found, n_domains)
    confidence[used] = np.clip(posterior[np.arange(len(used)), found], 0, 1)
    if left_out.any():
        shares = _surroundings(adata, left_out, library_key) @ np.eye(n_domains)[labels]
        labels[left_out] = shares.argmax(axis=1)
    adata.obs[key_added] = pd.Categorical((labels + 1).astype(str), categories=[str(i + 1) for i in range(n_domains)])
    adata.obs[CONFIDENCE if key_added == DOMAIN else f"{key_added}_confidence"] = confidence
    adata.uns[UNS]["n_domains"] = n_domains
    write_colours(adata, key_added)
    return adata if copy else None


def _trained_config(adata: AnnData, preset: str | None, use_rep: str | None, options: dict[str, Any]) -> Config:
    """Return the hyperparameters of the embedding in ``adata``, with changes to the clustering alone."""
    record = require(adata, "uns", UNS, f"delete obsm[{EMBEDDING!r}] to train anew")
    stored = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in record["params"].items()}
    trained = Config(**stored)
    wanted = (trained if preset is None else Config.preset(preset)).replace(**options)
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


def clusterings(
    embedding: NDArray[np.float32], scales: list[int], n_domains: int, config: Config, random_state: int
) -> list[NDArray[np.float64]]:
    """Cluster the embedding and the fused features of every layer, several times each.

    Parameters
    ----------
    embedding
        (n, d).
    scales
        Columns that belong to each layer, in order.
    n_domains
        Number of clusters.
    config
        ``clusterer``, ``n_starts``, ``n_votes``, ``scales``.
    random_state
        Seed.

    Returns
    -------
    Posteriors, each (n, n_domains).
    """
    method: Callable[..., NDArray[np.float64]] = getattr(cluster, config.clusterer)
    parts = [embedding]
    if config.scales == "every" and len(scales) > 1:
        parts += np.split(embedding, np.cumsum(scales)[:-1], axis=1)
    seeds = np.random.default_rng(random_state).integers(2**31, size=(len(parts), config.n_votes))
    with threadpool_limits(1):  # the matrices are small: threads would wait for each other more than they work
        return [
            method(part, n_domains, n_starts=config.n_starts, random_state=int(seed)).astype(np.float32)
            for part, row in zip(parts, seeds, strict=True)
            for seed in row
        ]


def choose_n_domains(
    embedding: NDArray[np.float32], neighbourhood: float, config: Config, random_state: int
) -> pd.Series[float]:
    """Measure the evidence for every number of domains that is tried.

    It is that of the mixture on the embedding (:func:`stmfg.cluster.evidence`), where a spot and the neighbours it was
    averaged with count as one independent observation: taken one each, they would support ever more domains.

    Parameters
    ----------
    embedding
        (n, d).
    neighbourhood
        Spots in a neighbourhood: the mean number of spatial neighbours, and the spot itself.
    config
        ``n_starts``.
    random_state
        Seed.

    Returns
    -------
    Evidence in nats less that of the best number, so at most 0, indexed by k from 3 to 15.
    """
    candidates = range(3, max(4, min(15, len(embedding) // 10) + 1))
    with threadpool_limits(1):
        found = [
            cluster.evidence(
                embedding, k, independent=1 / neighbourhood, n_starts=config.n_starts, random_state=random_state
            )
            for k in candidates
        ]
    return pd.Series(found, index=list(candidates)) - max(found)


def _by_size(labels: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Renumber labels: 0 is the largest domain."""
    rank = np.empty(k, dtype=np.int64)
    rank[np.argsort(-np.bincount(labels, minlength=k), kind="stable")] = np.arange(k)
    return rank[labels]

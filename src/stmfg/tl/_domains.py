"""What a user calls: ``embed``, ``domains``, ``apply``, and what is done with domains once they are found."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from stmfg import gr
from stmfg._core import checks
from stmfg._core.timing import stage
from stmfg._keys import DENOISED, DOMAIN, EMBEDDING, SPATIAL_GRAPH, UNLIKE, UNS, VIEW_WEIGHTS
from stmfg._version import __version__
from stmfg.config import DOMAIN_OPTIONS, Config
from stmfg.errors import InputError, require
from stmfg.model import cluster, graphs
from stmfg.model import genes as _genes
from stmfg.model import transfer as _domain_map
from stmfg.model.vote import choose_n_domains, vote
from stmfg.tl._abundance import abundance, composition
from stmfg.tl._after import adjacency, markers, pseudobulk, subdomains, write_colours
from stmfg.tl._labels import canonical, surroundings, write_domains

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from stmfg.model.estimator import STMFG, Fitted

__all__ = [
    "abundance",
    "adjacency",
    "apply",
    "composition",
    "domains",
    "embed",
    "markers",
    "pseudobulk",
    "subdomains",
]

logger = logging.getLogger("stmfg")

ADAPT_FROM = 0.8
"""Share of the model's genes a slice must have for its offset to be told from what is missing."""


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
        Hyperparameters, seed, loss history, version, and the model itself, for :func:`apply`.

    Raises
    ------
    InputError
        If data or options cannot be used; says why in one line.
    TrainingError
        If the loss becomes non-finite.
    """
    from stmfg.model.estimator import STMFG

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
    from stmfg.model import files as _model_files

    left_out = np.isnan(fitted.embedding[:, 0])
    if UNLIKE in adata.obs:  # of another model
        del adata.obs[UNLIKE]
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
    near = surroundings(adata, left_out, library_key)
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
        "model": _model_files.packed(model),
    }
    for name, value in (("use_rep", model.use_rep), ("library_key", library_key)):
        if value is not None:
            adata.uns[UNS][name] = value
    if left_out.any():
        adata.uns[UNS]["left_out"] = adata.obs_names[left_out].to_numpy(dtype=object)


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
        n_domains = checks.n_domains(n_domains, adata.n_obs)
    config = Config.preset(preset or "default").replace(**options)
    random_state = checks.random_state(random_state)
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
    library_key = library_key or record.get("library_key")
    for key in ("n_domains_candidates", "n_domains_evidence"):
        record.pop(key, None)  # of an earlier choice
    left_out = np.isin(adata.obs_names, record.get("left_out", []))
    embedding = np.asarray(adata.obsm[EMBEDDING])
    used = canonical(adata, embedding, ~left_out)
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
        apart = None if library_key is None or config.stacked else checks.library_codes(adata, library_key)
        libraries = None if apart is None else np.unique(apart[used], return_inverse=True)[1]
        posterior = vote(embedding[used], scales, n_domains, config, random_state, libraries)
        posterior = cluster.refine(posterior, graphs.walk_operator(graph), config.refine)
    found = cluster.non_empty(posterior)
    by_size = np.argsort(-np.bincount(found, minlength=n_domains), kind="stable")
    found, posterior = np.argsort(by_size)[found], posterior[:, by_size]
    widths = scales if config.scales == "every" and len(scales) > 1 else []
    record["domain_map"] = _domain_map.fit(embedding[used], posterior, widths).to_dict()
    write_domains(adata, used, found, posterior, library_key, key_added)
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


def apply(
    adata: AnnData,
    reference: STMFG | AnnData | str | Path,
    *,
    layer: str | None = None,
    library_key: str | None = None,
    adapt: bool = True,
    device: str = "auto",
    copy: bool = False,
) -> AnnData | None:
    """Find the domains of a slice in another one, without training.

    The trained network embeds the new slice; each spot takes the domain of ``reference`` that it lies closest to, so
    that domain ``"3"`` is the same in both. Genes are matched by name, in any order; a gene that is missing counts as
    its mean.

    Parameters
    ----------
    adata
        The new slice, as in :func:`embed`.
    reference
        What :func:`domains` was run on, the file or folder it was written to, or a model: see
        :meth:`stmfg.STMFG.load`. The domains that were found last count.
    layer, library_key, device, copy
        As in :func:`embed`.
    adapt
        Estimate on each slice, without labels, its offset, the shares of its domains and its covariance within
        domains; ``False`` takes those of the reference, which needs no more than a few spots. Not done where
        fewer than four in five of the model's genes are there: what is left of them would look like an offset.

    Returns
    -------
    ``None``, or the copy. Written, besides what :func:`embed` writes:

    ``obs["stmfg_domain"]``, ``obs["stmfg_confidence"]``
        As in :func:`domains`; the categories are all domains of the reference, those absent here too.
    ``obs["stmfg_unlike"]``
        Share of the reference's spots that lie closer to their domain than this one, float32 in 0..1.
    ``uns["stmfg"]``
        Also ``genes_shared``, and ``far``: the share of each slice's spots beyond 99 % of the reference's. A warning
        names slices where that is more than half.

    Raises
    ------
    InputError
        If the reference holds no domains or the data do not fit it; says why in one line.
    """
    from stmfg.model.estimator import STMFG
    from stmfg.model.files import load

    model = reference if isinstance(reference, STMFG) else load(reference, device)
    if model.domain_map is None:
        raise InputError("the model has no domains; run stmfg.tl.domains and give its result, or a folder of stmfg run")
    adata = adata.copy() if copy else adata
    shared = 1.0 if model.use_rep is not None else _genes.shared(adata, model.genes, model.fitted_map())
    fitted = model.apply(adata, layer=layer, library_key=library_key, align=False)
    left_out = np.isnan(fitted.embedding[:, 0])
    _write_embedding(adata, model, fitted, denoised=False, layer=layer, library_key=library_key)
    embedding = np.asarray(adata.obsm[EMBEDDING])
    used = canonical(adata, embedding, ~left_out)
    names = np.full(adata.n_obs, "") if library_key is None else checks.library_names(adata, library_key)
    posterior = np.zeros((len(used), len(model.domain_map.shares)))
    far = {}
    unlike = model.domain_map.unlike(embedding)
    with stage("domains"), threadpool_limits(1):
        for name in np.unique(names[used]):
            here = np.flatnonzero(names[used] == name)
            posterior[here] = model.domain_map.posterior(embedding[used[here]], adapt=adapt and shared >= ADAPT_FROM)
            far[str(name)] = float((unlike[used[here]] > _domain_map.FAR).mean())
    write_domains(adata, used, posterior.argmax(axis=1), posterior, library_key, DOMAIN)
    write_colours(adata, DOMAIN)
    adata.obs[UNLIKE] = unlike.astype(np.float32)
    adata.uns[UNS] |= {
        "domain_map": model.domain_map.to_dict(),
        "genes_shared": shared,
        "slices": np.asarray(list(far), dtype=object),
        "far": np.asarray(list(far.values())),
    }
    for name, share in far.items():
        if share > 0.5:
            logger.warning(
                "%s unlike what the model was trained on: %.0f %% of the spots lie further from every domain than "
                "99 %% of the spots it was trained on; do not trust these domains, train on this tissue instead",
                f"slice {name} is" if name else "this tissue is",
                100 * share,
            )
    return adata if copy else None

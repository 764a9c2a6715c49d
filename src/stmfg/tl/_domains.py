"""Train, cluster, or apply a model: what users call on an AnnData, around :class:`stmfg.STMFG`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData

from stmfg._core import checks
from stmfg._core.progress import asked_for
from stmfg._keys import DENOISED, DOMAIN, EMBEDDING, HALF, UNLIKE, UNS
from stmfg._version import __version__
from stmfg.errors import InputError
from stmfg.model.domains import Result, find_domains
from stmfg.model.estimator import STMFG
from stmfg.model.plugins import Plugins
from stmfg.model.threads import one_thread
from stmfg.model.train import pick_device
from stmfg.tl._halves import write_redraws
from stmfg.tl._write import read_embedding, trained_config, write_domains, write_embedding, write_level

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
    progress: bool | None = None,
    copy: bool = False,
    **options: Any,
) -> AnnData | None:
    """Train the network and write the embedding.

    Parameters
    ----------
    adata
        Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``; coordinates in ``obsm["spatial"]``.
    preset, random_state, device, options
        As of :class:`stmfg.STMFG`.
    use_rep, layer, library_key, checkpoint
        As in :meth:`stmfg.STMFG.fit`.
    progress
        Whether to show the stages; in a notebook, when not given.
    denoised
        Also write the denoised expression.
    copy
        Return a changed copy instead of changing ``adata``.

    Returns
    -------
    ``None``, or the copy. Written:

    ``obsm["X_stmfg"]``
        Embedding, float32 (n_obs, d).
    ``obsm["stmfg_view_weights"]``
        Attention per layer and view, float32; columns named in ``uns["stmfg"]["view_weight_names"]``.
    ``obsp["spatial_connectivities"]``
        The spatial graph, unless there was one to use.
    ``layers["stmfg_denoised"]``
        With ``denoised``: expected counts at the median depth, NaN for genes that are not decoded.
    ``uns["stmfg"]``
        Hyperparameters, seed, loss history, version, and the model itself, for :func:`apply`.

    Raises
    ------
    InputError
        If data or options cannot be used.
    TrainingError
        If the loss becomes non-finite.
    """
    if denoised and use_rep is not None:
        raise InputError("denoised expression needs raw counts; leave out use_rep")
    adata = adata.copy() if copy else adata
    model = STMFG(n_domains=None, preset=preset, random_state=random_state, device=device, **options)
    where: dict[str, Any] = {"layer": layer, "library_key": library_key}
    with asked_for(progress):
        model.fit(adata, use_rep=use_rep, checkpoint=checkpoint, **where)
    _write(adata, model, denoised=denoised, **where)
    return adata if copy else None


def _write(adata: AnnData, model: STMFG, *, denoised: bool, layer: str | None, library_key: str | None) -> Result:
    """Write what a model made of the data it was fitted on, and return it."""
    if model.result is None:
        raise ValueError("the model was not fitted here")
    if denoised:
        adata.layers[DENOISED] = model.denoise(adata, layer=layer, library_key=library_key)
    write_embedding(adata, model, model.result, library_key)
    return model.result


@one_thread()
def domains(
    adata: AnnData,
    n_domains: int | str | Sequence[int] = "auto",
    *,
    preset: str | None = None,
    use_rep: str | None = None,
    layer: str | None = None,
    library_key: str | None = None,
    denoised: bool = False,
    random_state: int = 0,
    device: str = "auto",
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
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
        Number of domains; exactly so many come out, none empty. ``"auto"`` chooses it: where more domains stop being
        what different clusterings agree on, see :mod:`stmfg.model.number`. Of several numbers, as ``[4, 7, 10]``, the
        smallest is found and the others are levels of the tree around it, in columns ``stmfg_domain_7`` and
        ``stmfg_domain_10``.
    preset
        ``"default"`` when not given, or the preset of the embedding that is there.
    use_rep, layer, library_key, denoised, random_state, device, checkpoint, progress, copy, options
        As in :func:`embed`. Denoising takes the trained network, so an embedding that is there must come with it.
    key_added
        Column of ``obs`` to write the domains to.

    Returns
    -------
    ``None``, or the copy. Written, besides what :func:`embed` writes:

    ``obs["stmfg_domain"]``
        Categories ``"1"`` (largest) to ``str(n_domains)``.
    ``obs["stmfg_confidence"]``
        Probability that the observation keeps its domain when half of the molecules are drawn again and the seed
        changes, float32 in 0..1, see :mod:`stmfg.model.halves`; 0 where an observation was left out. With another
        ``key_added`` it is that key followed by ``_confidence``. With ``redraws=0`` it is the share of the vote.
    ``obs["stmfg_half"]``
        The domains as one half of the molecules alone shows them, for :func:`markers` to be tested on the other; with
        another ``key_added``, that key followed by ``_half``. Not with ``use_rep`` or ``redraws=0``.
    ``uns["stmfg_domain_colors"]``
        Colours of the domains, after ``key_added``, unless there were enough of them.
    ``obs["stmfg_leaf"]``, ``uns["stmfg"]["tree"]``
        The domains at the finest level of the tree around them, and the tree, see :func:`levels` and :func:`cut`; not
        with another ``key_added`` or ``finest_level=0``.

    Raises
    ------
    InputError
        If data or options cannot be used, or options of the training differ from those of the embedding that is there.
    """
    adata = adata.copy() if copy else adata
    numbers = checks.levels(n_domains, adata.n_obs)
    where: dict[str, Any] = {"layer": layer, "library_key": library_key}
    begun = None
    if key_added != DOMAIN:
        options["finest_level"] = 0
    if EMBEDDING in adata.obsm:
        if denoised and DENOISED not in adata.layers:
            raise InputError(
                f"denoising needs the network that made obsm[{EMBEDDING!r}]; "
                f"del adata.obsm[{EMBEDDING!r}] to train anew, or call model.denoise(adata)"
            )
        say = logger.info if adata.uns.get(UNS, {}).get("version") == __version__ else logger.warning  # of others
        say("clustering the embedding that is in obsm[%r]; to train anew: del adata.obsm[%r]", EMBEDDING, EMBEDDING)
        plugins, options = Plugins.split(options)
        config = trained_config(adata, preset, use_rep, options)
        embedded, seed = read_embedding(adata, library_key), checks.random_state(random_state)
        result = find_domains(embedded, numbers, config, seed, plugins.clusterer, pick_device(device))
    else:
        settings: dict[str, Any] = {"preset": preset or "default", "random_state": random_state, "device": device}
        model = STMFG(n_domains=numbers, **settings, **options)
        model.begins_redraws = True
        with asked_for(progress):
            model.fit(adata, use_rep=use_rep, checkpoint=checkpoint, **where)
        result = _write(adata, model, denoised=denoised, **where)
        config, seed, plugins, begun = model.config, model.random_state, model.plugins, model.begun
    write_domains(adata, result, key_added)
    mixtures = None if result.base is None else result.base.mixtures
    write_redraws(adata, key_added, config, seed, plugins, device=device, begun=begun, mixtures=mixtures, **where)
    for level in numbers[1:] if isinstance(numbers, tuple) else ():
        write_level(adata, result, level, f"{key_added}_{level}", key_added)
    return adata if copy else None


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
        A model, what :func:`domains` was run on, or the file or folder it was written to: see :meth:`stmfg.STMFG.load`.
        The domains that were found last count.
    layer, library_key, device, copy
        As in :func:`embed`.
    adapt
        As in :meth:`stmfg.STMFG.apply`.

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
        If the reference holds no domains or the data do not fit it.
    """
    model = reference if isinstance(reference, STMFG) else STMFG.load(reference, device=device)
    adata = adata.copy() if copy else adata
    result = model.apply(adata, layer=layer, library_key=library_key, adapt=adapt)
    write_embedding(adata, model, result, library_key)
    write_domains(adata, result, DOMAIN)
    adata.obs.drop(columns=HALF, errors="ignore", inplace=True)  # of other domains
    adata.obs[UNLIKE] = result.unlike
    adata.uns[UNS] |= {
        "genes_shared": result.genes_shared,
        "slices": np.asarray(list(result.far), dtype=object),
        "far": np.asarray(list(result.far.values())),
    }
    for name, share in result.far.items():
        if share > 0.5:
            logger.warning(
                "%s unlike what the model was trained on: %.0f %% of the spots lie further from every domain than "
                "99 %% of the spots it was trained on; do not trust these domains, train on this tissue instead",
                f"slice {name} is" if name else "this tissue is",
                100 * share,
            )
    return adata if copy else None

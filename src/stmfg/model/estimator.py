"""The model as an object: fit, predict, transform, apply, denoise, save, load."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from stmfg._core import checks
from stmfg._core.annotated import Annotated
from stmfg._core.timing import stage
from stmfg._core.tissue import Tissue, read_tissue
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.model import features as _features
from stmfg.model import files
from stmfg.model import genes as _genes
from stmfg.model.averages import Base, choose_base
from stmfg.model.batches import gather_training_data, operators
from stmfg.model.checkpoint import Checkpoint, fingerprint
from stmfg.model.domains import Result, assign_domains, find_domains, surroundings
from stmfg.model.halves import BESIDE_AT_MOST, Redraws, begin_redraws
from stmfg.model.inputs import build_graphs, build_spatial_graph, prepare, report_views, warn_left_out
from stmfg.model.network import CountDecoder, STMFGNet, build_network
from stmfg.model.plugins import Plugins
from stmfg.model.threads import beside, one_thread
from stmfg.model.train import History, pick_device, train
from stmfg.model.transfer import DomainMap
from stmfg.model.widths import describe

Graphs = dict[str, sparse.csr_matrix]
Begun = tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], Redraws]]

ADAPT_FROM = 0.8
"""Share of the model's genes a slice must have for its offset to be told from what is missing."""


class STMFG:
    """Multi-view graph network of one slice, or of several, and the domains found with it.

    Parameters
    ----------
    config
        Hyperparameters; the preset's when not given.
    n_domains
        Number of domains; exactly so many are found, none empty. ``"auto"`` chooses it. Of several the smallest, and
        ``result.cut(n)`` has the others, nested in each other. ``None`` finds none: :meth:`fit` only trains and embeds.
    preset
        ``"default"`` or ``"paper"``.
    random_state
        Seed; the same seed gives the same result.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`. ``clusterer`` and ``fusion`` can be
        callables, and ``extra_losses`` a list of them, see :class:`stmfg.model.plugins.Plugins`.

    Attributes
    ----------
    result
        What :meth:`fit` made of its data: labels, confidence, embedding; see :class:`stmfg.model.domains.Result`. It is
        not saved.
    history
        Loss per epoch, by term.

    Raises
    ------
    InputError
        If an option is unknown or out of range, or the device is not there.

    Examples
    --------
    >>> import stmfg
    >>> adata = stmfg.datasets.simulate(600, 200, n_domains=4)
    >>> model = stmfg.STMFG(n_domains=4, epochs=5).fit(adata)
    >>> sorted(set(model.result.labels)) == sorted(set(model.predict(adata))) == ["1", "2", "3", "4"]
    True
    >>> model.transform(adata).shape[0]
    600
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        n_domains: int | str | Sequence[int] | None = "auto",
        preset: str = "default",
        random_state: int = 0,
        device: str = "auto",
        **options: Any,
    ) -> None:
        self.plugins, options = Plugins.split(options)
        self.config = self._asked = (config or Config.preset(preset)).replace(**options)
        self._given = frozenset(options)
        self.n_domains = None if n_domains is None else checks.levels(n_domains)
        self.random_state = checks.random_state(random_state)
        self.device = pick_device(device)
        self.history: History = {}
        self.genes: list[str] = []
        self.decoded = np.zeros(0, dtype=np.int64)
        self.spot_size = 1.0
        self.use_rep: str | None = None
        self.maps: dict[str, _features.FeatureMap] = {}
        self.net: STMFGNet | None = None
        self.domain_map: DomainMap | None = None
        self.result: Result | None = None
        self.begins_redraws = False
        self.begun: Begun | None = None

    def fit(
        self,
        adata: Annotated,
        *,
        use_rep: str | None = None,
        layer: str | None = None,
        library_key: str | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> STMFG:
        """Train on the raw counts, or a given embedding, and the coordinates; then find the domains.

        Parameters
        ----------
        adata
            Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``; coordinates in
            ``obsm["spatial"]``. A spatial graph of :func:`stmfg.gr.spatial` or of another tool in
            ``obsp["spatial_connectivities"]``, and an expression graph in
            ``obsp["stmfg_feature_connectivities"]``, are used when they fit. Not changed.
        use_rep
            Key of an embedding in ``obsm`` that takes the place of the counts.
        layer
            Layer with the raw counts.
        library_key
            Column of ``obs`` that names the slice, ``"none"`` if all are one. What slices differ in as wholes is taken
            off; they are linked where expression is alike, and in tissue only when ``stacked``.
        checkpoint
            File to continue training from and to save it to.
        progress
            Whether to show a progress bar.

        Returns
        -------
        The model itself, with ``result``.

        Raises
        ------
        InputError
            If the data cannot be used; says why in one line.
        TrainingError
            If the loss becomes non-finite.
        """
        if missing := self.plugins.missing(self.config):
            raise InputError(f"the model has {missing[0]}, which was not given; give it to STMFG or STMFG.load again")
        self.use_rep, self.net, self.domain_map, self.result = use_rep, None, None, None
        with stage("check"):
            tissue = self._read(adata, layer, library_key, self._given)
            self.config = self._asked.replace(**tissue.graph_options)
            spots, order = prepare(tissue, self.config)
            if self.n_domains is not None:
                checks.levels(self.n_domains, len(order))
            warn_left_out(tissue)
            self.genes = tissue.genes
        with one_thread():
            with stage("features"):
                spots, fitted, self.config = describe(spots, self.config, self.random_state, tissue.spatial_graph)
                self.maps = fitted.maps
                self.begun = self._begin_redraws(spots, order) if self.begins_redraws else None
            linked = beside(build_graphs, spots, fitted.factors, self.maps, self.config)
            with stage("train"):
                self._train(spots, fitted.factors, checkpoint, progress=progress)
            with stage("graphs"):
                graphs = linked()
            with stage("embedding"):
                result = self._encode(tissue, order, fitted.factors, graphs, choose_base(fitted, self.config))
                del spots, fitted, graphs, linked  # of a million cells they fill half a gigabyte
        report_views(result.view_weights, self.view_weight_names, self.maps, self.config)
        if self.n_domains is not None:
            more = self.random_state, self.plugins.clusterer, self.device
            result = find_domains(result, self.n_domains, self.config, *more)
        self.result, self.domain_map = result, result.domain_map
        return self

    def _begin_redraws(self, spots: Tissue, order: NDArray[np.int64]) -> Begun | None:
        """Begin with halves of the molecules beside the training, where they are few enough to be interrupted."""
        k = min(self.n_domains) if isinstance(self.n_domains, tuple) else self.n_domains
        how = self.config, self.random_state, self.maps["feature"].mixtures, self.plugins.clusterer, self.device
        few = self.config.redraws and len(order) <= BESIDE_AT_MOST
        return (order, begin_redraws(spots, None if isinstance(k, str) else k, *how)) if few else None

    def _read(self, adata: Annotated, layer: str | None, key: str | None, given: Collection[str] = ()) -> Tissue:
        return read_tissue(adata, use_rep=self.use_rep, layer=layer, library_key=key, config=self.config, given=given)

    def _train(
        self, spots: Tissue, factors: NDArray[np.float32], checkpoint: str | Path | None, *, progress: bool
    ) -> None:
        """Train a new network: from one half of the molecules, predict the other."""
        data, self.decoded = gather_training_data(
            spots, factors, self.maps, self.config, self.device, self.random_state
        )
        self.spot_size = data.spot_size
        n_in = data.features.shape[1]
        self.net = build_network(
            self.config,
            n_in,
            n_in if data.counts is None else len(self.decoded),
            counts=data.counts is not None,
            n_libraries=data.n_libraries,
            random_state=self.random_state,
            fusion=self.plugins.fusion,
        ).to(self.device)
        if isinstance(self.net.decoder, CountDecoder):
            self.net.decoder.start_at(torch.from_numpy(data.mean_target()).to(self.device), self.config.decodes_apart)
        file = None
        if checkpoint is not None:
            settings = [self.config.to_dict(), self.random_state, __version__]
            file = Checkpoint(Path(checkpoint), fingerprint(settings, data.list_arrays()))
        how: dict[str, Any] = {"random_state": self.random_state, "plugins": self.plugins, "progress": progress}
        self.history = train(self.net, data, self.config, checkpoint=file, **how)

    def apply(
        self, adata: Annotated, *, layer: str | None = None, library_key: str | None = None, adapt: bool = True
    ) -> Result:
        """Find the model's domains in other data, without training.

        The trained network embeds the data; each spot takes the domain that it lies closest to, so that domain ``"3"``
        is the same as where the model was fitted.

        Parameters
        ----------
        adata
            Data with the model's embedding key, or its genes, by name: a missing one of them counts as its mean.
        layer, library_key
            As in :meth:`fit`.
        adapt
            Estimate on each slice, without labels, its offset, the shares of its domains and its covariance within
            domains; ``False`` takes those of the fitted data, which needs no more than a few spots. Not done where
            fewer than four in five of the model's genes are there: what is left of them would look like an offset.

        Returns
        -------
        Labels, confidence, embedding, and how unlike the fitted data each spot is.

        Raises
        ------
        InputError
            If the model has no domains or the data do not fit it.
        """
        self.fitted()
        if self.domain_map is None:
            raise InputError(
                "the model has no domains; fit it with STMFG(n_domains=7), or give a result of stmfg.tl.domains"
            )
        tissue = self._read(adata, layer, library_key)
        shared = 1.0 if self.use_rep is not None else _genes.share(tissue.genes, self.genes, self.maps["feature"])
        # Slices are not aligned with each other: each is compared with the domains by itself.
        result = self._embed(tissue, align=False)
        return assign_domains(result, self.domain_map, adapt=adapt and shared >= ADAPT_FROM, genes_shared=shared)

    def predict(
        self, adata: Annotated, *, layer: str | None = None, library_key: str | None = None
    ) -> NDArray[np.str_]:
        """Return the domain of every observation, (n_obs,), ``"1"`` to ``str(n_domains)``; see :meth:`apply`.

        On the fitted data it differs a little from ``result.labels``, which is the vote of all clusterings.
        """
        return np.asarray(self.apply(adata, layer=layer, library_key=library_key).labels)

    def transform(
        self, adata: Annotated, *, layer: str | None = None, library_key: str | None = None
    ) -> NDArray[np.float32]:
        """Embed observations, float32 (n_obs, d); NaN in the rows of observations without a single count."""
        self.fitted()
        result = self._embed(self._read(adata, layer, library_key), align=True)
        result.embedding[result.left_out] = np.nan
        return result.embedding

    def denoise(
        self, adata: Annotated, *, layer: str | None = None, library_key: str | None = None
    ) -> NDArray[np.float32]:
        """Return the decoder's mean for every observation at the median depth, float32 (n_obs, n_vars).

        NaN for genes that are not decoded and observations left out. A model trained without counts raises InputError.
        """
        net = self.fitted()
        if not len(self.decoded):
            raise InputError("the model was trained on an embedding and has no count decoder; fit it on raw counts")
        embedding = self.transform(adata, layer=layer, library_key=library_key)
        denoised = np.full((adata.n_obs, adata.n_vars), np.nan, dtype=np.float32)
        columns = _genes.columns(self.genes, adata.var_names)[self.decoded]
        used = np.flatnonzero(~np.isnan(embedding[:, 0]))
        with torch.inference_mode():
            for rows in np.array_split(used, max(1, len(used) // 4096)):
                z = torch.from_numpy(embedding[rows]).to(self.device)
                mu, _, pi_logits = net.decoder(z, torch.full((len(rows), 1), self.spot_size, device=self.device))
                expected = (mu * torch.sigmoid(-pi_logits)).cpu().numpy()
                denoised[np.ix_(rows, columns[columns >= 0])] = expected[:, columns >= 0]
        return denoised

    def _embed(self, tissue: Tissue, *, align: bool) -> Result:
        """Embed observations; ``align`` takes off what their slices differ in as wholes."""
        self.fitted()
        spots, order = prepare(tissue, self.config)
        maps = dict(self.maps)
        if spots.counts is not None:
            counts, maps["feature"] = _genes.matched(spots.counts, tissue.genes, self.genes, maps["feature"])
            spots = replace(spots, counts=counts)
        elif spots.representation is not None and spots.representation.shape[1] != len(maps["feature"].center):
            raise InputError(
                f"obsm[{self.use_rep!r}] has {spots.representation.shape[1]} columns, the model was trained on "
                f"{len(maps['feature'].center)}; give the embedding the model was trained on"
            )
        factors = _features.transform(spots, maps, self.config, align=align)
        return self._encode(tissue, order, factors, build_graphs(spots, factors, maps, self.config))

    def _encode(
        self,
        tissue: Tissue,
        order: NDArray[np.int64],
        factors: NDArray[np.float32],
        graphs: Graphs,
        base: Base | None = None,
    ) -> Result:
        net, left_out = self.fitted(), tissue.left_out
        if tissue.spatial_graph is not None:
            graph = sparse.csr_matrix(tissue.spatial_graph)
        elif left_out.any():
            graph = build_spatial_graph(tissue, self.config)
        else:
            place = np.argsort(order)
            graph = sparse.csr_matrix(graphs["spatial"][place][:, place])
        with torch.inference_mode():
            x = torch.from_numpy(_features.select_inputs(factors, self.maps)).to(self.device)
            encoded = net.encode(x, operators(graphs, self.config, self.device))
        near = surroundings(graph, tissue.coordinates, left_out, tissue.libraries)

        def scatter(values: NDArray[np.float32]) -> NDArray[np.float32]:
            rows = np.zeros((len(left_out), values.shape[1]), dtype=np.float32)
            rows[order] = values[: len(order)]
            rows[left_out] = near @ rows if left_out.any() else 0  # a product of no rows takes as long as one of many
            return rows

        return Result(
            embedding=scatter(encoded.embedding.cpu().numpy()),
            view_weights=scatter(torch.cat(encoded.weights, dim=1).cpu().numpy()),
            widths=net.scales,
            coordinates=tissue.coordinates,
            graph=graph,
            graph_made_by=tissue.graph_made_by,
            left_out=left_out,
            base=None if base is None else replace(base, values=scatter(base.values)),
            libraries=tissue.libraries,
            slices=tissue.slices,
        )

    @property
    def view_weight_names(self) -> list[str]:
        """Names of the columns of the view weights, ``"layer 1: spatial"`` and so on."""
        last = self.config.n_layers
        depths = [last] if self.config.fusion == "late" else range(1, last + 1)
        return [f"layer {depth}: {view}" for depth in depths for view in self.config.view_names]

    def fitted(self) -> STMFGNet:
        """Return the network, or say that the model is not trained."""
        if self.net is None:
            raise InputError("the model is not trained; call fit(adata) first or load one with STMFG.load(path)")
        return self.net

    def save(self, path: str | Path) -> None:
        """Write the model to a folder: ``model.safetensors`` (arrays) and ``model.json`` (everything else).

        Of parts that were given as callables only the names are saved; :meth:`load` says which to give again.
        """
        files.save(self, Path(path).expanduser())

    @classmethod
    def load(cls, path: str | Path | Annotated, *, device: str = "auto", **plugins: Any) -> STMFG:
        """Read a model: from :meth:`save`, or in a result (a run's folder, ``.h5ad``, AnnData). Runs no code in it.

        Parameters
        ----------
        path
            Folder, file or AnnData.
        device
            ``"auto"``, ``"cpu"`` or ``"cuda"``.
        plugins
            ``clusterer``, ``fusion`` and ``extra_losses`` of the model, where these were callables.

        Raises
        ------
        InputError
            If there is no model, one of a newer format, or one whose fusion must be given again.
        """
        return files.load(cls, path, device, plugins)

"""The model as an object: fit, transform, save, load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse

from stmfg._core import checks
from stmfg._core.timing import stage
from stmfg._version import __version__
from stmfg.config import Config
from stmfg.errors import InputError
from stmfg.model import features as _features
from stmfg.model import genes as _genes
from stmfg.model import views as _views
from stmfg.model.batches import TrainingData, operators
from stmfg.model.graphs import patches, walk_operator
from stmfg.model.network import CountDecoder, STMFGNet
from stmfg.model.processes import Processes
from stmfg.model.tissue import Slice, take, warn_left_out
from stmfg.model.train import History, pick_device, train

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg.model.transfer import DomainMap

    Graphs = dict[str, sparse.csr_matrix]

__all__ = ["STMFG", "Fitted"]

_UNTRAINED = "the model is not trained; call fit(adata) first or load one with STMFG.load(path)"
TRAIN_AT_MOST = 20_000
"""Spots the network is trained on: patches of tissue that hold about so many. It is applied to all."""


@dataclass
class Fitted:
    """What the network makes of the observations, in the order of the AnnData; NaN where one was left out."""

    embedding: NDArray[np.float32]
    """(n, d)."""
    view_weights: NDArray[np.float32]
    """(n, layers * views)."""
    graph: sparse.csr_matrix | None
    """Spatial graph of all observations; None where some were left out."""


class STMFG:
    """Multi-view graph network of one slice, or of several.

    Parameters
    ----------
    config
        Hyperparameters; the preset's when not given.
    preset
        ``"default"`` or ``"paper"``.
    random_state
        Seed; the same seed gives the same result.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    options
        Hyperparameters to change, by their names in :class:`stmfg.Config`.

    Raises
    ------
    InputError
        If an option is unknown or out of range, or the device is not there.

    Examples
    --------
    >>> import stmfg
    >>> adata = stmfg.datasets.simulate(600, 200)
    >>> model = stmfg.STMFG(epochs=5).fit(adata)
    >>> model.transform(adata).shape[0]
    600
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        preset: str = "default",
        random_state: int = 0,
        device: str = "auto",
        **options: Any,
    ) -> None:
        self.config = (config or Config.preset(preset)).replace(**options)
        self.random_state = checks.random_state(random_state)
        self.device = pick_device(device)
        self.history: History = {}
        self.genes: list[str] = []
        self.decoded: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.spot_size = 1.0
        self.use_rep: str | None = None
        self.feature_map: _features.FeatureMap | None = None
        self.domain_map: DomainMap | None = None
        self.view_maps: dict[str, _features.FeatureMap] = {}
        self.net: STMFGNet | None = None

    # -- fitting ---------------------------------------------------------------------------------------

    def fit(
        self,
        adata: AnnData,
        *,
        use_rep: str | None = None,
        layer: str | None = None,
        library_key: str | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> STMFG:
        """Train on the raw counts, or a given embedding, and the coordinates.

        Parameters
        ----------
        adata
            Raw counts in ``layers[layer]``, ``layers["counts"]`` or ``X``; coordinates in
            ``obsm["spatial"]``. Graphs in ``obsp["spatial_connectivities"]`` and
            ``obsp["stmfg_feature_connectivities"]`` are used when present. Not changed.
        use_rep
            Key of an embedding in ``obsm`` that takes the place of the counts.
        layer
            Layer with the raw counts.
        library_key
            Column of ``obs`` that names the slice; slices are never linked in tissue.
        checkpoint
            File to continue from and to save to.
        progress
            Whether to show a progress bar.

        Returns
        -------
        The model itself.

        Raises
        ------
        InputError
            If the data cannot be used; says why in one line.
        TrainingError
            If the loss becomes non-finite.
        """
        self._fit(adata, use_rep, layer, library_key, checkpoint, progress=progress)
        return self

    def fit_apply(
        self,
        adata: AnnData,
        *,
        use_rep: str | None = None,
        layer: str | None = None,
        library_key: str | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Fitted:
        """Train as :meth:`fit`, and :meth:`apply` to the same data without preparing them again."""
        part, features, graphs = self._fit(adata, use_rep, layer, library_key, checkpoint, progress=progress)
        with stage("embedding"):
            return self._encode(part, features, graphs, adata.n_obs)

    def _fit(
        self,
        adata: AnnData,
        use_rep: str | None,
        layer: str | None,
        library_key: str | None,
        checkpoint: str | Path | None,
        *,
        progress: bool,
    ) -> tuple[Slice, NDArray[np.float32], Graphs]:
        with stage("check"):
            part = take(adata, self.config, use_rep, layer, library_key)
            warn_left_out(adata, part.left_out)
        self.use_rep = use_rep
        self.genes = list(map(str, adata.var_names))
        with stage("features"):
            operator = walk_operator(part.graph)
            self.feature_map, features = _features.fit(
                part.counts, part.representation, operator, self.config, self.random_state, libraries=part.libraries
            )
            self.feature_map, self.domain_map = self.feature_map.folded(), None
            self.view_maps, more = _views.fit(part, operator, self.config, self.random_state)
            features = np.hstack([features, *more]) if more else features
        with stage("graphs"):
            graphs = self._graphs(part, features)
        with stage("train"):
            processes = Processes(self.device)
            data = self._training_data(part, features, graphs, processes)
            self.spot_size = data.spot_size
            counted = data.counts is not None
            n_out = len(self.decoded) if counted else features.shape[1]
            self.net = self.build(features.shape[1], n_out, counts=counted, n_libraries=data.n_libraries)
            if isinstance(self.net.decoder, CountDecoder):
                self.net.decoder.start_at(torch.from_numpy(data.mean_target()).to(self.device))
            self.history = train(
                self.net,
                data,
                self.config,
                random_state=self.random_state,
                checkpoint=None if checkpoint is None or processes.rank else Path(checkpoint),
                fingerprint=self._fingerprint(features, data.counts, *graphs.values()),
                processes=processes,
                progress=progress,
            )
        return part, features, graphs

    def _training_data(
        self, part: Slice, features: NDArray[np.float32], graphs: Graphs, processes: Processes
    ) -> TrainingData:
        """Return what the network is trained on: everything, or patches of a large tissue, each process its own."""
        spots = patches(
            part.coordinates, TRAIN_AT_MOST, libraries=part.libraries, share=processes.rank, shares=processes.size
        )
        n_libraries = part.n_libraries  # whether or not each has a spot in a patch
        if len(spots) < len(features):
            # A spot's neighbours in expression are everywhere: among the patches they are looked for anew.
            part, features = part.some(spots), features[spots]
            graphs = self._graphs(part, features)
        counts = depth = None
        self.decoded = np.zeros(0, dtype=np.int64)
        if part.counts is not None and part.depth is not None and self.config.reconstruction == "zinb":
            counts, depth = part.counts.rows(slice(None)), part.depth
            self.decoded = processes.share(self._decoded_genes(counts, self.fitted_map().genes))
            counts = counts[:, self.decoded]
        return TrainingData(features, graphs, counts, depth, self.config, self.device, part.libraries, n_libraries)

    def _decoded_genes(self, counts: sparse.csr_matrix, genes: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.config.decoder_genes:
            return genes
        return genes[_features.most_variable(counts[:, genes], self.config.decoder_genes)]

    def build(self, n_in: int, n_out: int, *, counts: bool, n_libraries: int = 1) -> STMFGNet:
        """Return the untrained network on the model's device."""
        # Layers draw their first weights from the global generator; forking leaves the user's as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.random_state)  # torch.manual_seed would reseed every GPU too
            net = STMFGNet(n_in, n_out, self.config, counts=counts, n_libraries=n_libraries)
        return net.to(self.device)

    def _graphs(self, part: Slice, features: NDArray[np.float32]) -> Graphs:
        graphs, expression = {"spatial": part.graph}, self.fitted_map()
        if "feature" in self.config.views:
            graphs["feature"] = part.feature_graph
            if part.feature_graph is None:
                ours = features[:, : expression.width]
                graphs["feature"] = _views.neighbors(ours, expression.autocorrelation, part.graph, self.config)
        return graphs | _views.build_view_graphs(expression, self.view_maps, features, part.graph, self.config)

    def _fingerprint(self, features: NDArray[np.float32], *matrices: sparse.csr_matrix | None) -> str:
        digest = hashlib.sha256(json.dumps([self.config.to_dict(), self.random_state, __version__]).encode())
        digest.update(np.ascontiguousarray(features).tobytes())
        for matrix in matrices:
            for array in () if matrix is None else (matrix.indptr, matrix.indices, matrix.data):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    # -- applying --------------------------------------------------------------------------------------

    @property
    def view_weight_names(self) -> list[str]:
        """Names of the columns of the view weights, ``"layer 1: spatial"`` and so on."""
        depths = range(1, len(self.config.widths) + 1) if self.config.fusion == "layer" else [len(self.config.widths)]
        return [f"layer {depth}: {view}" for depth in depths for view in self.config.view_names]

    @property
    def scales(self) -> list[int]:
        """Columns of the embedding that belong to each layer, in order; one entry when it is the last layer's."""
        return self.fitted()[1].scales

    def apply(
        self, adata: AnnData, *, layer: str | None = None, library_key: str | None = None, align: bool = True
    ) -> Fitted:
        """Run the encoder as :meth:`transform`, and return the view weights too; ``align`` slices with each other."""
        feature_map, _ = self.fitted()
        part = take(adata, self.config, self.use_rep, layer, library_key)
        part = part if align else replace(part, libraries=None)
        if (counts := part.counts) is not None:
            counts, feature_map = _genes.matched(counts, adata.var_names, self.genes, feature_map)
        if part.representation is not None and part.representation.shape[1] != len(feature_map.center):
            raise InputError(
                f"obsm[{self.use_rep!r}] has {part.representation.shape[1]} columns, the model was trained on "
                f"{len(feature_map.center)}; give the embedding the model was trained on"
            )
        log1p, operator = self.config.log1p, walk_operator(part.graph)
        features = _features.transform(
            feature_map, counts, part.representation, log1p=log1p, operator=operator, libraries=part.libraries
        )
        more = _views.transform(self.view_maps, part, operator, log1p=log1p)
        features = np.hstack([features, *more]) if more else features
        return self._encode(part, features, self._graphs(part, features), adata.n_obs)

    def _encode(self, part: Slice, features: NDArray[np.float32], graphs: Graphs, n: int) -> Fitted:
        _, net = self.fitted()
        with torch.inference_mode():
            x = torch.from_numpy(features).to(self.device)
            encoded = net.encode(x, operators(graphs, self.config, self.device))
            embedding = encoded.embedding.cpu().numpy()
            weights = torch.cat(encoded.weights, dim=1).cpu().numpy()
        return Fitted(
            part.scatter(embedding, n),
            part.scatter(weights, n),
            None if len(part.left_out) else part.spatial_graph(n),
        )

    def transform(
        self, adata: AnnData, *, layer: str | None = None, library_key: str | None = None
    ) -> NDArray[np.float32]:
        """Embed observations with the trained model.

        Parameters
        ----------
        adata
            Data with the model's embedding key, or its genes, by name: a missing one of them counts as its mean.
        layer, library_key
            As in :meth:`fit`.

        Returns
        -------
        Embedding, float32 (n_obs, d); NaN in the rows of observations without a single count.

        Raises
        ------
        InputError
            If the data do not fit the model, or it is not trained.
        """
        return self.apply(adata, layer=layer, library_key=library_key).embedding

    def denoise(
        self, adata: AnnData, *, layer: str | None = None, library_key: str | None = None
    ) -> NDArray[np.float32]:
        """Return the decoder's mean for every observation at the median depth.

        Returns
        -------
        Expected counts, float32 (n_obs, n_vars); NaN for genes that are not decoded and observations left out.

        Raises
        ------
        InputError
            If the model was trained without counts.
        """
        _, net = self.fitted()
        if not len(self.decoded):
            raise InputError("the model was trained on an embedding and has no count decoder; fit it on raw counts")
        embedding = self.transform(adata, layer=layer, library_key=library_key)
        result = np.full((adata.n_obs, adata.n_vars), np.nan, dtype=np.float32)
        columns = _genes.columns(self.genes, adata.var_names)[self.decoded]
        used = np.flatnonzero(~np.isnan(embedding[:, 0]))
        with torch.inference_mode():
            for rows in np.array_split(used, max(1, len(used) // 4096)):
                z = torch.from_numpy(embedding[rows]).to(self.device)
                mu, _, pi_logits = net.decoder(z, torch.full((len(rows), 1), self.spot_size, device=self.device))
                expected = (mu * torch.sigmoid(-pi_logits)).cpu().numpy()
                result[np.ix_(rows, columns[columns >= 0])] = expected[:, columns >= 0]
        return result

    def fitted_map(self) -> _features.FeatureMap:
        """Return the feature map, or say that the model is not trained."""
        if self.feature_map is None:
            raise InputError(_UNTRAINED)
        return self.feature_map

    def fitted(self) -> tuple[_features.FeatureMap, STMFGNet]:
        """Return the feature map and the network, or say that the model is not trained."""
        if self.feature_map is None or self.net is None:
            raise InputError(_UNTRAINED)
        return self.feature_map, self.net

    # -- files -----------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the model to a folder: ``model.safetensors`` (arrays) and ``model.json`` (everything else).

        Raises
        ------
        InputError
            If the model is not trained.
        """
        from stmfg.model import files as _model_files

        _model_files.save(self, Path(path).expanduser())

    @classmethod
    def load(cls, path: str | Path | AnnData, *, device: str = "auto") -> STMFG:
        """Read a model: from :meth:`save`, or in a result (a run's folder, ``.h5ad``, AnnData). Runs no code in it.

        Raises
        ------
        InputError
            If there is no model, or one of a newer format.
        """
        from stmfg.model import files as _model_files

        return _model_files.load(path, device)

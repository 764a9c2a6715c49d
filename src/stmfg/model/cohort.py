"""A cohort in parts: what is fitted on a sample of it, and what that makes of one slice alone. Arrays only.

The domains are those of :func:`stmfg.model.domains.find_domains` on all slices at once, in steps that never hold more
than a sample of the cohort or one slice: maps and network are fitted on patches of tissue, clusterings on spots drawn
from all slices, and both are linear, so that they are applied to a slice without the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from stmfg._core.blocks import FIT_AT_MOST, subsample
from stmfg.model import cluster, features, offsets, transfer
from stmfg.model import genes as _genes
from stmfg.model.averages import Base, average
from stmfg.model.batches import build_part
from stmfg.model.graphs import patches, walk, walk_operator
from stmfg.model.inputs import build_graphs, prepare
from stmfg.model.kind import describe_spots
from stmfg.model.mixture import FLOOR, LOG2, discriminant, fit_mixtures, softmax
from stmfg.model.threads import map_in_order
from stmfg.model.vote import OWN_FROM, Member, add_own, cluster_members, list_members

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    from stmfg._core.tissue import Tissue
    from stmfg.config import Config
    from stmfg.model.domains import Result
    from stmfg.model.estimator import STMFG

    Array = NDArray[Any]

MAX_ITER = 50
AVERAGED_OVER = 2  # random-walk steps
LANDMARKS_AT_MOST = 20_000
"""Spots of other slices that the spots of a slice are linked with."""


_PARTS = ("means", "covariance", "shares", "center")


@dataclass(frozen=True)
class Rule:
    """One clustering as a rule for other spots: the log-posterior is linear, since components share a covariance."""

    slope: Array  # (d, k)
    intercept: Array  # (k,)

    def posterior(self, x: Array) -> Array:
        """Return the posterior of every component, (n, k)."""
        return np.asarray(softmax(x @ self.slope + self.intercept)[0])


def _describe(x: Array, posterior: Array) -> tuple[Array, Array, Array]:
    """Means (k, d), covariance within (d, d) and shares (k,) of Gaussians: one step from a posterior (n, k)."""
    shares = posterior.mean(axis=0) + 1e-12
    means = posterior.T @ x / (len(x) * shares[:, None])
    within = x.T @ x / len(x) - (shares * means.T) @ means
    return means, within + FLOOR * np.mean(np.diag(within)) * np.eye(x.shape[1]), shares


def fit_rule(x: Array, posterior: Array) -> Rule:
    """Return the rule that makes a posterior (n, k) of values (n, d)."""
    x, posterior = np.asarray(x, dtype=np.float64), np.asarray(posterior, dtype=np.float64)
    center = x.mean(axis=0)
    means, within, shares = _describe(x - center, posterior)
    slope, intercept, _ = discriminant(means, within, np.log(shares))
    return Rule(slope, intercept - center @ slope)


@dataclass(frozen=True)
class Footing:
    """What slices have in common once the offset of each is taken off, to take off that of a further one.

    A Gaussian mixture of features averaged over their surroundings, see :func:`stmfg.model.offsets.align`, of which a
    further slice may differ by an offset and in the shares of its components.
    """

    means: Array  # (k, d)
    covariance: Array  # (d, d)
    shares: Array  # (k,)
    center: Array  # mean offset of the slices it was fitted on, (d,)
    known: dict[str, Array]
    """Offset (d,) of every slice that it was fitted on as a whole."""

    def place(self, x: Array, operator: csr_matrix, name: str) -> NDArray[np.float32]:
        """Take the offset of a slice off its features (n, d); a slice without a name is none of those fitted on."""
        offset = self.known[name] if name in self.known else self._find_offset(x, operator)
        return np.asarray(x - offset, dtype=np.float32)

    def _find_offset(self, x: Array, operator: csr_matrix) -> Array:
        y = np.asarray(walk(operator, x, AVERAGED_OVER), dtype=np.float64)[subsample(len(x), FIT_AT_MOST, 0)]
        offset, shares, labels = y.mean(axis=0) - self.shares @ self.means, self.shares, np.full(len(y), -1)
        for _ in range(MAX_ITER):
            slope, intercept, _ = discriminant(self.means, self.covariance, np.log(shares))
            posterior = softmax((y - offset) @ slope + intercept)[0]
            before, labels = labels, posterior.argmax(axis=1)
            if (labels == before).all():
                break
            shares = posterior.mean(axis=0) + 1e-6
            offset = (y - posterior @ self.means).mean(axis=0)
        return np.asarray(offset)


def fit_footing(
    x: NDArray[np.float32],
    operator: csr_matrix,
    libraries: NDArray[np.int64] | None,
    whole: dict[str, int],
    groups: Array | None = None,
) -> tuple[Footing, NDArray[np.float32]]:
    """Align slices, and return their footing and the aligned features (n, d).

    ``whole`` has the codes of slices that are here with all their spots, by name; ``groups`` are those they share.
    """
    aligned = offsets.align(x, libraries, groups)
    y = np.asarray(walk(operator, aligned, AVERAGED_OVER), dtype=np.float64)
    y = y[subsample(len(y), FIT_AT_MOST, 0)]
    k = min(offsets.N_COMPONENTS, len(np.unique(y, axis=0)))
    means, covariance, shares = _describe(y, np.asarray(cluster.mixture(y, k), dtype=np.float64))
    codes = np.zeros(len(x), dtype=np.int64) if libraries is None else libraries
    moved = offsets.means(x - aligned, codes)
    known = {name: moved[code] for name, code in whole.items()}
    return Footing(means, covariance, shares, moved.mean(axis=0), known), aligned


@dataclass(frozen=True)
class Landmarks:
    """Patches of tissue with which the spots of a slice are linked where expression is alike, as in a joint run."""

    factors: NDArray[np.float32]  # (n, d)
    spatial: csr_matrix  # (n, n)
    near: csr_matrix  # surroundings over which features must agree, (n, n)
    names: NDArray[np.str_]  # slice of each, (n,)

    def join(self, spots: Tissue, factors: NDArray[np.float32], name: str) -> tuple[Tissue, NDArray[np.float32]]:
        """Return a slice, its spots first, with the landmarks of all others: graphs, and factors."""
        rows = np.flatnonzero(self.names != name)
        spatial, near = (
            sparse.block_diag([own, graph[rows][:, rows]], format="csr", dtype=np.float32)
            for own, graph in ((spots.spatial_graph, self.spatial), (spots.surroundings, self.near))
        )
        together = np.vstack([factors, self.factors[rows]])
        return replace(spots, spatial_graph=spatial, near_graph=near, feature_graph=None), together


@dataclass(frozen=True)
class Fit:
    """What is fitted on patches of the cohort."""

    model: STMFG
    footings: list[Footing]
    """Of what the map gives; of spots that are mixtures also of what describes them."""
    landmarks: Landmarks
    middle: float
    """Of a representation, the median norm in units of which its rows are compressed."""
    n_domains: int
    slice_size: float
    """Mean number of spots of a slice of the cohort, for the widths of averages."""
    embedded: dict[str, NDArray[np.float32]]
    """Embedding of every slice that was fitted on whole, and what is averaged: found again, they would differ by
    rounding."""

    def to_arrays(self) -> dict[str, Array]:
        """Return everything but the model as arrays by name."""
        arrays = {name: np.asarray(getattr(self, name)) for name in ("middle", "n_domains", "slice_size")}
        arrays |= {f"embedded.{name}": embedding for name, embedding in self.embedded.items()}
        arrays |= {"landmarks": self.landmarks.factors, "landmarks.names": self.landmarks.names}
        for name in ("spatial", "near"):
            graph = getattr(self.landmarks, name)
            arrays |= {f"{name}.{part}": getattr(graph, part) for part in ("data", "indices", "indptr")}
        for i, footing in enumerate(self.footings):
            known = footing.known
            arrays |= {f"{i}.{name}": getattr(footing, name) for name in _PARTS}
            arrays[f"{i}.names"] = np.asarray(list(known), dtype=np.str_)
            arrays[f"{i}.offsets"] = np.asarray(list(known.values()))
        return arrays

    @classmethod
    def from_arrays(cls, model: STMFG, arrays: dict[str, Array]) -> Fit:
        """Return what :meth:`to_arrays` was called on."""
        footings = []
        for i in range(1 + ("1.means" in arrays)):
            known = dict(zip(arrays[f"{i}.names"].tolist(), arrays[f"{i}.offsets"], strict=True))
            means, covariance, shares, center = (arrays[f"{i}.{name}"] for name in _PARTS)
            footings.append(Footing(means, covariance, shares, center, known))
        spatial, near = (
            sparse.csr_matrix(tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr")))
            for name in ("spatial", "near")
        )
        landmarks = Landmarks(arrays["landmarks"], spatial, near, arrays["landmarks.names"])
        middle, n_domains, slice_size = (arrays[name].item() for name in ("middle", "n_domains", "slice_size"))
        embedded = {k.removeprefix("embedded."): x for k, x in arrays.items() if k.startswith("embedded.")}
        return cls(model, footings, landmarks, middle, n_domains, slice_size, embedded)

    def embed(self, tissue: Tissue, name: str) -> tuple[Result, NDArray[np.float32]]:
        """Embed a slice on the footing of all, and also as it is, which tells how unlike them it is.

        The second is the first where the slice has a name, by which it is one of those that were fitted on.
        """
        model = self.model
        spots, order = prepare(tissue, model.config)
        maps, operator = dict(model.maps), walk_operator(spots.surroundings)
        if spots.counts is not None:
            counts, maps["feature"] = _genes.matched(spots.counts, tissue.genes, model.genes, maps["feature"])
            spots = replace(spots, counts=counts)
        first, narrow = maps["feature"], model.config.neighborhoods == "narrow"
        unplaced, _ = _apply_map(spots, first, model.config, self.middle)
        x = self.footings[0].place(unplaced, operator, name)
        factors, unplaced = x, unplaced - self.footings[0].center.astype(np.float32)
        if first.mixtures:
            factors = self.footings[1].place(_describe_spots(x, first), operator, name)
            unplaced = _describe_spots(unplaced, first) - self.footings[1].center.astype(np.float32)
        n = len(factors)
        spots, factors = self.landmarks.join(spots, factors, name)
        graphs = build_graphs(spots, factors, maps, model.config)
        result = model._encode(tissue, order, factors, graphs, Base(x, first.mixtures, narrow=narrow))
        if name in self.embedded:
            embedding, values = np.split(self.embedded[name], [result.embedding.shape[1]], axis=1)
            result = replace(result, embedding=embedding, base=Base(values, first.mixtures, narrow=narrow))
        if name:
            return result, result.embedding
        return result, model._encode(tissue, order, np.vstack([unplaced, factors[n:]]), graphs).embedding

    def share_genes(self, given: Sequence[str]) -> float:
        """Return the share of the model's genes that are given."""
        model = self.model
        return 1.0 if model.use_rep is not None else _genes.share(given, model.genes, model.maps["feature"])

    def average(self, result: Result) -> Iterator[Array]:
        """Yield the averages of a slice that vote, each float32 (n_used, d)."""
        used = np.flatnonzero(~result.left_out)
        if self.model.config.averages and result.base is not None:
            base, alone = result.base.subset(used), np.zeros(len(used), dtype=np.int64)
            for x in average(base, result.coordinates[used], self.n_domains, alone, slice_size=self.slice_size):
                yield np.asarray(x, dtype=np.float32)


def _apply_map(
    spots: Tissue, first: features.FeatureMap, config: Config, middle: float | None
) -> tuple[NDArray[np.float32], float]:
    """Return what the map of the expression gives before offsets are taken off: components of spots, else factors.

    Of a representation that is compressed, also the norm in units of which it is; ``middle`` is that of the fit.
    """
    if spots.counts is not None:
        return features.apply_map(replace(first, mixtures=False), spots.counts, log1p=config.log1p), 1.0
    if spots.representation is None:
        raise ValueError("there are neither counts nor a representation")
    x = (spots.representation - first.center) / first.scale
    if not first.mixtures:
        libraries = np.zeros(len(x), dtype=np.int64) if spots.libraries is None else spots.libraries
        x = offsets.centred(x, libraries)
        middle = middle or float(np.median(np.linalg.norm(x, axis=1)))
        x = features.compress(x, middle).astype(np.float32)
    return np.asarray(x @ first.rotation, dtype=np.float32), middle or 1.0


def _describe_spots(components: NDArray[np.float32], first: features.FeatureMap) -> NDArray[np.float32]:
    return describe_spots(components[:, : first.width // 2], first.spread)


def complete_fit(model: STMFG, tissue: Tissue, whole: Collection[str], n_domains: int, slice_size: float) -> Fit:
    """Return what slices are embedded with, of a model and the patches it was fitted on.

    ``whole`` names the slices that are there with all their spots.
    """
    spots, order = prepare(tissue, model.config)
    first, operator, libraries = model.maps["feature"], walk_operator(spots.surroundings), spots.libraries
    places = np.zeros(len(order), dtype=np.int64) if tissue.libraries is None else tissue.libraries[order]
    names = np.asarray(tissue.slices or [""])[places]
    codes = {str(name): 0 if libraries is None else int(libraries[names == name][0]) for name in np.unique(names)}
    codes = {name: code for name, code in codes.items() if name in whole}
    x, middle = _apply_map(spots, first, model.config, None)
    source = spots.representation if spots.counts is None else spots.counts
    groups = features.find_groups(source, first, model.config, libraries)
    footing, aligned = fit_footing(x, operator, libraries, codes, groups)
    footings, factors = [footing], aligned
    if first.mixtures:
        footing, factors = fit_footing(_describe_spots(aligned, first), operator, libraries, codes, groups)
        footings.append(footing)
    rows = patches(spots.coordinates, LANDMARKS_AT_MOST, libraries)
    spatial, near = (build_part(graph, rows) for graph in (spots.spatial_graph, spots.surroundings))
    landmarks = Landmarks(factors[rows], spatial, near, names[rows])
    embedded = {}
    result = model.result
    if result is not None and result.base is not None and tissue.libraries is not None:
        both, places = np.hstack([result.embedding, result.base.values]), np.asarray(tissue.slices)[tissue.libraries]
        embedded = {name: both[places == name] for name in codes}
    return Fit(model, footings, landmarks, middle, n_domains, slice_size, embedded)


@dataclass(frozen=True)
class Ballot:
    """The clusterings of a sample of the cohort, as rules for all slices, and the domains they agreed on."""

    rules: list[list[Rule]]
    """Of every member of the vote, as :func:`stmfg.model.vote.list_members` lists them; components are the domains."""
    domain_map: transfer.DomainMap

    def to_arrays(self) -> dict[str, Array]:
        """Return everything as arrays by name."""
        arrays = {f"domains.{name}": value for name, value in self.domain_map.to_dict().items()}
        for i, rules in enumerate(self.rules):
            arrays[f"{i}.slope"] = np.stack([rule.slope for rule in rules])
            arrays[f"{i}.intercept"] = np.stack([rule.intercept for rule in rules])
        return arrays

    @classmethod
    def from_arrays(cls, arrays: dict[str, Array]) -> Ballot:
        """Return what :meth:`to_arrays` was called on."""
        n_members = sum(name.endswith(".slope") for name in arrays)
        rules = [
            [Rule(*rule) for rule in zip(arrays[f"{i}.slope"], arrays[f"{i}.intercept"], strict=True)]
            for i in range(n_members)
        ]
        names = [name for name in arrays if name.startswith("domains.")]
        return cls(rules, transfer.DomainMap.of({name.removeprefix("domains."): arrays[name] for name in names}))

    def label(
        self, embedding: Array, averages: Sequence[Array], widths: list[int], config: Config, random_state: int
    ) -> Array:
        """Return the share of the vote of every domain, (n, k), of the spots of a slice.

        As :func:`stmfg.model.vote.vote`: the clusterings of the cohort and those of the slice by itself, with as large
        a say.
        """
        k, n = len(self.domain_map.shares), len(embedding)
        members = list(list_members(embedding, widths, averages, config))
        total = np.zeros((n, k))
        for member, rules in zip(members, self.rules, strict=True):
            for rule in rules:
                total += rule.posterior(np.asarray(member.values))
        shares = total / sum(map(len, self.rules))
        if config.n_votes < 2 or n < max(OWN_FROM, k):
            return shares
        own = [Member(member.values, max(1, member.n_votes // 2)) for member in members]
        return add_own(shares, cluster_members(own, k, config, random_state))


@torch.inference_mode()
def _cluster(x: Array, k: int, seeds: list[int], config: Config) -> list[tuple[Rule, Array]]:
    """Cluster values (n, d) once for every seed, as a vote does: rules, and posteriors (n, k)."""
    if config.clusterer != "mixture":
        method = getattr(cluster, config.clusterer)
        posteriors = [
            np.asarray(method(x, k, n_starts=config.n_starts, random_state=seed), dtype=np.float64) for seed in seeds
        ]
        return [(fit_rule(x, posterior), posterior) for posterior in posteriors]
    values, center, scale = cluster.unit_scale(x, "cpu")
    fitted = fit_mixtures(values, k, seeds, config.n_starts)
    slopes = fitted.slope.double().numpy().transpose(0, 2, 1) * (LOG2 / scale)
    intercepts = fitted.intercept.double().numpy() * LOG2 - center.double().numpy() @ slopes
    posteriors = [posterior.numpy().T for posterior in fitted.assign(values)[0]]
    return list(zip(map(Rule, slopes, intercepts), posteriors, strict=True))


def order_spots(embedding: Array, coordinates: Array) -> NDArray[np.int64]:
    """Return the order of spots by their values alone in which they are clustered."""
    return np.lexsort([*coordinates.T, *embedding.T[2::-1]])


def hold_vote(
    embedding: Array, averages: Sequence[Array], widths: list[int], n_domains: int, config: Config, random_state: int
) -> Ballot:
    """Let clusterings of spots drawn from all slices vote; domains are named by their size among these."""
    rng = np.random.default_rng(random_state)
    tasks = (
        (np.asarray(member.values), n_domains, rng.integers(2**31, size=member.n_votes).tolist(), config)
        for member in list_members(embedding, widths, averages, config)
    )
    n_threads = 1 if config.clusterer == "leiden" else None
    clusterings = list(map_in_order(lambda task: _cluster(*task), tasks, n_threads=n_threads))
    posteriors = [posterior for of_member in clusterings for _, posterior in of_member]
    shares = np.asarray(cluster.consensus(posteriors), dtype=np.float64)
    sizes = np.bincount(shares.argmax(axis=1), minlength=n_domains)
    shares = shares[:, np.argsort(-sizes, kind="stable")]
    rules: list[list[Rule]] = [[] for _ in clusterings]
    for named, of_member in zip(rules, clusterings, strict=True):
        for rule, posterior in of_member:
            place = linear_sum_assignment(-(shares.T @ posterior))[1]
            named.append(Rule(rule.slope[:, place], rule.intercept[place]))
    layers = widths if config.scales == "every" and len(widths) > 1 else []
    return Ballot(rules, transfer.fit(embedding, shares, layers))

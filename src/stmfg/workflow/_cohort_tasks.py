"""What is done with one sample of a cohort, wherever it is done: each task reads files and writes files.

A file appears whole or not at all, and what is in it depends on the input and the options alone: a task that was lost
is done again with the same result, and one that is done is not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from stmfg._core.blocks import FIT_AT_MOST, counts_read_once, subsample
from stmfg._core.files import replacing
from stmfg._core.tissue import read_tissue
from stmfg._keys import CONFIDENCE, DOMAIN, EMBEDDING, SLICE, SPATIAL, UNLIKE, VIEW_WEIGHTS
from stmfg.errors import InputError
from stmfg.io._read import read
from stmfg.io.sheet import describe_spots
from stmfg.workflow.options import RunOptions

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from stmfg._core.tissue import Tissue
    from stmfg.model.cohort import Ballot, Fit
    from stmfg.model.estimator import STMFG

SHOWN_AT_MOST: Final = 50_000
"""Spots that the report shows."""
PATCH: Final = 1_000
"""Spots of a patch of tissue at most, so that patches of many samples are fitted on."""
PATCHES_AT_MOST: Final = 40_000
"""Spots that maps and network are fitted on; a cohort that has fewer is fitted on as a whole."""


class Part(NamedTuple):
    """A sample: its name, its file or folder, what wrote that, and what the sheet says of it."""

    name: str
    source: str
    platform: str | None
    metadata: dict[str, str]


class Content(NamedTuple):
    """What samples hold: the genes they share, and the number of spots of each."""

    genes: list[str]
    sizes: dict[str, int]


@dataclass(frozen=True)
class Job:
    """What every task knows: the folder for its files, that of what is fitted, and the options."""

    folder: Path
    fitted: Path
    options: RunOptions
    is_new: bool = False
    """Whether the samples are others than those that were fitted on."""

    def file(self, kind: str, name: str, suffix: str) -> Path:
        """Return the file of a sample, in a folder that is there."""
        folder = self.folder / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}{suffix}"

    @cached_property
    def content(self) -> Content:
        """What all samples hold."""
        return Content(**json.loads((self.folder / "content.json").read_text(encoding="utf-8")))

    def quota(self, name: str, at_most: int) -> int:
        """Return how many spots of a sample are drawn where at most so many are drawn of all."""
        total, n = sum(self.content.sizes.values()), self.content.sizes[name]
        return n if total <= at_most else n * at_most // total


def open_sample(part: Part, options: RunOptions, genes: list[str] | None = None) -> AnnData:
    """Open a sample, its counts left on disk where they can be, with these genes alone."""
    try:
        try:
            adata = read(part.source, platform=part.platform, images=False, lazy=True)
        except InputError:  # not sparse by rows, for example
            adata = read(part.source, platform=part.platform, images=False)
        if SLICE in adata.obs and adata.obs[SLICE].nunique() > 1:
            raise InputError("it holds several slices; give each a line of the sheet")
        adata.var_names = adata.var_names.astype(str)
        if not adata.var_names.is_unique:
            adata.var_names_make_unique()
        if genes is not None and options.use_rep is None and genes != adata.var_names.tolist():
            adata = adata[:, genes].copy()
    except InputError as error:
        raise InputError(f"sample {part.name!r}: {error}") from error
    return adata


def _read(part: Part, job: Job) -> tuple[AnnData, Tissue]:
    adata = open_sample(part, job.options, None if job.is_new else job.content.genes)
    try:
        return adata, read_tissue(adata, use_rep=job.options.use_rep, layer=job.options.layer)
    except InputError as error:
        raise InputError(f"sample {part.name!r}: {error}") from error


def scan(part: Part, job: Job) -> int:
    """Write the genes of a sample and return its size; its counts are not read."""
    adata = open_sample(part, job.options)
    if adata.n_obs == 0:
        raise InputError(f"sample {part.name!r} has no spots; leave it out")
    with replacing(job.file("genes", part.name, ".json")) as file:
        file.write_text(json.dumps(adata.var_names.tolist()), encoding="utf-8")
    return int(adata.n_obs)


def join_contents(sizes: dict[str, int], job: Job) -> None:
    """Write what samples of these sizes hold together: genes in the order of the first."""
    lists = (json.loads(job.file("genes", name, ".json").read_text(encoding="utf-8")) for name in sizes)
    genes = next(lists)
    for others in map(set, lists):
        genes = [gene for gene in genes if gene in others]
    with replacing(job.folder / "content.json") as file:  # where it is, nothing is scanned again
        file.write_text(json.dumps(Content(genes, sizes)._asdict()), encoding="utf-8")


def n_patches(n: int) -> int:
    """Return the number of patches that a sample of so many spots is cut into: halves of halves."""
    return 1 << max(0, int(np.ceil(np.log2(n / PATCH))))


def cut_patches(part: Part, job: Job, chosen: dict[str, list[int]]) -> None:
    """Write patches of the tissue of a sample, counts and places."""
    import anndata

    from stmfg.model.graphs import halve

    path = job.file("patches", part.name, ".h5ad")
    if path.exists():
        return
    with counts_read_once():
        _, tissue = _read(part, job)
        pieces = halve(tissue.coordinates, np.arange(len(tissue.coordinates)), PATCH)
        rows = np.sort(np.concatenate([pieces[i] for i in chosen[part.name]]))
        obs = pd.DataFrame(index=np.asarray(tissue.names[rows]).astype(str))
        if tissue.counts is None:
            patch = anndata.AnnData(obs=obs, obsm={str(job.options.use_rep): tissue.representation[rows]})  # type: ignore[index]
        else:
            patch = anndata.AnnData(tissue.counts.rows(rows), obs=obs, var=pd.DataFrame(index=tissue.genes))
        patch.obsm[SPATIAL] = tissue.coordinates[rows]
        with replacing(path) as file:
            patch.write_h5ad(file)


def fit(names: list[str], job: Job) -> int:
    """Fit maps and network on the patches of samples; return the number of domains."""
    import anndata

    from stmfg.model.cohort import complete_fit
    from stmfg.model.estimator import STMFG
    from stmfg.model.threads import one_thread

    path = job.fitted
    if path.exists():
        return load_fit(job).n_domains
    patches = {name: anndata.read_h5ad(job.file("patches", name, ".h5ad")) for name in names}
    sizes = job.content.sizes
    whole = [name for name, patch in patches.items() if patch.n_obs == sizes[name]]
    joined = anndata.concat(patches, label=SLICE, index_unique="_", merge="same")
    options = job.options
    auto = options.n_domains == "auto"
    settings: dict[str, Any] = {"n_domains": "auto" if auto else None, "preset": options.preset}
    settings |= {"random_state": options.random_state, "device": options.device} | options.hyperparameters
    model = STMFG(**settings)
    model.fit(joined, use_rep=options.use_rep, library_key=SLICE)
    k = int(model.result.n_domains if auto and model.result is not None else options.n_domains)
    tissue = read_tissue(joined, use_rep=options.use_rep, library_key=SLICE, config=model.config)
    slice_size = sum(sizes.values()) / len(sizes)
    with one_thread():
        fitted = complete_fit(model, tissue, whole, k, slice_size)
    with replacing(path) as folder:
        folder.mkdir()
        model.save(folder / "model")
        _save(folder / "rest.npz", fitted.to_arrays())
    return k


def load_fit(job: Job) -> Fit:
    """Read what :func:`fit` wrote."""
    from stmfg.model.cohort import Fit
    from stmfg.model.estimator import STMFG

    model = STMFG.load(job.fitted / "model", device=job.options.device)
    return Fit.from_arrays(model, _load(job.fitted / "rest.npz"))


def embed(part: Part, job: Job) -> None:
    """Write the embedding of a sample and its averages, and some spots of it for the vote."""
    from stmfg.model.cohort import order_spots
    from stmfg.model.domains import surroundings
    from stmfg.model.threads import one_thread

    path, drawn = job.file("embedded", part.name, ".npz"), job.file("drawn", part.name, ".npz")
    if (path.exists() or job.file("labelled", part.name, ".json").exists()) and drawn.exists():
        return
    fitted = load_fit(job)
    with counts_read_once(), one_thread():
        _, tissue = _read(part, job)
        result, unplaced = fitted.embed(tissue, "" if job.is_new else part.name)
        used = np.flatnonzero(~result.left_out)
        used = used[order_spots(result.embedding[used], result.coordinates[used])]
        arrays: dict[str, NDArray[Any]] = {"used": used, "embedding": result.embedding, "weights": result.view_weights}
        if job.is_new:
            arrays["unplaced"] = unplaced
        place = np.argsort(np.argsort(used))  # averages are of the used spots as they come in the file
        arrays |= {f"average{i}": x[place] for i, x in enumerate(fitted.average(result))}
        if result.left_out.any():
            around = surroundings(result.graph, result.coordinates, result.left_out, None)
            arrays |= {"around": around.data, "around_indices": around.indices, "around_indptr": around.indptr}
    rows = subsample(len(used), min(len(used), job.quota(part.name, FIT_AT_MOST)), job.options.random_state)
    sample = {name: x[rows] for name, x in arrays.items() if name.startswith("average")}
    sample |= {"embedding": result.embedding[used[rows]], "coordinates": result.coordinates[used[rows]]}
    sample["widths"] = np.asarray(result.widths)
    with replacing(path) as file:
        _save(file, arrays)
    with replacing(drawn) as file:  # last: where it is, the other is
        _save(file, sample)


def vote(names: list[str], job: Job) -> None:
    """Let clusterings of the spots that were drawn from all samples vote, and write them as rules."""
    from stmfg.model.cohort import hold_vote, order_spots
    from stmfg.model.threads import one_thread

    path = job.fitted / "ballot.npz"
    if path.exists():
        return
    fitted = load_fit(job)
    drawn = [_load(job.file("drawn", name, ".npz")) for name in names]
    together = {key: np.concatenate([one[key] for one in drawn]) for key in drawn[0] if key != "widths"}
    order = order_spots(together["embedding"], together["coordinates"])
    averages = [together[f"average{i}"][order] for i in range(_n_averages(together))]
    widths, model = drawn[0]["widths"].tolist(), fitted.model
    with one_thread():
        ballot = hold_vote(
            together["embedding"][order], averages, widths, fitted.n_domains, model.config, model.random_state
        )
    with replacing(path) as file:
        _save(file, ballot.to_arrays() | {"widths": np.asarray(widths)})


def load_ballot(job: Job) -> tuple[Ballot, list[int]]:
    """Read what :func:`vote` wrote, and the columns of each layer of the embedding."""
    from stmfg.model.cohort import Ballot

    arrays = _load(job.fitted / "ballot.npz")
    return Ballot.from_arrays(arrays), arrays["widths"].tolist()


def label(part: Part, job: Job) -> None:
    """Write the domains of a sample, and what the tables of the cohort say of it."""
    from stmfg.model.threads import one_thread

    if job.file("labelled", part.name, ".json").exists():
        return
    ballot, widths = load_ballot(job)
    fitted = load_fit(job)
    arrays = _load(job.file("embedded", part.name, ".npz"))
    used, embedding = arrays["used"], arrays["embedding"]
    averages = [arrays[f"average{i}"] for i in range(_n_averages(arrays))]
    model, k = fitted.model, len(ballot.domain_map.shares)
    with one_thread():
        shares = ballot.label(embedding[used], averages, widths, model.config, model.random_state)
        unlike = ballot.domain_map.unlike(arrays["unplaced"] if job.is_new else embedding)
    codes, confidence = np.zeros(len(embedding), dtype=np.int64), np.zeros(len(embedding), dtype=np.float32)
    codes[used] = shares.argmax(axis=1)
    confidence[used] = np.clip(shares.max(axis=1), 0, 1)
    left_out = np.ones(len(embedding), dtype=bool)
    left_out[used] = False
    if left_out.any():
        parts = (arrays["around"], arrays["around_indices"], arrays["around_indptr"])
        around = sparse.csr_matrix(parts, shape=(int(left_out.sum()), len(embedding)))
        codes[left_out] = (around @ np.eye(k)[codes]).argmax(axis=1)
    adata = open_sample(part, job.options, None if job.is_new else job.content.genes)
    more = {"genes_shared": fitted.share_genes(adata.var_names.tolist())} if job.is_new else {}
    columns = {CONFIDENCE: confidence, UNLIKE: unlike.astype(np.float32)}
    obsm = {EMBEDDING: embedding, VIEW_WEIGHTS: arrays["weights"]}
    domains = np.asarray([str(i + 1) for i in range(k)])
    write_sample(part, job, adata, pd.Categorical(domains[codes], domains), columns, obsm, **more)
    job.file("embedded", part.name, ".npz").unlink()  # the largest of the files, and no longer needed


def load_model(job: Job) -> STMFG:
    """Read a model that no cohort was fitted with."""
    from stmfg.model.estimator import STMFG

    copy = job.folder / "model"
    if not copy.exists():  # without the data of the run that it may be in
        with replacing(copy) as folder:
            STMFG.load(job.fitted).save(folder)
    return STMFG.load(copy, device=job.options.device)


def apply_model(part: Part, job: Job) -> None:
    """Write the domains of a model in a sample, as :func:`label` does."""
    from stmfg.model.threads import one_thread

    if job.file("labelled", part.name, ".json").exists():
        return
    model = load_model(job)
    with counts_read_once(), one_thread():
        adata = open_sample(part, job.options)
        try:
            result = model.apply(adata, layer=job.options.layer)
        except InputError as error:
            raise InputError(f"sample {part.name!r}: {error}") from error
    domains = pd.Categorical(np.asarray(result.labels), [str(i + 1) for i in range(result.n_domains)])
    columns: dict[str, Any] = {CONFIDENCE: result.confidence, UNLIKE: result.unlike}
    obsm = {EMBEDDING: result.embedding, VIEW_WEIGHTS: result.view_weights}
    write_sample(part, job, adata, domains, columns, obsm, genes_shared=float(result.genes_shared))


def write_sample(
    part: Part,
    job: Job,
    adata: AnnData,
    domains: Any,
    columns: dict[str, NDArray[np.float32]],
    obsm: dict[str, NDArray[np.float32]],
    **more: float,
) -> None:
    """Write what was found in a sample: without counts, as rows of a table, and some spots with counts to be shown."""
    import anndata

    from stmfg._core import checks
    from stmfg.model.transfer import FAR
    from stmfg.tl._abundance import composition

    result = anndata.AnnData(obs=adata.obs.copy(), obsm={SPATIAL: checks.coordinates(adata)} | obsm)
    describe_spots(result.obs, part.metadata, part.name)
    result.obs[SLICE] = pd.Categorical([part.name]).repeat(result.n_obs)
    result.obs[DOMAIN] = domains
    for key, column in columns.items():
        result.obs[key] = column
    table = result.obs[[SLICE, DOMAIN, *columns]].set_axis(["sample", "domain", "confidence", "unlike"], axis=1)
    table.insert(1, "spot", result.obs_names.to_numpy())
    counted = composition(result, sample_key=SLICE)
    rows = subsample(result.n_obs, max(1, job.quota(part.name, SHOWN_AT_MOST)), job.options.random_state)
    shown = result[rows].copy()
    if job.options.use_rep is None:
        shown = anndata.AnnData(
            _counts(adata, rows, job.options.layer), obs=shown.obs, var=adata.var[[]], obsm=dict(shown.obsm)
        )
    with replacing(job.file("samples", part.name, ".h5ad")) as file:
        result.write_h5ad(file)
    with replacing(job.file("domains.parquet", part.name, ".parquet")) as file:
        table.to_parquet(file, index=False)
    with replacing(job.file("shown", part.name, ".h5ad")) as file:
        shown.write_h5ad(file)
    answer = {
        "sample": part.name,
        "n_obs": result.n_obs,
        "far": float((columns[UNLIKE] > FAR).mean()),
        "confidence": float(columns[CONFIDENCE].mean()),
        "composition": json.loads(counted.to_json(orient="records")),
    } | more
    with replacing(job.file("labelled", part.name, ".json")) as file:  # last: where it is, the others are
        file.write_text(json.dumps(answer))


def _counts(adata: AnnData, rows: NDArray[np.int64], layer: str | None) -> sparse.csr_matrix:
    from stmfg._core import checks

    return sparse.csr_matrix(checks.counts(adata, layer)[rows])


def _n_averages(arrays: dict[str, NDArray[Any]]) -> int:
    return sum(name.startswith("average") for name in arrays)


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)

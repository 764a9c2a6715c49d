"""A cohort: common domains of many samples, none of which is held with another one in memory, on one machine or many.

Samples are the parts. Maps and network are fitted on patches of tissue of all samples, clusterings on spots drawn from
all, and each sample is then embedded and labelled by itself.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._core import checks
from stmfg._core.files import fingerprint, replacing
from stmfg._core.progress import is_watched, showing
from stmfg._core.timing import recording, stage
from stmfg._keys import CONFIDENCE, DOMAIN, EMBEDDING, SLICE, SPATIAL, UNLIKE, VIEW_WEIGHTS
from stmfg._version import __version__
from stmfg.errors import InputError, MissingDependencyError
from stmfg.io.sheet import read_samples
from stmfg.io.slices import MIN_SHARED_GENES
from stmfg.workflow import _cohort_tasks as tasks
from stmfg.workflow._cohort_cluster import check_cluster, connect
from stmfg.workflow._earlier import refuse_earlier
from stmfg.workflow._results import (
    collected_warnings,
    describe,
    reserved,
    write,
)
from stmfg.workflow.options import SHEET_COLUMNS, RunOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from stmfg.io.sheet import Sample
    from stmfg.model.estimator import STMFG
    from stmfg.tl._study import Study
    from stmfg.workflow._cohort_cluster import Here

logger = logging.getLogger("stmfg")

WORK: Final = ".cohort"
"""Folder in the output with the files of parts that are done; the same command continues from them."""
SAMPLES, TABLE, FITTED = "samples", "domains.parquet", "fitted"
"""Results by sample, without counts; the domains of all spots as one table, a file a sample; what was fitted."""
_UNABLE: Final = ("view", "stacked", "stability", "library_key")
_ROWS_COMPARED: Final = 2_000


def run_cohort(sheet: str | Path, output: str | Path, options: RunOptions, *, progress: bool = False) -> dict[str, Any]:
    """Find common domains of the samples of a sheet, one at a time in memory; see :func:`stmfg.workflow.run`."""
    for name in _UNABLE:
        if getattr(options, name):
            raise InputError(f"{name} does not go with cluster; leave it out, or run without cluster")
    if options.config.extra_views or options.config.refine:
        raise InputError("further views and refine do not go with cluster; leave them out, or run without cluster")
    return _run(sheet, output, options, None, progress=progress)


def apply_to_cohort(
    reference: str | Path, sheet: str | Path, output: str | Path, options: RunOptions, *, progress: bool = False
) -> dict[str, Any]:
    """Find the domains of a model in the samples of a sheet; see :func:`stmfg.workflow.run_apply`."""
    return _run(sheet, output, options, Path(reference).expanduser(), progress=progress)


def _run(
    sheet: str | Path, output: str | Path, options: RunOptions, reference: Path | None, *, progress: bool = False
) -> dict[str, Any]:
    output = Path(output).expanduser().absolute()
    if options.cluster is not None:
        check_cluster(options.cluster)
    checks.writable(output)
    may = {"overwrite": options.overwrite, "resume": options.resume}
    refuse_earlier(output, **may)
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError('the table of a cohort needs pyarrow: pip install "stmfg[cohort]"') from error
    samples = read_samples(sheet, SHEET_COLUMNS)
    options = options.for_samples(samples)
    parts = [_part(sample, options) for sample in samples]
    work = output / WORK
    job = tasks.Job(work, work / FITTED, options)
    if reference is not None:
        job = _plan_to_apply(job, reference)
    with (
        recording() as stages,
        collected_warnings() as messages,
        reserved(output, overwrite=options.overwrite, resume=options.resume),
        connect(options.cluster, len(parts), progress=progress) as workers,
    ):
        with showing(show=progress and is_watched()):
            model, answers = _work(job, parts, reference, workers)
        workers.dismiss()
        adata = _show(job, parts, model)
        table = _tabulate(answers, samples)
        settings = options.to_dict() | {"library_key": SLICE}
        settings |= {} if reference is None else {"model": str(reference), "use_rep": model.use_rep}
        record = describe(adata, sheet, settings) | {
            "n_obs": int(table["n_obs"].sum()),
            "n_shown": adata.n_obs,
            "cluster": options.cluster,
            "device": str(model.device),
            "params": model.config.to_dict(),
            "far": dict(zip(table["sample"], table["far"], strict=True)),
            "stages": stages,
            "warnings": messages,
        }
        _finish(adata, output, job, record, table, _compare(answers, table, options.reference))
    return record


def _work(
    job: tasks.Job, parts: list[tasks.Part], reference: Path | None, workers: Here
) -> tuple[STMFG, list[dict[str, Any]]]:
    """Find the domains of all samples; return the model, and what the tables say of each sample."""
    _start_or_continue(job.folder, parts, job.options, reference)
    if not (job.folder / "content.json").is_file():
        with stage("scan"):
            sizes = workers.each("scan", tasks.scan, parts, job)
            tasks.join_contents(dict(zip((part.name for part in parts), sizes, strict=True)), job)
    names = [part.name for part in parts]
    largest_first = sorted(parts, key=lambda part: -job.content.sizes[part.name])  # else others wait for the last
    if not job.is_new:
        _fit(job, names, largest_first, workers)
    if (job.fitted / "ballot.npz").is_file() or not job.is_new:
        model, label = _embed(job, names, largest_first, workers), tasks.label
    else:  # a model of one run: its domains as Gaussians
        model, label = tasks.load_model(job), tasks.apply_model
    with stage("label"):
        workers.each("label", label, largest_first, job)
    return model, [json.loads(job.file("labelled", name, ".json").read_text()) for name in names]


def _part(sample: Sample, options: RunOptions) -> tasks.Part:
    if not sample.source.exists():
        raise InputError(f"{sample.where}: {sample.source} does not exist; give the file or folder of {sample.name!r}")
    platform = sample.options.get("platform", options.platform)
    return tasks.Part(sample.name, str(sample.source), platform, sample.metadata)


def _start_or_continue(folder: Path, parts: list[tasks.Part], options: RunOptions, reference: Path | None) -> None:
    """Keep the files of an earlier attempt at the same work, and no others."""
    what = {
        "version": __version__,
        "samples": [[*part, fingerprint(part.source)] for part in parts],
        "options": options.to_dict() | options.config.to_dict() | {"device": None, "title": None},
        "model": None if reference is None else [str(reference.absolute()), fingerprint(reference)],
    }
    text = json.dumps(what, indent=1, sort_keys=True)
    plan = folder / "plan.json"
    if not plan.is_file() or plan.read_text(encoding="utf-8") != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with replacing(plan) as file:
            file.write_text(text, encoding="utf-8")
    else:
        logger.info("%d of %d samples are finished already", len(list(folder.glob("labelled/*.json"))), len(parts))


def _plan_to_apply(job: tasks.Job, reference: Path) -> tasks.Job:
    """Return the job of applying a model: it says what the samples' options leave open."""
    from stmfg.model.estimator import STMFG

    model = STMFG.load(reference, device=job.options.device)
    options = replace(job.options, use_rep=model.use_rep, random_state=model.random_state)
    fitted = reference / FITTED
    return tasks.Job(job.folder, fitted if (fitted / "ballot.npz").is_file() else reference, options, is_new=True)


def _fit(job: tasks.Job, names: list[str], parts: list[tasks.Part], workers: Here) -> None:
    """Fit maps and network on patches of the cohort."""
    content = job.content
    if job.options.use_rep is None and len(content.genes) < MIN_SHARED_GENES:
        raise InputError(f"the samples share {len(content.genes)} genes; at least {MIN_SHARED_GENES} are needed")
    chosen = dict(zip(names, choose_patches([content.sizes[name] for name in names]), strict=True))
    with stage("patches"):
        workers.each("patches", tasks.cut_patches, [part for part in parts if chosen[part.name]], job, chosen)
    with stage("fit"):
        workers.each("fit", tasks.fit, [[name for name in names if chosen[name]]], job)


def _embed(job: tasks.Job, names: list[str], parts: list[tasks.Part], workers: Here) -> STMFG:
    """Embed all samples, and let them vote on the domains unless they are those of a model; return it."""
    with stage("embed"):
        workers.each("embed", tasks.embed, parts, job)
    if not job.is_new:
        with stage("vote"):
            workers.each("vote", tasks.vote, [names], job)
    model = tasks.load_fit(job).model
    model.domain_map = tasks.load_ballot(job)[0].domain_map
    return model


def choose_patches(sizes: list[int]) -> list[list[int]]:
    """Return which patches of every sample are fitted on: all, or so many, evenly spread over all samples.

    Of samples of so many spots each; patches are numbered in the order they are cut in.
    """
    numbers = [tasks.n_patches(size) for size in sizes]
    starts = np.cumsum([0, *numbers])
    step = max(1.0, sum(sizes) / tasks.PATCHES_AT_MOST)
    chosen = np.unique((np.arange(max(1, int(starts[-1] / step))) * step).astype(int))
    return [
        (chosen[(chosen >= start) & (chosen < start + number)] - start).tolist()
        for start, number in zip(starts[:-1], numbers, strict=True)
    ]


def _show(job: tasks.Job, parts: list[tasks.Part], model: STMFG) -> AnnData:
    """Return the spots that the report shows, as a run on them would leave them."""
    import anndata

    from stmfg.model.domains import Result
    from stmfg.model.graphs import spatial_graph
    from stmfg.tl._write import write_domains, write_embedding

    shown = {part.name: anndata.read_h5ad(job.file("shown", part.name, ".h5ad")) for part in parts}
    adata = anndata.concat(shown, index_unique="_", merge="same")
    adata.obs[SLICE] = adata.obs[SLICE].astype("category").cat.set_categories(list(shown))
    codes = adata.obs[SLICE].cat.codes.to_numpy().astype(np.int64)
    coordinates, embedding = np.asarray(adata.obsm[SPATIAL]), np.asarray(adata.obsm[EMBEDDING])
    graph = spatial_graph(coordinates, n_neighbors=model.config.spatial_neighbors or 6, libraries=codes)
    result = Result(
        embedding=embedding,
        view_weights=np.asarray(adata.obsm[VIEW_WEIGHTS]),
        widths=[],
        coordinates=coordinates,
        graph=graph,
        graph_made_by="stmfg",
        left_out=np.zeros(len(embedding), dtype=bool),
        libraries=codes,
        labels=adata.obs[DOMAIN].astype(str).to_numpy(),
        confidence=adata.obs[CONFIDENCE].to_numpy(),
        domain_map=model.domain_map,
    )
    unlike = adata.obs[UNLIKE].to_numpy()
    write_embedding(adata, model, result, SLICE)
    write_domains(adata, result, DOMAIN)
    adata.obs[UNLIKE] = unlike
    return adata


def _tabulate(answers: list[dict[str, Any]], samples: list[Sample]) -> pd.DataFrame:
    """Return the table of samples: what the sheet says, their size, their mean confidence, how new they are."""
    table = pd.DataFrame([{k: v for k, v in answer.items() if k != "composition"} for answer in answers])
    for i, key in enumerate(("donor", "condition")):
        if any(getattr(sample, key) for sample in samples):
            table.insert(1 + i, key, [getattr(sample, key) for sample in samples])
    return table


def _compare(answers: list[dict[str, Any]], table: pd.DataFrame, reference: str | None) -> Study:
    """Return what comparing the samples of the cohort comes to."""
    import anndata

    from stmfg.tl._study import Study, compare_conditions

    composition = pd.DataFrame([row for answer in answers for row in answer["composition"]])
    # Shares of a sample are its own whatever its size: some thousand rows stand for its spots.
    counts = (composition["proportion"] * _ROWS_COMPARED).round().astype(int)
    rows = composition.loc[composition.index.repeat(counts), ["sample", "domain"]].set_axis([SLICE, DOMAIN], axis=1)
    for key in ("donor", "condition"):
        if key in table:
            known = table.set_index("sample")[key].replace("", None)
            rows[key] = rows[SLICE].map(known).to_numpy()
            composition.insert(1, key, composition["sample"].map(known))
    rows.index = pd.RangeIndex(len(rows)).astype(str)
    return Study(composition, *compare_conditions(anndata.AnnData(obs=rows), SLICE, reference=reference))


def _finish(
    adata: AnnData, output: Path, job: tasks.Job, record: dict[str, Any], table: pd.DataFrame, study: Study
) -> None:
    """Put the files of the samples in place, write those of the cohort, and remove what only helped."""
    for name in (SAMPLES, TABLE):
        if (job.folder / name).exists():  # else they were moved before an interruption
            shutil.rmtree(output / name, ignore_errors=True)
            (job.folder / name).replace(output / name)
    shutil.rmtree(output / FITTED, ignore_errors=True)
    if not job.is_new:
        shutil.copytree(job.fitted, output / FITTED)
    write(adata, output, record, {"samples.csv": table, "domains.csv": None}, study)
    shutil.rmtree(job.folder)

"""The folder of results: who may write to it, what is in it, and how it appears whole or not at all."""

from __future__ import annotations

import json
import logging
import platform as platforms
import sys
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from stmfg._core import checks
from stmfg._core.files import flush, locked, partial_folder, remove_partial_folders
from stmfg._core.labels import labels
from stmfg._core.timing import stage
from stmfg._keys import CONFIDENCE, DOMAIN, HALF, SLICE, UNS
from stmfg._keys import MARKERS as MARKERS_KEY
from stmfg._version import __version__
from stmfg.errors import InputError, reason
from stmfg.io._read import read
from stmfg.io.writing import read_back
from stmfg.workflow._earlier import (
    ABUNDANCE,
    ABUNDANCE_FIGURE,
    COMPOSITION,
    MARKERS,
    OF_SEVERAL,
    RECORD,
    refuse_earlier,
)
from stmfg.workflow._room import check_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from stmfg.tl._study import Study

logger = logging.getLogger("stmfg")

_MARKERS_OF_A_DOMAIN: Final = 10
GENES: Final = "report_genes"
"""Folder of the genes that do not fit into the report."""
_LIBRARIES: Final = ("anndata", "numpy", "pandas", "scikit-learn", "scipy", "torch")


@contextmanager
def reserved(output: Path, *, overwrite: bool, resume: bool = False) -> Iterator[None]:
    """Make the output folder and keep other runs out of it; leave no empty folder behind."""
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with locked(output / ".lock"):
            refuse_earlier(output, overwrite=overwrite, resume=resume)  # another run may have ended meanwhile
            remove_partial_folders(output)
            try:
                yield
            finally:
                remove_partial_folders(output)  # Ctrl-C may come while one is being removed
    finally:
        if is_new and not any(output.iterdir()):
            output.rmdir()


def describe(
    adata: AnnData, source: str | Path | Sequence[str | Path] | AnnData, options: dict[str, Any]
) -> dict[str, Any]:
    """Return what the record of a run says of its data, options, versions and training."""
    import torch

    computer = {"system": platforms.system(), "processor": platforms.machine(), "threads": torch.get_num_threads()}
    return {
        "version": __version__,
        "input": _absolute(source),
        "n_obs": adata.n_obs,
        "n_vars": adata.n_vars,
        "n_domains": int(adata.uns[UNS]["n_domains"]["chosen"]),
        "options": options,
        "computer": computer,  # what rounding depends on, besides the versions
        "versions": _versions(),
        "history": {k: np.asarray(v).tolist() for k, v in adata.uns[UNS]["history"].items()},
    }


def _absolute(source: str | Path | Sequence[str | Path] | AnnData) -> str | list[str]:
    """Return what to read again to repeat a run; nothing where the data were in memory."""
    if isinstance(source, (str, Path)):
        return str(Path(source).expanduser().absolute())
    return [str(Path(path).expanduser().absolute()) for path in source] if isinstance(source, Sequence) else ""


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # installed without metadata
            versions[name] = str(getattr(sys.modules.get(name), "__version__", "unknown"))
    return versions


def write(
    adata: AnnData,
    output: Path,
    record: dict[str, Any],
    other: dict[str, pd.DataFrame | None] | None = None,
    study: Study | None = None,
) -> None:
    """Write all files next to their place, then move them there; `other` and `study` replace what the AnnData tells.

    A run that is killed on the way leaves the earlier results, or a folder without a record; never a mixture with one.
    """
    from stmfg.model.threads import meanwhile
    from stmfg.tl._study import compare_samples
    from stmfg.tl._summary import summary

    library_key = record["options"]["library_key"]
    with partial_folder(output) as partial:
        with meanwhile(_draw_map, adata, partial / "domains.png", library_key):
            with stage("markers"):
                tables = _tables(adata, record["options"].get("layer"), joined=library_key == SLICE)
                if MARKERS in tables:
                    _keep_markers(adata, tables, record)
                if library_key == SLICE:
                    study = study or compare_samples(adata, SLICE, reference=record["options"].get("reference"))
                if study is not None:
                    record["comparison"] = list(study.sentences)
                    tables[COMPOSITION] = study.composition
                    if study.abundance is not None:
                        tables[ABUNDANCE] = study.abundance
                    elif study.sentences:
                        logger.warning("%s", study.sentences[0].rstrip("."))
                tables = {name: table for name, table in (tables | (other or {})).items() if table is not None}
                summarised = summary(adata)
                record["summary"] = [*summarised.sentences]
                if MARKERS not in tables:
                    record["summary"].append(f"There is no {MARKERS}: the input has no raw counts to rank genes by.")
                record["domains"] = json.loads(summarised.table.to_json(orient="index"))
            check_room(adata, output, record["options"].get("layer"), is_done=True)
            with stage("figures"):
                for name, table in tables.items():
                    if name == "domains.csv":
                        table.to_csv(partial / name, index_label="spot", float_format="%.4f")
                    else:
                        table.to_csv(partial / name, index=False, float_format="%.6g")
                if study is not None and study.abundance is not None:
                    from stmfg.pl._study import draw_study

                    draw_study(study).savefig(partial / ABUNDANCE_FIGURE, dpi=150)
        adata.strings_to_categoricals()  # as writing does, while the report reads
        with stage("report"), meanwhile(_write_result, adata, partial / "result.h5ad"):
            from stmfg import report

            report.write(adata, partial / "report.html", title=record["options"]["title"], run=record)
        with stage("result"):
            read_back(partial / "result.h5ad", adata)
        (partial / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        written = sorted(partial.iterdir(), key=lambda path: path.name == RECORD)
        for path in written:
            if path.is_file():
                flush(path)
        for name in (RECORD, MARKERS, *OF_SEVERAL):
            (output / name).unlink(missing_ok=True)
        report.remove_genes(output / GENES)
        for path in written:
            target = output / path.name
            for file in path.iterdir() if path.is_dir() and target.is_dir() else ():  # beside files of others
                file.replace(target / file.name)
            if path.exists() and not (path.is_dir() and target.is_dir()):
                path.replace(target)


def _tables(adata: AnnData, layer: str | None, *, joined: bool) -> dict[str, pd.DataFrame]:
    """Return the tables of a run by the names of their files."""
    from stmfg.pl._charts import counts_or_none
    from stmfg.tl._halves import rank_markers

    domains = adata.obs[[DOMAIN, CONFIDENCE]].set_axis(["domain", "confidence"], axis=1)
    tables = {"domains.csv": domains}
    if (counts := counts_or_none(adata, layer)) is not None:
        tables[MARKERS] = rank_markers(adata, DOMAIN, labels(adata), counts)
    if not joined:
        return tables
    domains.insert(0, "slice", adata.obs[SLICE])
    names = zip(domains.index, domains["slice"], strict=True)
    domains.index = pd.Index([spot.removesuffix(f"_{name}") for spot, name in names])  # as in the slice's own file
    return tables


def _keep_markers(adata: AnnData, tables: dict[str, pd.DataFrame], record: dict[str, Any]) -> None:
    """Keep the best markers of each domain, in the AnnData too, and record what there is to say of each."""
    from stmfg.tl._marker_tests import summarise
    from stmfg.tl._summary import describe_markers

    every, names = tables[MARKERS], list(labels(adata).categories)
    tables[MARKERS] = every.groupby("domain", sort=False).head(_MARKERS_OF_A_DOMAIN).reset_index(drop=True)
    specific = {str(name): int(n) for name, n in summarise(every, names)["n_specific"].items()}
    record["markers"] = {"specific": specific, "sentences": describe_markers(summarise(tables[MARKERS], names))}
    adata.uns[MARKERS_KEY] = tables[MARKERS].set_axis(tables[MARKERS].index.astype(str), axis=0)


def _draw_map(adata: AnnData, path: Path, library_key: str | None) -> None:
    from matplotlib.figure import Figure

    from stmfg import pl

    figure = Figure(figsize=(8, 7), layout="constrained")
    pl.domains(adata, ax=figure.add_subplot(), library_key=library_key)
    figure.savefig(path, dpi=150)


def _write_result(adata: AnnData, path: Path) -> None:
    """Write the AnnData as it is; matrices that lie in another file of the kind are copied as they are stored there."""
    import h5py
    from anndata.experimental import write_dispatched

    def element(write: Any, group: Any, name: str, value: Any, dataset_kwargs: Any, **_: Any) -> None:
        stored = getattr(value, "stored", None)
        if isinstance(stored, h5py.Group):
            group.copy(stored, name)
        else:
            write(group, name, value, dataset_kwargs=dataset_kwargs)

    try:
        with h5py.File(path, "w") as file:
            write_dispatched(file, "/", adata, element)
        flush(path)  # while the report is made
    except (OSError, MemoryError):
        raise
    except Exception as error:
        problem = f"the result cannot be written, since the input holds what no file can ({reason(error)})"
        raise InputError(problem) from error


def _edit(adata: AnnData, path: Path, record: dict[str, Any]) -> None:
    """Make the edits of a page's file, of the level of the tree it was at; note the selections in the record."""
    from stmfg import tl

    file: Any = None
    with suppress(OSError, ValueError):  # what is wrong with a file is told when its edits are made
        file = json.loads(path.read_text(encoding="utf-8"))
    file = file if isinstance(file, dict) else {}
    if isinstance(file.get("level"), int):
        tl.cut(adata, file["level"], key_added=DOMAIN)
        adata.obs.drop(columns=HALF, errors="ignore", inplace=True)  # of the domains as they were found, as are markers
        adata.uns.pop(MARKERS_KEY, None)
    tl.rename(adata, path)
    record.pop("markers", None)  # its sentences name the domains as they were
    kept = file.get("selections") if isinstance(file.get("selections"), list) else []
    record["selections"] = [
        {"name": str(each["name"]), "spots": [str(spot) for spot in each["spots"]]}
        for each in kept or []
        if isinstance(each, dict) and isinstance(each.get("spots"), list) and "name" in each
    ]


def write_report(
    result: str | Path,
    output: str | Path | None = None,
    *,
    title: str | None = None,
    edits: str | Path | None = None,
    genes: str | Sequence[str] = "all",
    plane: str = "pca",
) -> Path:
    """Write the report of a finished run again.

    Parameters
    ----------
    result
        Folder of the run, or its ``result.h5ad``; the report also shows the ``run.json`` beside it, if there is one.
    output
        The HTML file; ``report.html`` beside the result when not given.
    title
        Heading; that of the run when not given.
    edits
        File of edits that the page saved: merged, renamed, recoloured domains, selections. The result stays as it is,
        see :func:`stmfg.tl.rename`.
    genes
        Those that the page can show: ``"all"``, ``"markers"`` or a list of names.
    plane
        What is beside the map: ``"pca"`` or ``"umap"`` of the embedding.

    Returns
    -------
    The file.

    Raises
    ------
    InputError
        If the result cannot be read or has no domains, the edits do not fit it, or the file cannot be written.
    """
    from stmfg import report

    result = Path(result).expanduser()
    result = result / "result.h5ad" if result.is_dir() else result
    output = result.with_name("report.html") if output is None else Path(output).expanduser()
    checks.writable(output.parent)
    adata = read(result)
    record: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # a result can be moved without its record
        record = json.loads(result.with_name(RECORD).read_text(encoding="utf-8"))
    if edits is not None:
        _edit(adata, Path(edits).expanduser(), record)
    report.write(
        adata, output, title=title or record.get("options", {}).get("title"), genes=genes, plane=plane, run=record
    )
    return output


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Keep what is logged as a warning, for the record and the report."""
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)

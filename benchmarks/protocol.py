"""The rules of the accuracy benchmark: what a method is given, and how its labels are scored.

A method is given counts (or an embedding), coordinates and K. The annotation stays in the harness's memory: the file a
method's process gets has nothing else, no column of ``obs`` and no ``uns``, and a file that has more is refused.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd

from stmfg import metrics

TRUTH = "ground_truth"
SCORES = ("ari", "nmi", "chaos", "pas", "asw")
MANIFEST = Path(__file__).resolve().parent / "manifest.tsv"


class ProtocolError(Exception):
    """A rule of the protocol is broken."""


@dataclass(frozen=True)
class Source:
    """A row of the manifest: one annotated data set."""

    name: str
    file: str
    sha256: str
    k: int
    kind: str  # spots: a regular grid of mixtures; cells: irregular positions, one cell each
    platform: str
    rep: str  # embedding in obsm that takes the place of counts, or empty
    licence: str
    origin: str
    truth: str = ""  # CSV with a label a spot; where empty, the file's column ``ground_truth``


def manifest(path: Path = MANIFEST, data: Path | None = None) -> list[Source]:
    """Read the data sets of a manifest; with a folder `data` those whose file is there, and name the others."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    sources = [Source(**{**row, "k": int(row["k"])}) for row in table.to_dict("records")]
    if data is None:
        return sources
    absent = [source.name for source in sources if not (data / source.file).is_file()]
    if len(absent) == len(sources):
        sys.exit(f"nothing was run: none of the data sets is in {data}")
    if absent:
        print(f"not in {data}, and left out: {', '.join(absent)}", file=sys.stderr)
    return [source for source in sources if source.name not in absent]


def write_manifest(sources: list[Source], path: Path) -> None:
    """Write data sets as a manifest."""
    pd.DataFrame([asdict(source) for source in sources]).to_csv(path, sep="\t", index=False)


@dataclass(frozen=True)
class Task:
    """One data set, taken apart: the file for the methods, and what only the harness may see."""

    source: Source
    input: Path
    truth: pd.Series
    coordinates: np.ndarray


def prepare(source: Source, data: Path, folder: Path) -> Task:
    """Check a data set against the manifest and write its unlabelled copy to ``folder``."""
    path = data / source.file
    if hashlib.sha256(path.read_bytes()).hexdigest() != source.sha256:
        raise ProtocolError(f"{source.file} is not the file of the manifest (its checksum differs)")
    adata = ad.read_h5ad(path)
    labels = pd.read_csv(data / source.truth, index_col=0, dtype=str) if source.truth else adata.obs
    truth = labels[TRUTH].dropna().astype(str)
    truth.index = truth.index.astype(str)
    if truth.nunique() != source.k:
        raise ProtocolError(f"{source.name} has {truth.nunique()} domains, the manifest says {source.k}")
    unlabelled = write_unlabelled(adata, source.rep, folder)
    return Task(source, unlabelled, truth, np.asarray(adata[truth.index].obsm["spatial"]))


def write_unlabelled(adata: ad.AnnData, rep: str, folder: Path) -> Path:
    """Write counts, coordinates and the embedding ``rep``, nothing else, to a file in ``folder``."""
    bare = ad.AnnData(X=adata.X, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))
    for key in filter(None, ("spatial", rep)):
        bare.obsm[key] = np.asarray(adata.obsm[key])
    path = folder / "input.h5ad"
    bare.write_h5ad(path)
    refuse_labels(path, rep)
    return path


def refuse_labels(path: Path, rep: str) -> None:
    """Raise unless the file holds ``X``, positions, the embedding ``rep`` and names, and nothing else."""
    with h5py.File(path) as file:
        for key, part in file.items():
            allowed = {"obsm": {"spatial", rep}}.get(key, {part.attrs.get("_index")})
            found = set(part) - allowed if isinstance(part, h5py.Group) else {key}
            if key != "X" and found:
                raise ProtocolError(f"methods may not see {key}: {', '.join(sorted(found))}")


def score(task: Task, labels: Path) -> dict[str, float]:
    """Score the labels a method wrote, on the annotated spots."""
    table = pd.read_csv(labels, index_col=0, dtype=str)
    table.index = table.index.astype(str)
    column = table["domain"] if "domain" in table else table.iloc[:, 0]
    missing = task.truth.index.difference(column.dropna().index)
    if len(missing):
        raise ProtocolError(f"{len(missing)} spots have no label")
    found, truth = column.loc[task.truth.index].to_numpy(), task.truth.to_numpy()
    row = {"ari": metrics.ari(truth, found), "nmi": metrics.nmi(truth, found), "found": column.nunique()}
    return row | {name: getattr(metrics, name)(task.coordinates, found) for name in ("chaos", "pas", "asw")}

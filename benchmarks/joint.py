"""Joint domains of several slices: accuracy, mixing and what is kept, against each slice alone.

usage: joint.py [DATA] [-o TABLE.tsv] [--seeds N] [--sets NAME ...]

Ways: ``alone``, every slice by itself; ``uncorrected``, together, the model being told which spot is of which slice by
the spatial graph only; ``joint``, together. K is the number of distinct labels over the slices of a set, ``alone`` over
the slice. Labels are seen by this script alone, and only when scoring: ARI slice by slice, and with LISI (median over
spots of the embedding) how well slices are mixed (iLISI, 1 to the number of slices) and domains kept apart (cLISI, 1 is
best). Of the simulated sets, another draw for every seed, the last domain is on the first slice alone: recall and
precision of the found domain that holds most of it. One row a run and slice; from the
table, TABLE.md is made. Runs that are in the table already are skipped.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

import protocol
import stmfg
from stmfg import _keys, datasets, metrics
from stmfg.io import join

HERE = Path(__file__).resolve().parent
PAIRS = {"dlpfc": ("dlpfc_151673", "dlpfc_151676"), "mpfc": ("starmap_mpfc_BZ5", "starmap_mpfc_BZ9")}
SIMULATED = {
    "simulated": {},
    "simulated, clear": {"difficulty": 0.5},
    "simulated, clear, strong batch": {"difficulty": 0.5, "batch_effect": 1.0},
}
WAYS = ("alone", "uncorrected", "joint")
SCORES = ("ilisi", "clisi", "own_recall", "own_precision")


@dataclass(frozen=True)
class Task:
    """Slices without labels, and what only this script may see: the label of every spot, by slice."""

    name: str
    slices: dict[str, ad.AnnData]
    truth: dict[str, pd.Series]
    own: str = ""  # the domain of the first slice alone

    @property
    def k(self) -> int:
        return int(pd.concat(self.truth.values()).dropna().nunique())


def pair(name: str, data: Path) -> Task:
    """Read a pair of development sets."""
    sources = {source.name: source for source in protocol.manifest()}
    slices, truth = {}, {}
    for member in PAIRS[name]:
        with tempfile.TemporaryDirectory() as folder:
            task = protocol.prepare(sources[member], data, Path(folder))
            slices[member] = ad.read_h5ad(task.input)
        truth[member] = task.truth.reindex(slices[member].obs_names)
    return Task(name, slices, truth)


def simulated(name: str, seed: int) -> Task:
    """Simulate two slices."""
    both = datasets.simulate_slices(random_state=seed, **SIMULATED[name])
    slices, truth = {}, {}
    for member in both.obs["slice"].cat.categories:
        part = both[both.obs["slice"] == member]
        bare = ad.AnnData(part.X.copy(), obs=part.obs[[]].copy(), var=part.var[[]].copy())
        bare.obsm["spatial"] = np.asarray(part.obsm["spatial"])
        slices[member], truth[member] = bare, part.obs["ground_truth"].astype(object)
    return Task(name, slices, truth, own="WM")


def run(task: Task, way: str, seed: int) -> Iterator[dict[str, object]]:
    """Find the domains in one of the ways and yield a row for every slice."""
    row: dict[str, object] = {"set": task.name, "way": way, "seed": seed, "k": task.k}
    if way == "alone":
        for name, adata in task.slices.items():
            adata = adata.copy()
            labels = task.truth[name]
            stmfg.tl.domains(adata, n_domains=labels.dropna().nunique(), random_state=seed)
            yield row | {"slice": name, "ari": metrics.ari(labels, adata.obs[_keys.DOMAIN].astype(str))}
        return
    adata = join(task.slices)
    slices = adata.obs[_keys.SLICE].astype(str).to_numpy()
    if way == "uncorrected":
        stmfg.gr.spatial(adata, library_key=_keys.SLICE)
        stmfg.tl.domains(adata, n_domains=task.k, random_state=seed)
    else:
        stmfg.tl.domains(adata, n_domains=task.k, random_state=seed, library_key=_keys.SLICE)
    truth = pd.concat([task.truth[name] for name in task.slices]).to_numpy(dtype=object)
    found = adata.obs[_keys.DOMAIN].astype(str).to_numpy()
    known = pd.notna(truth)
    row["ilisi"] = float(np.median(metrics.lisi(adata.obsm[_keys.EMBEDDING], slices)))
    row["clisi"] = float(np.median(metrics.lisi(adata.obsm[_keys.EMBEDDING][known], truth[known])))
    if task.own:
        own = truth == task.own
        holds = found == pd.Series(found[own]).mode()[0]
        row["own_recall"], row["own_precision"] = float(holds[own].mean()), float(own[holds].mean())
    for name in task.slices:
        here = slices == name
        yield row | {"slice": name, "ari": metrics.ari(truth[here], found[here])}


def report(rows: pd.DataFrame) -> str:
    """Return the table as Markdown: mean and sample standard deviation over seeds."""

    def shown(values: pd.Series) -> str:
        return "-" if values.isna().all() else f"{values.mean():.3f} ± {values.std():.3f}"

    lines = [
        "# Joint domains of several slices",
        "",
        "Made from the table of the same name by `benchmarks/joint.py`; mean ± sample standard deviation over seeds.",
        "",
        "| set | way | ARI by slice | mean ARI | iLISI | cLISI | own domain: recall | precision |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = rows.reindex(columns=[*dict.fromkeys([*rows.columns, *SCORES])])
    for (name, way), runs in rows.groupby(["set", "way"], sort=False):
        by_slice = ", ".join(f"{s} {part.mean():.3f}" for s, part in runs.groupby("slice", sort=False)["ari"])
        once = runs.groupby("seed")[list(SCORES)].first()
        mean = runs.groupby("seed")["ari"].mean()
        cells = [shown(once[key]) for key in SCORES]
        lines.append(f"| {name} | {way} | {by_slice} | {shown(mean)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the files of the manifest ($STMFG_DATA)")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "joint.tsv")
    parser.add_argument("--sets", nargs="*", choices=[*PAIRS, *SIMULATED], default=[*PAIRS, *SIMULATED])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args(argv)
    folder = args.data or os.environ.get("STMFG_DATA")
    rows = pd.read_csv(args.output, sep="\t").to_dict("records") if args.output.exists() else []
    done = {(row["set"], row["way"], row["seed"]) for row in rows}
    for name in args.sets:
        if name in PAIRS and not folder:
            parser.error("name the data folder or set $STMFG_DATA")
        for seed in range(args.seeds):
            wanted = [way for way in WAYS if (name, way, seed) not in done]
            if not wanted:
                continue
            task = pair(name, Path(folder)) if name in PAIRS else simulated(name, seed)
            for way in wanted:
                rows += run(task, way, seed)
            table = pd.DataFrame(rows)
            table.to_csv(args.output, sep="\t", index=False, float_format="%.4f")
            args.output.with_suffix(".md").write_text(report(table))


if __name__ == "__main__":
    main()

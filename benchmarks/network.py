"""What the network is worth: views, training, the paper's preset, families of tissue, sections together.

usage: network.py [DATA] [-o TABLE.tsv] [--seeds N] [--parts NAME ...] [--sets NAME ...] [--variants NAME ...]
                  [--before FOLDER] [--jobs N]

Parts: ``default`` (every annotated set, with the floor and, given the src folder of an earlier commit with
``--before``, the default of that commit), ``training`` (``epochs=0``), ``views`` (a view of pure noise, the tissue
image, an image that alone tells two domains apart), ``paper``, ``joint`` (her2st B1 with B2 to B6, H1 with H2 and H3).
K is given, every spot is in training, labels are seen by this script alone and only when scoring. One row a run; from
the table, TABLE.md is made. Runs that are in the table already are skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from PIL import Image

import measure
import protocol
import stmfg
from pictured import simulate_pictured
from stmfg import metrics
from stmfg.io import join

HERE = Path(__file__).resolve().parent
PARTS = ("default", "training", "views", "paper", "joint")
FAMILIES = {
    "dlpfc": "DLPFC",
    "her2st": "her2st",
    "st": "olfactory bulb",
    "starmap": "STARmap",
    "merfish": "MERFISH",
}
"""Family of a set, by how its name begins."""
NOISE_SETS = (*("dlpfc_151673", "dlpfc_151676", "starmap_visual_cortex_BY3_1k", "starmap_mpfc_BZ9", "her2st_B1"),)
IMAGE_SETS = ("dlpfc_151673", "dlpfc_151676")
PAPER_SETS = ("dlpfc_151673", "dlpfc_151676", "starmap_visual_cortex_BY3_1k", "starmap_mpfc_BZ9")
JOINT = {"her2st_B1": ("B2", "B3", "B4", "B5", "B6"), "her2st_H1": ("H2", "H3")}
VIEWS = {"noise": "noise=noise", "image": "image=stmfg_image"}
UNTRAINED = ", epochs=0"
"""How the variant of a run ends whose views count the same."""
ONLY_DOMAINS: dict[str, object] = {"finest_level": 0, "redraws": 0}
"""Neither a tree nor a confidence: they change no domain."""
FIELDS = ("part", "set", "variant", "seed", "ari", "weight", "cpu", "wall", "peak_mb", "exit")
PROGRAM = """
import json, sys, anndata, numpy, stmfg
source, labels, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
adata = anndata.read_h5ad(source)
stmfg.tl.domains(adata, **options)
adata.obs[["stmfg_domain"]].to_csv(labels, index_label="spot")
names = [str(name) for name in adata.uns["stmfg"]["view_weight_names"]]
means = numpy.asarray(adata.obsm["stmfg_view_weights"]).mean(axis=0)
print(json.dumps(dict(zip(names, map(float, means)))))
"""


@dataclass(frozen=True)
class Run:
    """One run: a file without labels, the options of ``stmfg.tl.domains``, and what only this script may see."""

    part: str
    set: str
    variant: str
    adata: ad.AnnData
    truth: pd.Series
    options: dict[str, object] = field(default_factory=dict)
    view: str = ""  # whose mean weight is recorded
    source: Path | None = None  # of another checkout


def family(name: str) -> str:
    """Return the family of tissue that a set belongs to."""
    return FAMILIES[name.split("_")[0]]


def read_set(source: protocol.Source, data: Path) -> tuple[ad.AnnData, pd.Series]:
    """Return a set without its labels, and the labels."""
    with tempfile.TemporaryDirectory() as folder:
        task = protocol.prepare(source, data, Path(folder))
        return ad.read_h5ad(task.input), task.truth


def add_noise(adata: ad.AnnData, seed: int) -> ad.AnnData:
    """Return a copy with five columns of noise in ``obsm``."""
    adata = adata.copy()
    adata.obsm["noise"] = np.random.default_rng(1000 + seed).standard_normal((adata.n_obs, 5)).astype(np.float32)
    return adata


def add_image(adata: ad.AnnData, folder: Path) -> ad.AnnData:
    """Return a copy with the features of the tissue image of a Space Ranger ``spatial`` folder in ``obsm``."""
    adata = adata.copy()
    places = pd.read_csv(folder / "tissue_positions_list.txt", header=None, index_col=0)
    positions = adata.obsm["spatial"]
    adata.obsm["spatial"] = places.loc[adata.obs_names, [5, 4]].to_numpy(np.float64)
    factors = json.loads((folder / "scalefactors_json.json").read_text())
    picture = np.asarray(Image.open(folder / "tissue_lowres_image.png").convert("RGB"))
    adata.uns["spatial"] = {"slice": {"images": {"lowres": picture}, "scalefactors": factors}}
    stmfg.pp.image(adata)
    adata.obsm["spatial"] = positions
    del adata.uns["spatial"]
    return adata


def read_joint(name: str, data: Path, sources: dict[str, protocol.Source]) -> tuple[ad.AnnData, pd.Series]:
    """Return a section joined with its unlabelled neighbours, and the labels of the one."""
    first, truth = read_set(sources[name], data)
    slices = {name: first}
    for other in JOINT[name]:
        part = ad.read_h5ad(data / "her2st_sections" / f"her2st_{other}.h5ad")
        slices[other] = ad.AnnData(part.X, obs=part.obs[[]], var=part.var[[]], obsm={"spatial": part.obsm["spatial"]})
    joined = join(slices)
    return joined, truth.set_axis([f"{spot}_{name}" for spot in truth.index])


def runs(parts: list[str], data: Path, seed: int, before: Path | None) -> Iterator[Run]:
    """Yield what is to be run with one seed."""
    sources = {s.name: s for s in protocol.manifest() if (data / s.file).is_file()}
    for name, source in sources.items():
        adata, truth = read_set(source, data)
        given: dict[str, object] = {"n_domains": source.k, "random_state": seed}
        given |= {"use_rep": source.rep} if source.rep else {}
        options = given | ONLY_DOMAINS
        if "default" in parts:
            yield Run("default", name, "default", adata, truth, options)
            if before is not None:
                yield Run("default", name, "before", adata, truth, given, source=before)
            yield Run("default", name, "floor", adata, truth, options)
        if "training" in parts:
            yield Run("training", name, "epochs=0", adata, truth, options | {"epochs": 0})
        if "views" in parts and name in NOISE_SETS:
            yield from view_runs(name, "noise", add_noise(adata, seed), truth, options)
        if "views" in parts and name in IMAGE_SETS:
            pictured = add_image(adata, data / "dlpfc_images" / name.removeprefix("dlpfc_"))
            yield from view_runs(name, "image", pictured, truth, options)
        if "paper" in parts and name in PAPER_SETS:
            yield Run("paper", name, "paper", adata, truth, options | {"preset": "paper"})
        if "joint" in parts and name in JOINT:
            joined, labels = read_joint(name, data, sources)
            yield Run("joint", name, "joint", joined, labels, options | {"library_key": "stmfg_slice"})
    if "views" in parts:
        adata, truth = simulate_pictured(seed=seed)
        stmfg.pp.image(adata)
        del adata.uns["spatial"]
        options = {"n_domains": 4, "random_state": seed} | ONLY_DOMAINS
        yield Run("views", "simulated", "blind", adata, truth, options)
        yield from view_runs("simulated", "image", adata, truth, options)


def view_runs(name: str, view: str, adata: ad.AnnData, truth: pd.Series, options: dict[str, object]) -> Iterator[Run]:
    """Yield runs with a third view, trained and with equal weights of all three; also where only the network votes."""
    options = options | {"views": ("spatial", "feature", VIEWS[view])}
    for variant, more in ((view, {}), (f"{view}, network alone", {"averages": False})):
        for ending, epochs in (("", {}), (UNTRAINED, {"epochs": 0})):
            yield Run("views", name, variant + ending, adata, truth, options | more | epochs, view=view)


def run(one: Run, seed: int) -> dict[str, object]:
    """Run once, in a process of its own on one thread, and return the row."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(one, seed, Path(folder))


def _run(one: Run, seed: int, folder: Path) -> dict[str, object]:
    source, labels, output = folder / "input.h5ad", folder / "labels.csv", folder / "weights.json"
    labels.unlink(missing_ok=True)
    one.adata.write_h5ad(source)
    package = one.source or Path(stmfg.__file__).resolve().parents[1]
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if one.variant == "floor":
        k, rep = str(one.options["n_domains"]), one.options.get("use_rep")
        command = [sys.executable, str(HERE / "floor.py"), str(source), k, str(labels), "--seed", str(seed)]
        command += ["--use-rep", str(rep)] if rep else []
    else:
        program = f"import sys; sys.stdout = open({str(output)!r}, 'w')\n{PROGRAM}"
        command = [sys.executable, "-c", program, str(source), str(labels), json.dumps(one.options)]
        env |= {"PYTHONPATH": str(package)}
    used = measure.run(command, cwd=folder, env=env, time_limit=3600, memory_limit_mb=12000)
    row = {"part": one.part, "set": one.set, "variant": one.variant, "seed": seed, "exit": used.exit}
    row |= {"cpu": used.cpu, "wall": used.wall, "peak_mb": used.peak_mb}
    if used.exit == "ok":
        table = pd.read_csv(labels, index_col=0, dtype=str).iloc[:, -1]
        row["ari"] = metrics.ari(one.truth.to_numpy(), table.loc[one.truth.index].to_numpy())
        if one.view:
            weights = json.loads(output.read_text())
            row["weight"] = float(np.mean([w for name, w in weights.items() if name.endswith(f": {one.view}")]))
    return row


def report(table: pd.DataFrame) -> str:
    """Return the table of goals as Markdown: mean and standard deviation over seeds."""
    mean = table.groupby(["part", "set", "variant"])["ari"].mean()
    std = table.groupby(["part", "set", "variant"])["ari"].std()
    cost = table.groupby(["part", "set", "variant"])["cpu"].mean()
    weight = table.groupby(["part", "set", "variant"])["weight"].mean()

    def show(*key: str) -> str:
        if key not in mean:
            return "-"
        return f"{mean[key]:.3f}" + (f" ± {std[key]:.3f}" if np.isfinite(std[key]) else "")

    lines = ["# What the network is worth", ""]
    lines += ["ARI, K given, mean ± standard deviation over seeds; made by `python benchmarks/network.py`.", ""]
    columns = [("default", "before"), ("default", "default"), ("training", "epochs=0"), ("default", "floor")]
    columns = [column for column in columns if any((p, v) == column for p, _, v in mean.index)]
    if columns:
        lines += [f"| set | {' | '.join(variant for _, variant in columns)} |", "|---" * (len(columns) + 1) + "|"]
        sets = sorted(
            {name for part, name, _ in mean.index if part == "default"}, key=lambda name: (family(name), name)
        )
        cells = pd.DataFrame({v: {n: mean.get((p, n, v), np.nan) for n in sets} for p, v in columns})
        families = cells.groupby(cells.index.map(family)).mean()
        for name in sets:
            lines.append(f"| {name} | {' | '.join(show(p, name, v) for p, v in columns)} |")
        rows = [*families.iterrows(), ("mean of families", families.mean()), ("sets", cells.mean())]
        lines += [f"| **{name}** | {' | '.join(f'{value:.3f}' for value in row)} |" for name, row in rows]
        ratios = []
        if {"default", "floor"} <= set(cells):
            both = {n: cost["default", n, "default"] / cost["default", n, "floor"] for n in sets}
            ratios = [f"{n} {ratio:.2f}" for n, ratio in both.items() if np.isfinite(ratio)]
        if ratios:  # rows measured on another machine have no CPU seconds
            lines += ["", f"CPU of the default over the floor's, start-up included: {', '.join(ratios)}."]
    others = [key for key in mean.index if key[0] not in ("default", "training") and not key[2].endswith(UNTRAINED)]
    if others:
        lines += [
            "",
            "A view that is added: `untrained` is the same run with equal weights of all views (`epochs=0`).",
            "",
        ]
        columns = ("part", "set", "variant", "ARI", "untrained", "default", "weight of the view", "CPU s")
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for part, name, variant in others:
            key = (part, name, variant)
            of_view = f"{weight[key]:.3f}" if np.isfinite(weight[key]) else "-"
            seconds = f"{cost[key]:.0f}" if np.isfinite(cost[key]) else "-"
            equal = show(part, name, variant + UNTRAINED)
            cells_ = (show(*key), equal, show("default", name, "default"), of_view, seconds)
            lines.append(f"| {' | '.join((part, name, variant, *cells_))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what the table lacks, a row at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("STMFG_DATA"))
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "network.tsv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sets", nargs="*", help="names of the manifest (default: all)")
    parser.add_argument("--variants", nargs="*", help="default, before, floor, epochs=0, ... (default: all)")
    parser.add_argument("--before", type=Path, help="src folder of an earlier checkout")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one thread; 1 where seconds count")
    args = parser.parse_args()
    table = pd.read_csv(args.output, sep="\t") if args.output.is_file() else pd.DataFrame(columns=list(FIELDS))
    done = set(zip(table["part"], table["set"], table["variant"], table["seed"], strict=True))
    with ThreadPoolExecutor(args.jobs) as pool:
        rows = []
        for seed in range(args.seeds):
            for one in runs(args.parts, Path(args.data), seed, args.before):
                if (one.part, one.set, one.variant, seed) in done or (args.sets and one.set not in args.sets):
                    continue
                if args.variants and one.variant not in args.variants:
                    continue
                rows.append(pool.submit(run, one, seed))
        for row in map(Future.result, as_completed(rows)):
            print(*(f"{value:.3f}" if isinstance(value, float) else value for value in row.values()), file=sys.stderr)
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            table.sort_values(["part", "set", "variant", "seed"], ignore_index=True, inplace=True)
            table.to_csv(args.output, sep="\t", index=False, float_format="%.4f", columns=list(FIELDS))
    args.output.with_suffix(".md").write_text(report(table))


if __name__ == "__main__":
    main()

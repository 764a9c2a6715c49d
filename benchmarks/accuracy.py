"""Accuracy of stMFG beside the training-free floor, without labels in sight of any method.

usage: accuracy.py DATA [-o TABLE.tsv] [--sets NAME ...] [--methods NAME ...] [--seeds N] [--option KEY=VALUE ...]

Every method is a process of its own that is given a copy of the file without ``obs`` (and so without
annotation), and K, the number of distinct labels. Scored are the labelled spots. One row a run is appended
to the table; runs that are there already are skipped, so an interrupted benchmark continues. CPU seconds
and peak memory are of the whole process, from file to labels.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import anndata as ad
import pandas as pd

from stmfg import metrics

TRUTH = "ground_truth"
FIELDS = ("set", "method", "seed", "n", "k", "ari", "nmi", "chaos", "pas", "asw", "wall", "cpu", "peak_mb", "exit")
HERE = Path(__file__).resolve().parent
RUN = "import sys; from stmfg.cli import main; sys.exit(main())"
# Changes to the default preset that an ablation row is made of.
ABLATION = """
import json, sys, anndata, pandas, stmfg
source, k, output, seed, rep, options = sys.argv[1:]
adata = anndata.read_h5ad(source)
stmfg.tl.domains(adata, n_domains=int(k), random_state=int(seed), use_rep=rep or None, **json.loads(options))
adata.obs[["stmfg_domain"]].to_csv(output, index_label="spot")
"""


def command(method: str, options: dict[str, object], source: Path, k: int, seed: int, rep: str, folder: Path):
    """Return the command of one run and the file it leaves the labels in."""
    labels = folder / "labels.csv"
    if method == "floor":
        line = [sys.executable, str(HERE / "floor.py"), str(source), str(k), str(labels), "--seed", str(seed)]
        return line + (["--use-rep", rep] if rep else []), labels
    if options:
        return [
            sys.executable,
            "-c",
            ABLATION,
            str(source),
            str(k),
            str(labels),
            str(seed),
            rep,
            json.dumps(options),
        ], labels
    line = [sys.executable, "-c", RUN, "run", str(source), "-o", str(folder / "out"), "--n-domains", str(k)]
    line += ["--preset", method, "--seed", str(seed), "--device", "cpu", "--quiet"] + (
        ["--use-rep", rep] if rep else []
    )
    return line, folder / "out" / "domains.csv"


def measured(line: list[str]) -> tuple[float, float, float, int]:
    """Run a command; wall seconds, CPU seconds, peak MB and exit status of the whole process."""
    read, write = os.pipe()
    started = os.times().elapsed
    if os.fork() == 0:  # a child whose only child is the command, so that its resource use is the command's
        status = subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(write, json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, status]).encode())
        os._exit(0)
    os.wait()
    os.close(write)
    cpu, peak, status = json.loads(os.read(read, 4096))
    os.close(read)
    return os.times().elapsed - started, cpu, peak, status


def score(row: dict[str, object], labels: Path, truth: pd.Series, coordinates) -> None:
    found = pd.read_csv(labels, index_col=0, dtype=str)
    found.index = found.index.astype(str)
    column = "domain" if "domain" in found else found.columns[0]
    found = found.loc[truth.index, column].to_numpy()
    row["ari"], row["nmi"] = metrics.ari(truth.to_numpy(), found), metrics.nmi(truth.to_numpy(), found)
    row["chaos"], row["pas"] = metrics.chaos(coordinates, found), metrics.pas(coordinates, found)
    row["asw"] = metrics.asw(coordinates, found)


def summary(table: pd.DataFrame) -> str:
    """Mean and standard deviation over seeds, a row a method and a column a set, as Markdown."""
    lines = ["| method | " + " | ".join(table["set"].unique()) + " | mean | CPU s | peak MB |"]
    lines.append("|---" * (table["set"].nunique() + 4) + "|")
    for method, rows in table.groupby("method", sort=False):
        by_set = rows.groupby("set", sort=False)["ari"]
        cells = [
            f"{by_set.mean()[name]:.3f} ± {by_set.std(ddof=0)[name]:.3f}" if name in by_set.groups else "-"
            for name in table["set"].unique()
        ]
        lines.append(
            f"| {method} | " + " | ".join(cells) + f" | {by_set.mean().mean():.3f} | {rows['cpu'].median():.0f} "
            f"| {rows['peak_mb'].max():.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with annotated .h5ad files (obs['ground_truth'])")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "accuracy.tsv")
    parser.add_argument("--sets", nargs="*", help="file names without .h5ad (default: all)")
    parser.add_argument("--methods", nargs="*", default=["floor", "default", "paper"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--option", nargs="*", default=[], help="hyperparameters to change, for an ablation row")
    args = parser.parse_args()
    options = {key: json.loads(value) for key, value in (item.split("=", 1) for item in args.option)}
    name = "default, " + ", ".join(args.option) if options else ""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    if not args.output.exists():
        args.output.write_text("\t".join(FIELDS) + "\n")
    done = {tuple(r[:3]) for r in csv.reader(args.output.open(), delimiter="\t")}
    for source in sorted(args.data.glob("*.h5ad")):
        if args.sets and source.stem not in args.sets:
            continue
        adata = ad.read_h5ad(source)
        truth = adata.obs[TRUTH].dropna().astype(str)
        coordinates = adata[truth.index].obsm["spatial"]
        rep = "" if adata.n_vars else "X_pca"
        adata.obs = adata.obs[[]]
        with tempfile.TemporaryDirectory() as scratch:
            unlabelled = Path(scratch, "input.h5ad")
            adata.write_h5ad(unlabelled)
            for method in [name] if options else args.methods:
                for seed in range(args.seeds):
                    if (source.stem, method, str(seed)) in done:
                        continue
                    row: dict[str, object] = {"set": source.stem, "method": method, "seed": seed, "n": len(truth)}
                    row["k"] = truth.nunique()
                    folder = Path(tempfile.mkdtemp(dir=scratch))
                    line, labels = command(method, options, unlabelled, truth.nunique(), seed, rep, folder)
                    row["wall"], row["cpu"], row["peak_mb"], row["exit"] = measured(line)
                    if row["exit"] == 0:
                        score(row, labels, truth, coordinates)
                    with args.output.open("a") as file:
                        cells = (row.get(field, "") for field in FIELDS)
                        file.write("\t".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells) + "\n")
    print(summary(pd.read_csv(args.output, sep="\t")))


if __name__ == "__main__":
    main()

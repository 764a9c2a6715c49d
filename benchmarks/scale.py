"""Time and memory against the number of cells: simulated tissue, every method under the same limits.

usage: scale.py [-o TABLE.tsv] [--sizes N ...] [--genes N] [--methods NAME ...] [--seeds N] [--draw N]
                [--layout cells|hex] [--cache FOLDER] [--time-limit S] [--memory-limit MB] [--threads N]

One row a run, appended to the table; runs that are there are skipped. For our own method a row per stage follows (name
under ``stage``; its peak is the largest so far in the process). ``TABLE.md`` with growth exponents and ``TABLE.png``
are made at the end. A method that fails at one size is not tried at a larger one.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls

import environments
import figures
import measure
import methods
import protocol
import tables
from stmfg import datasets, metrics

HERE = Path(__file__).resolve().parent
DOMAINS = 7
TOLD = (10_000_000, 100_000_000)
"""Numbers of cells whose cost is told."""
FIELDS = ("n", "genes", "method", "version", "seed", "stage", "ari", "wall", "cpu", "peak_mb", "threads", "exit")


def tissue(n: int, genes: int, cache: Path, draw: int = 0, layout: str = "cells") -> tuple[Path, pd.Series]:
    """Return the unlabelled file of a simulated section, and its true domains (a file beside it)."""
    folder = cache / (f"{layout}-{n}x{genes}" + f"-{draw}" * (draw > 0))
    truth = folder.with_name(f"{folder.name}-truth.csv")
    if not truth.exists():
        folder.mkdir(parents=True, exist_ok=True)
        adata = datasets.simulate(n, genes, n_domains=DOMAINS, layout=layout, random_state=draw)
        protocol.write_unlabelled(adata, "", folder)
        adata.obs[[protocol.TRUTH]].to_csv(truth)
    return folder / "input.h5ad", pd.read_csv(truth, index_col=0, dtype=str)[protocol.TRUTH]


def one(method: methods.Method, data: tuple[Path, pd.Series], seed: int, limits: dict, threads: int) -> list[dict]:
    """Run a method once: the row of the whole process, then those of its stages if it tells them."""
    source, truth = data
    with tempfile.TemporaryDirectory() as scratch:
        job = methods.Job(source, DOMAINS, seed, "", "cells", Path(scratch))
        try:
            command = method.command(job)
        except environments.InstallError as error:
            return [{"exit": f"not installed: {error}"}]
        used = measure.run(command, cwd=job.folder, env=method.environment(threads), **limits)
        row = dataclasses.asdict(used)
        if used.exit == "ok":
            labels = pd.read_csv(method.labels(job), index_col=0, dtype=str)
            row["ari"] = metrics.ari(truth.to_numpy(), labels.loc[truth.index.astype(str)].iloc[:, 0].to_numpy())
        return [row, *stages(job.folder / "out" / "run.json")]


def stages(record: Path) -> list[dict]:
    """Return the rows of the stages of a run of ours."""
    if not record.exists():
        return []
    return [
        {"stage": s["name"], "wall": s["seconds"], "cpu": s["cpu_seconds"], "peak_mb": s["peak_mb"], "exit": "ok"}
        for s in json.loads(record.read_text())["stages"]
    ]


def exponents(runs: pd.DataFrame) -> pd.DataFrame:
    """Fit the exponents of CPU seconds and memory: over all sizes, and between the two largest.

    Starting Python and its libraries weighs on small sizes and hides growth there; the last step shows it best.
    """
    runs = runs[(runs["stage"] == "") & (runs["exit"] == "ok")]
    rows = {}
    for method, group in runs.groupby("method", sort=False):
        line = group.groupby("n")[["cpu", "peak_mb"]].mean()
        if len(line) < 2:
            continue
        size, used = np.log(line.index.to_numpy(float)), np.log(line)
        rows[method] = {"sizes": " ".join(f"{n:,}" for n in line.index)}
        for key, name in (("cpu", "CPU time"), ("peak_mb", "memory")):
            rows[method][name] = f"{np.polyfit(size, used[key], 1)[0]:.2f}"
            rows[method][f"{name}, last step"] = f"{np.polyfit(size[-2:], used[key].iloc[-2:], 1)[0]:.2f}"
    return pd.DataFrame.from_dict(rows, orient="index")


def cost_model(runs: pd.DataFrame) -> pd.DataFrame:
    """Fit a constant and a cost per cell to all sizes but the largest, tell that from them, and larger ones from all.

    Relative errors count, so that small sizes have a say in the constant.
    """
    runs = runs[(runs["stage"] == "") & (runs["exit"] == "ok")]
    rows = []
    for method, group in runs.groupby("method", sort=False):
        line = group.groupby("n")[["cpu", "peak_mb"]].mean()
        if len(line) < 4:
            continue
        size = line.index.to_numpy(float)
        for key, name in (("cpu", "CPU s"), ("peak_mb", "peak MB")):
            used = line[key].to_numpy()
            terms = np.column_stack([np.ones_like(size), size / 1e6])
            checked, whole = (nnls((terms / used[:, None])[:end], np.ones(len(used))[:end])[0] for end in (-1, None))
            rows.append(
                {"what": f"{method}, {name}", "constant": whole[0], "a million cells": whole[1]}
                | {"largest measured": used[-1], "told from the others": checked @ terms[-1]}
                | {f"{n:,}": whole[0] + whole[1] * n / 1e6 for n in TOLD}
            )
    return pd.DataFrame(rows).set_index("what").round(1).rename(columns=str) if rows else pd.DataFrame()


def report(runs: pd.DataFrame) -> str:
    """Return tables of time, memory and growth as Markdown."""
    whole = runs[runs["stage"] == ""].rename(columns={"n": "set"})
    parts = ["# Scale\n\nMade from the table of runs of the same name by `benchmarks/scale.py`; simulated cells."]
    for title, key, digits in (("CPU seconds", "cpu", 0), ("Peak MB", "peak_mb", 0), ("ARI (simulated)", "ari", 3)):
        table = tables.scores(whole, key, digits).drop(columns="sets").rename(columns="{:,}".format)
        parts.append(f"## {title}\n\n{tables.markdown(table)}")
    parts.append(f"## Growth: exponent of the number of cells\n\n{tables.markdown(exponents(runs))}")
    parts.append(
        f"## Cost model: a constant, and so much for every million cells\n\n{tables.markdown(cost_model(runs))}"
    )
    return "\n\n".join(parts) + "\n"


def write(rows: list[dict], table: Path) -> None:
    """Append rows to the table; make it if there is none."""
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\t".join(FIELDS) + "\n")
    with table.open("a") as file:
        for row in rows:
            cells = (row.get(field, "") for field in FIELDS)
            file.write("\t".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + "\n")


def read(table: Path) -> pd.DataFrame:
    return pd.read_csv(table, sep="\t", dtype={"stage": str, "version": str}).fillna({"stage": ""})


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "scale.tsv")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 30_000, 100_000])
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--methods", nargs="*", choices=methods.METHODS, default=["floor", "default", "cellcharter"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--draw", type=int, default=0, help="seed of the simulated tissue (default: 0)")
    parser.add_argument(
        "--layout", choices=("cells", "hex"), default="cells", help="spots (hex) have twice the entries of cells"
    )
    parser.add_argument("--cache", type=Path, help="where to keep the simulated files (default: nowhere)")
    parser.add_argument("--time-limit", type=float, default=900, help="CPU seconds a run (default: 900)")
    parser.add_argument("--memory-limit", type=float, default=8000, help="MB a run (default: 8000)")
    parser.add_argument("--threads", type=int, default=1, help="threads a run (default: 1)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    limits = {"time_limit": args.time_limit, "memory_limit_mb": args.memory_limit}
    done, failed = set(), set()
    if args.output.exists():
        with args.output.open() as file:
            for row in csv.DictReader(file, delimiter="\t"):
                done.add((row["n"], row["genes"], row["method"], row["seed"]))
                if row["exit"] != "ok":
                    failed.add((row["method"], int(row["n"])))
    with tempfile.TemporaryDirectory() as folder:
        for n in sorted(args.sizes):
            for method in (methods.METHODS[name] for name in args.methods):
                for seed in range(args.seeds):
                    name = method.name + f", tissue {args.draw}" * (args.draw > 0) + ", hex" * (args.layout == "hex")
                    key = {"n": n, "genes": args.genes, "method": name, "seed": seed}
                    if tuple(map(str, key.values())) in done:
                        continue
                    if any(other == name and size < n for other, size in failed):
                        continue
                    data = tissue(n, args.genes, args.cache or Path(folder), args.draw, args.layout)
                    rows = one(method, data, seed, limits, args.threads)
                    if rows[0]["exit"] != "ok":
                        failed.add((name, n))
                    key |= {"version": method.version, "threads": args.threads}
                    write([key | row for row in rows], args.output)
                    print(n, method.name, seed, rows[0].get("cpu", ""), rows[0]["exit"], file=sys.stderr)
    runs = read(args.output)
    if runs["genes"].nunique() > 1:  # growth is that of cells alone
        runs["method"] += runs["genes"].map(", {:.0f} genes".format)
    args.output.with_suffix(".md").write_text(report(runs))
    figures.growth(runs, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()

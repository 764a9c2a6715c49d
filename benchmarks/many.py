"""A batch of simulated slices, killed half-way and run again: what is run twice, and how much memory it takes.

usage: many.py [-o TABLE.tsv] [--slices N] [--spots N] [--genes N] [--jobs N ...]

One row a step: a slice alone, then for each number of jobs the batch until half of the slices are finished, when its
whole process group is killed (SIGKILL), and the same command again. Memory is that of the whole process tree, read
twenty times a second; what its processes share counts once for each of them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import measure
from stmfg import datasets

HERE = Path(__file__).resolve().parent


def watched(command: list[str], stop: Callable[[], bool] = lambda: False) -> dict[str, float]:
    """Run a command, kill its process group when ``stop`` says so; return seconds, peak MB and exit status."""
    started, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    while process.poll() is None:
        peak = max(peak, measure._tree_mb(process.pid))
        if stop():
            measure._kill(process.pid)
        time.sleep(measure.INTERVAL)
    return {"seconds": round(time.perf_counter() - started, 1), "peak_mb": round(peak), "status": process.returncode}


def finished(output: Path) -> dict[str, int]:
    """Return when the record of each finished slice was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in output.glob("*/run.json")}


def write_slices(folder: Path, slices: int, spots: int, genes: int) -> Path:
    """Write the slices and their sheet."""
    names = [f"slice{i:02d}" for i in range(slices)]
    for i, name in enumerate(names):
        adata = datasets.simulate(spots, genes, random_state=i)
        del adata.obs["ground_truth"]
        adata.write_h5ad(folder / f"{name}.h5ad")
    sheet = pd.DataFrame({"sample": names, "path": [f"{name}.h5ad" for name in names]})
    sheet["condition"] = ["control", "case"] * (slices // 2) + ["control"] * (slices % 2)
    sheet.to_csv(folder / "sheet.csv", index=False)
    return folder / "sheet.csv"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "many.tsv")
    parser.add_argument("--slices", type=int, default=20)
    parser.add_argument("--spots", type=int, default=5000)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--jobs", type=int, nargs="*", default=[1, 2])
    return parser.parse_args()


def main() -> None:
    args = arguments()
    stmfg = [sys.executable, "-m", "stmfg"]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sheet = write_slices(folder, args.slices, args.spots, args.genes)
        options = ["--n-domains", "7", "--quiet"]
        alone = watched([*stmfg, "run", str(folder / "slice00.h5ad"), "-o", str(folder / "alone"), *options])
        rows.append({"step": "one slice, stmfg run", "jobs": 1, "finished_before": 0, "run_again": 0} | alone)
        for jobs in args.jobs:
            output = folder / f"jobs{jobs}"
            command = [*stmfg, "batch", str(sheet), "-o", str(output), "--jobs", str(jobs), *options]
            killed = watched(command, lambda output=output: len(finished(output)) >= args.slices // 2)
            before = finished(output)
            rows.append({"step": "batch, killed half-way", "jobs": jobs, "finished_before": 0, "run_again": 0} | killed)
            resumed, after = watched(command), finished(output)
            again = sum(after[name] != when for name, when in before.items())
            rows.append(
                {"step": "the same again", "jobs": jobs, "finished_before": len(before), "run_again": again} | resumed
            )
            assert len(after) == args.slices
            assert (output / "index.html").stat().st_size > 0
            assert (pd.read_csv(output / "summary.csv")["status"] == "finished").all()
            print(rows[-2:], file=sys.stderr)
            print(f"index.html: {(output / 'index.html').stat().st_size / 1e6:.2f} MB", file=sys.stderr)
    table = pd.DataFrame(rows).assign(slices=args.slices, spots=args.spots, genes=args.genes)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(args.output, sep="\t", index=False)


if __name__ == "__main__":
    main()

"""The same labels whatever the number of threads: one input, a process for each number, domains compared.

``python -m reliability.threads``; real sections are added where ``$STMFG_DATA`` holds them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from stmfg.datasets import simulate
from stmfg.metrics import ari

THREADS = (1, 4)
SIMULATED: tuple[tuple[Literal["hex", "cells"], int, int], ...] = (
    ("hex", 300, 100),
    ("hex", 3000, 2000),  # axes from a Krylov space
    ("cells", 60_000, 100),  # sorted by place; fitted on a sample
)
REAL = {"dlpfc_151673.h5ad": "7", "starmap_mpfc_BZ5.h5ad": "4", "her2st_H1.h5ad": "6"}


def _run(source: Path, output: Path, n_domains: str, threads: int) -> pd.Series[str]:
    several = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    options = ["-o", str(output), "--n-domains", n_domains, "--quiet"]
    command = [sys.executable, "-m", "stmfg", "run", str(source), *options]
    subprocess.run(command, check=True, env=os.environ | several, capture_output=True)
    return pd.read_csv(output / "domains.csv", dtype=str)["domain"]


def compare(source: Path, n_domains: str) -> dict[str, Any]:
    """Return how many spots differ between one thread and several, and the ARI between both."""
    with tempfile.TemporaryDirectory(prefix="stmfg-threads-") as name:
        one, several = (_run(source, Path(name) / str(n), n_domains, n) for n in THREADS)
    return {"spots": len(one), "spots that differ": int((one != several).sum()), "ARI": round(ari(one, several), 4)}


def main(*, short: bool = False) -> dict[str, Any]:
    """Return the figures of each data set."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="stmfg-threads-") as name:
        for layout, n, genes in SIMULATED[: 1 if short else None]:
            path = Path(name) / "input.h5ad"
            simulate(n, genes, n_domains=7, layout=layout, random_state=2).write_h5ad(path)
            found[f"simulated {layout}, {n} x {genes}"] = compare(path, "7")
    folder = Path(os.environ.get("STMFG_DATA", "absent"))
    for file, k in () if short else REAL.items():
        if (folder / file).exists():
            found[file] = compare(folder / file, k)
    return found


if __name__ == "__main__":
    print(json.dumps(main(short="--short" in sys.argv)))

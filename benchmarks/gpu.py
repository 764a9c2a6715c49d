"""From counts to domains and report on a GPU and on the CPU: time of each stage, and whether the domains agree.

usage: gpu.py [-o TABLE.md] [--cells N] [--genes N] [--device cuda] [--seconds S] [--small N]

A run is what ``stmfg run`` does, from counts in memory to all files. Machines with a GPU often have torch and scipy but
not AnnData: there it is ``STMFG.fit``, on arrays, without report. Confidence and tree are off in all runs but the last.
The GPU runs twice, to see whether it repeats itself, then the CPU. A first run of ``--small`` cells warms up.
``--device cpu`` takes the same path without a GPU. No run is begun that would end after ``--seconds``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

import stmfg
from stmfg._core.timing import recording
from stmfg.metrics import ari

try:
    import anndata as ad
except ImportError:
    ad = None

DOMAINS = 7
ENTRIES = 155
"""Genes seen in a cell, on average."""
ALONE = {"redraws": 0, "finest_level": 0}
"""Options of a run without confidence from halves of the molecules and without nested domains."""


def simulate(n: int, genes: int, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Return cells in bands of tissue, as much of an AnnData as the model reads, and the true domain of each.

    Types of cells, in shares that depend on the domain, decide most of what a cell expresses, and the domain the rest.
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, np.sqrt(n), (n, 2))
    bands = (places[:, 1] / np.sqrt(n) + 0.04 * np.sin(6 * places[:, 0] / np.sqrt(n))) * DOMAINS
    domain = np.clip(bands.astype(np.int64), 0, DOMAINS - 1)
    shares = rng.dirichlet(np.ones(8), DOMAINS)
    types = (rng.random(n)[:, None] > shares.cumsum(axis=1)[domain]).sum(axis=1).clip(max=7)
    base = np.exp(rng.normal(size=genes))
    rates = base * np.exp(rng.normal(size=(8, genes)) + 0.35 * rng.normal(size=(DOMAINS, 1, genes)))
    rates *= ENTRIES * 1.6 / rates.sum(axis=2, keepdims=True)
    blocks = []
    for start in range(0, n, 20_000):
        rows = slice(start, start + 20_000)
        depth = np.exp(0.4 * rng.normal(size=(len(domain[rows]), 1)))
        blocks.append(sparse.csr_matrix(rng.poisson(depth * rates[domain[rows], types[rows]]).astype(np.float32)))
    counts = sparse.vstack(blocks, format="csr")
    names = pd.Index([f"cell{i}" for i in range(n)])
    obs, var = pd.DataFrame(index=names), pd.DataFrame(index=[f"gene{i}" for i in range(genes)])
    if ad is not None:
        return ad.AnnData(counts, obs=obs, var=var, obsm={"spatial": places}), domain
    parts = {"X": counts, "obs": obs, "var": var, "obs_names": obs.index, "var_names": var.index, "raw": None}
    empty: dict[str, Any] = {key: {} for key in ("obsp", "layers", "uns")}
    shape = {"n_obs": n, "n_vars": genes, "shape": (n, genes), "isbacked": False}
    return SimpleNamespace(**parts, **empty, **shape, obsm={"spatial": places}), domain


def run(cells: Any, device: str, options: dict[str, Any]) -> tuple[np.ndarray, dict[str, float]]:
    """Return the domains, and the seconds of each stage and of all."""
    cells = cells.copy() if ad is not None else cells  # a run writes into it
    with tempfile.TemporaryDirectory() as folder, recording() as stages:
        begin = time.perf_counter()
        if ad is not None:
            from stmfg import workflow

            stages = workflow.run(cells, Path(folder) / "out", n_domains=DOMAINS, device=device, **options)["stages"]
            labels = cells.obs["stmfg_domain"].astype(str)
        else:
            labels = stmfg.STMFG(n_domains=DOMAINS, device=device, **options).fit(cells).result.labels
        wall = time.perf_counter() - begin
    seconds: dict[str, float] = {}
    for stage in stages:
        seconds[stage["name"]] = seconds.get(stage["name"], 0.0) + float(stage["seconds"])
    return np.asarray(labels), seconds | {"all": wall}


def main(argv: list[str] | None = None) -> None:
    """Run on both devices, print a table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--cells", type=int, default=400_000)
    parser.add_argument("--genes", type=int, default=500)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=200)
    parser.add_argument("--small", type=int, default=20_000)
    args = parser.parse_args(argv)
    begin = time.perf_counter()
    run(simulate(args.small, args.genes)[0], args.device, {})
    print(f"warmed up after {time.perf_counter() - begin:.0f} s", flush=True)
    cells, truth = simulate(args.cells, args.genes)
    print(f"simulated after {time.perf_counter() - begin:.0f} s", flush=True)
    labels, times = {}, {}
    longest = 0.0
    runs = {
        args.device: (args.device, ALONE),
        f"{args.device} again": (args.device, ALONE),
        "cpu": ("cpu", ALONE),
        f"{args.device}, with confidence and tree": (args.device, {}),
    }
    for name, (device, options) in runs.items():
        if time.perf_counter() - begin + longest > args.seconds:
            print(f"no time left for {name}")
            continue
        labels[name], times[name] = run(cells, device, options)
        longest = max(longest, 2 * times[name]["all"])
        print(name, {stage: round(seconds, 1) for stage, seconds in times[name].items()}, flush=True)
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    lines = [f"{args.cells:,} cells x {args.genes} genes, {cells.X.nnz / args.cells:.0f} entries a cell; {card}, "]
    lines[0] += f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}. Seconds of wall time:"
    lines += ["", "| stage | " + " | ".join(times) + " |", "|---" * (len(times) + 1) + "|"]
    for stage in max(times.values(), key=len):
        lines.append(f"| {stage} | " + " | ".join(f"{each.get(stage, 0.0):.1f}" for each in times.values()) + " |")
    first = labels[args.device]
    lines.append("")
    for name, other in list(labels.items())[1:]:
        lines.append(f"- ARI of {args.device} with {name}: {ari(first, other):.4f}; {(first != other).sum()} differ")
    lines.append(f"- ARI of {args.device} with the truth: {ari(truth.astype(str), first):.4f}")
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

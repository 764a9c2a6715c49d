"""Cohorts: memory of a worker, of the scheduler, and time, against the number of samples and of workers.

usage: cohort.py [-o TABLE.tsv] [--samples N ...] [--cells N] [--genes N] [--workers N ...] [--kill] [--cache FOLDER]
                 [--drawn N] [--pin]
       cohort.py --agreement DATA [--part SHARE ...] [--sets NAME ...] [-o TABLE.tsv]
       cohort.py --apply DATA [--sets NAME ...] [-o TABLE.tsv]

Simulated samples of single cells, joint domains by ``stmfg run SHEET --joint --cluster local:N``; with ``--drawn N``
those beyond the N-th are earlier ones that lost molecules, which is faster to make. One row a run: peak MB (1e6 bytes,
``VmHWM``) of the largest worker, with a ``quarter`` and ``half`` of the samples embedded and at the end; of the
process that holds the scheduler until the last sample is labelled, and to its end, when it has made the report; wall
and CPU seconds, and CPU seconds of the workers alone, or without workers (``--workers 0``) of what workers would
share; seconds on the clock of the steps, ``scan`` to ``report``; ARI with the simulated domains; ``drawn`` is N. With
``--kill`` a worker is killed (SIGKILL) when a third of the work is done and another one at two thirds; ``same`` says
whether the table of domains is that of the run of as many samples before. With ``--pin`` a run, its scheduler and
report too, has as many ``cores`` as workers, so that a second worker brings a second core; without, all there are.

``--agreement`` compares with one joint run of the same slices in one process (ARI over all spots) on the development
sets: as it is, where all spots fit into what maps and clusterings are fitted on, and with room for a share of the spots
alone, as a large cohort would have it; the set ``simulated`` has as many ``--samples`` as are asked for.
``other_seed`` is the agreement of joint runs with seeds 0 and 1, ``patches_alone`` that with a joint run of nothing but
the spots that are fitted on, over these. No labels are used.
``--apply`` fits on one slice of a pair and applies that to the other (ARI with its annotation, which this script alone
sees): ``gaussians``, by ``STMFG.apply``; ``clusterings``, by ``stmfg apply`` on a sheet; ``fitted`` is the ARI of the
slice that was fitted on. Rows are appended; ``TABLE.md`` is made at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import psutil

import stmfg
import stmfg.workflow
from stmfg import datasets, metrics
from stmfg.io import join
from stmfg.model.graphs import halve
from stmfg.workflow import _cohort_tasks
from stmfg.workflow._cohort import choose_patches

HERE = Path(__file__).resolve().parent
DOMAINS = 7
BY_SAMPLE = ("patches", "embed", "label")
STAGES = ("scan", "patches", "fit", "embed", "vote", "label", "markers", "report")
SETS = {
    "dlpfc": (["dlpfc_151673", "dlpfc_151676"], None, 7),
    "her2st": (["her2st_H1", "her2st_sections/her2st_H2", "her2st_sections/her2st_H3"], None, 6),
    "merfish": (["merfish_hypothalamus_bregma-0.04_pca", "merfish_hypothalamus_bregma-0.14_pca"], "X_pca", 8),
    "mpfc": (["starmap_mpfc_BZ5", "starmap_mpfc_BZ9"], None, 4),
    "simulated": ([], None, DOMAINS),
}


def simulate(n_samples: int, cells: int, genes: int, cache: Path, drawn: int | None = None) -> Path:
    """Return the sheet of simulated samples; those that are there are not made again."""
    folder = cache / f"{cells}x{genes}"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"slice{i + 1}" for i in range(n_samples)]
    drawn = min(drawn or n_samples, n_samples)

    def write(name: str, adata: ad.AnnData) -> None:
        adata.write_h5ad(folder / f"{name}.partial")
        (folder / f"{name}.partial").rename(folder / f"{name}.h5ad")

    if not all((folder / f"{name}.h5ad").exists() for name in names[:drawn]):
        kind = ("cortex", "cells")
        for name, adata in datasets.draw_slices(drawn, cells, genes, DOMAINS, kind, 1.0, 0.3, random_state=0):
            write(name, adata)
    for i, name in enumerate(names[drawn:], drawn):
        if not (folder / f"{name}.h5ad").exists():
            write(name, lose_molecules(ad.read_h5ad(folder / f"{names[i % drawn]}.h5ad"), np.random.default_rng(i)))
    sheet = folder / f"{n_samples}.csv"
    pd.DataFrame({"sample": names, "path": [f"{name}.h5ad" for name in names]}).to_csv(sheet, index=False)
    return sheet


def lose_molecules(adata: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """Thin the counts of a sample, of every gene to another share."""
    kept = np.exp(-0.3 * np.abs(rng.standard_normal(adata.n_vars))).astype(np.float32)[adata.X.indices]
    single = adata.X.data == 1
    adata.X.data[single] = rng.random(int(single.sum()), dtype=np.float32) < kept[single]
    adata.X.data[~single] = rng.binomial(adata.X.data[~single].astype(np.int64), kept[~single])
    adata.X.eliminate_zeros()
    return adata


def peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0


def run(sheet: Path, n_samples: int, workers: int, output: Path, *, kill: bool, pin: bool) -> dict[str, object]:
    """Run a cohort and watch its processes."""
    cores = sorted(os.sched_getaffinity(0))[: max(workers, 1) if pin else None]
    cluster = f"local:{workers}" if workers else "here"
    command = ["run", str(sheet), "-o", str(output), "--joint", "--cluster", cluster, "--quiet"]
    command += ["--n-domains", str(DOMAINS)]
    work, largest, scheduler, whole, kills = output / ".cohort", 0.0, 0.0, 0.0, [1 / 3, 2 / 3] if kill else []
    busy: dict[int, float] = {}
    so_far = {"quarter_mb": 0.0, "half_mb": 0.0}
    started = time.perf_counter()
    process = subprocess.Popen(["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-m", "stmfg", *command])
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        n_done = sum(len(list(work.glob(pattern))) for pattern in ("drawn/*.npz", "labelled/*.json"))
        whole = max(whole, peak_mb(process.pid))
        if 0 < n_done < 2 * n_samples or not work.exists():
            scheduler = max(scheduler, whole)
        present = []
        with suppress(psutil.Error):  # one that has ended
            for child in psutil.Process(process.pid).children():
                if "spawn_main" in " ".join(child.cmdline()):
                    present.append(child.pid)
                    busy[child.pid] = sum(child.cpu_times()[:2])
        largest = max([largest, *map(peak_mb, present)])
        if n_done <= n_samples // 2:
            so_far["half_mb"] = largest
        if n_done <= n_samples // 4:
            so_far["quarter_mb"] = largest
        if kills and present and n_done >= kills[0] * 2 * n_samples:
            os.kill(present[0], signal.SIGKILL)
            kills.pop(0)
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    numbers: dict[str, object] = {
        "cores": len(cores),
        "wall": time.perf_counter() - started,
        "cpu": used.ru_utime + used.ru_stime,
    }
    numbers["workers_cpu"] = sum(busy.values())
    stages = json.loads((output / "run.json").read_text())["stages"]
    if not workers:  # then stages are timed where the work is done
        numbers["workers_cpu"] = sum(each["cpu_seconds"] for each in stages if each["name"] in BY_SAMPLE)
    numbers |= {each["name"]: each["seconds"] for each in stages if each["name"] in STAGES}
    return (
        numbers
        | so_far
        | {"worker_mb": largest, "scheduler_mb": scheduler, "main_mb": whole, "kills": 2 * kill - len(kills)}
    )


def domains(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "domains.parquet").sort_values(["sample", "spot"], ignore_index=True)


def score(table: Path, samples: Path) -> tuple[float, str]:
    """Return the ARI with the simulated domains, and a digest of the table of domains, read sample by sample."""
    truth, labels, digest = [], [], hashlib.sha256()
    for file in sorted(table.iterdir()):
        part = pd.read_parquet(file)
        obs = ad.read_h5ad(samples / f"{file.stem}.h5ad", backed="r").obs
        truth.append(obs.loc[part["spot"], "ground_truth"].to_numpy().astype("U4"))
        labels.append(part["domain"].to_numpy().astype("U4"))
        digest.update(pd.util.hash_pandas_object(part).to_numpy().tobytes())
    return metrics.ari(np.concatenate(truth), np.concatenate(labels)), digest.hexdigest()


def scale(args: argparse.Namespace, scratch: Path) -> list[dict[str, object]]:
    rows = []
    for n_samples in args.samples:
        sheet = simulate(n_samples, args.cells, args.genes, args.cache or scratch, args.drawn)
        first = None
        for workers, kill in [(n, False) for n in args.workers] + [(args.workers[-1], True)] * args.kill:
            output = scratch / f"{n_samples}-{workers}-{kill}"
            row = run(sheet, n_samples, workers, output, kill=kill, pin=args.pin)
            row["ari"], digest = score(output / "domains.parquet", sheet.parent)
            row["same"] = "" if first is None else digest == first
            first = first or digest
            rows.append({"samples": n_samples, "cells": args.cells, "genes": args.genes, "workers": workers} | row)
            rows[-1]["drawn"] = args.drawn or n_samples
            print(rows[-1], flush=True)
    return rows


def sheet_of(files: list[str], data: Path, folder: Path) -> tuple[Path, dict[str, Path]]:
    """Return a sheet of development sets, and their files by the names of the samples."""
    paths = {file.rpartition("/")[2]: (data / f"{file}.h5ad").resolve() for file in files}
    sheet = folder / f"{'-'.join(paths)}.csv"
    pd.DataFrame({"sample": list(paths), "path": list(paths.values())}).to_csv(sheet, index=False)
    return sheet, paths


def room_for(spots: int) -> AbstractContextManager[None]:
    """Leave room for so many spots, in twelve patches, in what is fitted on: a small cohort is then a large one."""
    limits = {"PATCHES_AT_MOST": spots, "FIT_AT_MOST": spots, "PATCH": max(100, spots // 12)}
    return mock.patch.multiple(_cohort_tasks, **limits)


def agreement(args: argparse.Namespace, scratch: Path) -> list[dict[str, object]]:
    rows = []
    for name in args.sets:
        files, use_rep, k = SETS[name]
        if files:
            sheet, paths = sheet_of(files, args.agreement, scratch)
        else:
            sheet = simulate(args.samples[0], args.cells, args.genes, args.cache or scratch)
            paths = {sample: sheet.parent / f"{sample}.h5ad" for sample in pd.read_csv(sheet)["sample"]}
        joined = join({sample: stmfg.read(path) for sample, path in paths.items()}, use_rep=use_rep)
        where = {"use_rep": use_rep, "library_key": "stmfg_slice"}

        def fit(seed: int, spots: Any = slice(None)) -> pd.Series:
            adata = joined[spots].copy()  # noqa: B023
            result = stmfg.STMFG(n_domains=k, random_state=seed, finest_level=0).fit(adata, **where).result  # noqa: B023
            return pd.Series(result.labels, index=adata.obs_names)

        joint, other = fit(0), fit(1)
        for part in args.part:
            output = scratch / f"{name}-{part}"
            with room_for(int(joined.n_obs * part)) if part < 1 else nullcontext():
                stmfg.workflow.run(sheet, output, n_domains=k, use_rep=use_rep, cluster="here")
                chosen = choose_patches([int(n) for n in joined.obs["stmfg_slice"].value_counts()[list(paths)]])
                fitted = in_patches(joined, list(paths), chosen, _cohort_tasks.PATCH)
            table = domains(output)
            names = table["spot"] + "_" + table["sample"].astype(str)
            whole = pd.Series(table["domain"].astype(str).to_numpy(), index=names)
            alone = fit(0, fitted) if len(fitted) < joined.n_obs else joint
            rows.append(
                {"set": name, "part": part, "spots": joined.n_obs, "samples": len(paths)}
                | {"agreement": metrics.ari(joint, whole[joint.index]), "other_seed": metrics.ari(joint, other)}
                | {"patches_alone": metrics.ari(joint[fitted], alone)}
            )
            print(rows[-1], flush=True)
    return rows


def in_patches(joined: ad.AnnData, names: list[str], chosen: list[list[int]], size: int) -> pd.Index:
    """Return the spots in the patches that a cohort is fitted on."""
    spots = []
    for name, numbers in zip(names, chosen, strict=True):
        rows = np.flatnonzero(joined.obs["stmfg_slice"] == name)
        pieces = halve(np.asarray(joined.obsm["spatial"])[rows], np.arange(len(rows)), size)
        spots += [rows[pieces[number]] for number in numbers]
    return joined.obs_names[np.sort(np.concatenate(spots))]


def transfer(args: argparse.Namespace, scratch: Path) -> list[dict[str, object]]:
    rows = []
    for name in args.sets:
        files, use_rep, k = SETS[name]
        for one, other in (files, files[::-1]) if len(files) == 2 else ():
            model, output = scratch / f"{one}-model", scratch / f"{one}-{other}"
            options = {"n_domains": k, "use_rep": use_rep, "finest_level": 0, "redraws": 0}
            stmfg.workflow.run(sheet_of([one], args.apply, scratch)[0], model, cluster="here", **options)
            stmfg.workflow.run_apply(model, sheet_of([other], args.apply, scratch)[0], output)

            def score(file: str, labels: pd.Series) -> float:
                truth = stmfg.read(args.apply / f"{file}.h5ad").obs["ground_truth"].dropna().astype(str)
                return metrics.ari(truth.to_numpy(), labels[truth.index].astype(str).to_numpy())

            adata = stmfg.read(args.apply / f"{other}.h5ad")
            gaussians = pd.Series(stmfg.STMFG.load(model).predict(adata), index=adata.obs_names)
            in_one, in_other = (domains(folder).set_index("spot")["domain"] for folder in (model, output))
            rows.append(
                {"set": name, "from": one, "to": other, "fitted": score(one, in_one)}
                | {"gaussians": score(other, gaussians), "clusterings": score(other, in_other)}
            )
            print(rows[-1], flush=True)
    return rows


def write(rows: list[dict[str, object]], table: Path) -> None:
    new = pd.DataFrame(rows)
    before = [pd.read_csv(table, sep="\t")] if table.exists() else []
    whole = pd.concat([*before, new], ignore_index=True)
    whole.to_csv(table, sep="\t", index=False, float_format="%.4g")
    whole = pd.read_csv(table, sep="\t", dtype=str, keep_default_na=False)
    lines = ["| " + " | ".join(whole.columns) + " |", "|" + "---|" * whole.shape[1]]
    lines += ["| " + " | ".join(row) + " |" for row in whole.to_numpy()]
    table.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--samples", type=int, nargs="*", default=[10, 20])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=300)
    parser.add_argument("--drawn", type=int, help="samples to draw; further ones are these with fewer molecules")
    parser.add_argument("--workers", type=int, nargs="*", default=[2])
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--pin", action="store_true", help="as many cores as workers")
    parser.add_argument("--cache", type=Path, help="where to keep the simulated files (default: nowhere)")
    parser.add_argument("--agreement", type=Path, metavar="DATA", help="folder of the development sets")
    parser.add_argument("--apply", type=Path, metavar="DATA", help="folder of the development sets")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS)[:-1])
    parser.add_argument("--part", type=float, nargs="*", default=[1.0, 0.34], help="share of the spots to fit on")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        if args.apply:
            write(transfer(args, Path(scratch)), args.output or HERE / "results" / "cohort_apply.tsv")
        elif args.agreement:
            write(agreement(args, Path(scratch)), args.output or HERE / "results" / "cohort_agreement.tsv")
        else:
            write(scale(args, Path(scratch)), args.output or HERE / "results" / "cohort.tsv")


if __name__ == "__main__":
    main()

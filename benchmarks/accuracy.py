"""Accuracy of spatial domains: methods side by side, each a process that never sees a label.

usage: accuracy.py [DATA] [-o TABLE.tsv] [--sets NAME ...] [--methods NAME ...] [--seeds N] [--option KEY=VALUE ...]
                   [--time-limit S] [--memory-limit MB] [--threads N] [--manifest FILE]

One row a run is appended to the table. Runs that are there already are skipped, so an interrupted benchmark continues;
delete rows to repeat them. A run that fails is a row too, with the reason under ``exit``. From the whole table,
``TABLE.md`` and the figures ``TABLE-*.png`` are made at the end, and, where it is not there, ``environment.md`` with
the machine and all versions.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import environments
import figures
import machine
import measure
import methods
import protocol
import tables

HERE = Path(__file__).resolve().parent
LABELS = ".labels"  # beside the table, SET/METHOD-SEED.csv: what the maps are drawn from
FIELDS = (
    *("set", "method", "version", "seed", "n", "k", "found", "ari", "nmi", "chaos", "pas", "asw"),
    *("wall", "cpu", "peak_mb", "threads", "exit"),
)


def one(
    method: methods.Method, task: protocol.Task, seed: int, limits: dict[str, float], threads: int, keep: Path
) -> dict:
    """Run one method once and return its row; its labels stay in the folder ``keep``."""
    source = task.source
    row: dict[str, object] = {"set": source.name, "method": method.name, "version": method.version, "seed": seed}
    row |= {"n": len(task.truth), "k": source.k, "threads": threads}
    if method.needs_counts and source.rep:
        return row | {"exit": "skipped: needs counts"}
    protocol.refuse_labels(task.input, source.rep)
    with tempfile.TemporaryDirectory() as scratch:
        job = methods.Job(task.input, source.k, seed, source.rep, source.kind, Path(scratch))
        try:
            command = method.command(job)
        except environments.InstallError as error:
            return row | {"exit": f"not installed: {error}"}
        used = measure.run(command, cwd=job.folder, env=method.environment(threads), **limits)
        row |= dataclasses.asdict(used)
        if used.exit == "ok":
            try:
                row |= protocol.score(task, method.labels(job))
                folder = keep / source.name
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(method.labels(job), folder / f"{method.name}-{seed}.csv")
            except (OSError, KeyError, ValueError, protocol.ProtocolError) as error:
                row["exit"] = f"bad output: {type(error).__name__}"
    return row


def write(row: dict, table: Path) -> None:
    """Append a row to the table; make the table if there is none."""
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\t".join(FIELDS) + "\n")
    cells = (row.get(field, "") for field in FIELDS)
    with table.open("a") as file:
        file.write("\t".join(f"{cell:.4f}" if isinstance(cell, float) else str(cell) for cell in cells) + "\n")


def done(table: Path) -> set[tuple[str, str, str]]:
    """Return set, method and seed of the runs a table has."""
    if not table.exists():
        return set()
    with table.open() as file:
        return {(row["set"], row["method"], row["seed"]) for row in csv.DictReader(file, delimiter="\t")}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder with the files of the manifest ($STMFG_DATA)")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "accuracy.tsv")
    parser.add_argument("--manifest", type=Path, default=protocol.MANIFEST)
    parser.add_argument("--sets", nargs="*", help="names of the manifest (default: all)")
    parser.add_argument("--methods", nargs="*", choices=methods.METHODS, default=list(methods.METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--option", nargs="*", default=[], help="hyperparameters of the default to change instead")
    parser.add_argument("--time-limit", type=float, default=1800, help="CPU seconds a run (default: 1800)")
    parser.add_argument("--memory-limit", type=float, default=8000, help="MB a run (default: 8000)")
    parser.add_argument("--threads", type=int, default=1, help="threads a run (default: 1)")
    args = parser.parse_args(argv)
    folder = args.data or os.environ.get("STMFG_DATA")
    args.data = Path(folder or parser.error("name the data folder or set $STMFG_DATA"))
    return args


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    chosen = [methods.METHODS[name] for name in args.methods]
    if args.option:
        chosen = [methods.ablation({key: json.loads(value) for key, value in (o.split("=", 1) for o in args.option)})]
    limits = {"time_limit": args.time_limit, "memory_limit_mb": args.memory_limit}
    there = done(args.output)
    sources = protocol.manifest(args.manifest)
    for name in sorted(set(args.sets or ()) - {source.name for source in sources}):
        print(f"{name}: not in {args.manifest}", file=sys.stderr)
    for source in sources:
        runs = [(method, seed) for method in chosen for seed in range(args.seeds)]
        runs = [(m, seed) for m, seed in runs if (source.name, m.name, str(seed)) not in there]
        if not runs or (args.sets and source.name not in args.sets):
            continue
        if not (args.data / source.file).exists():
            print(f"{source.name}: no {source.file} in {args.data}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            task = protocol.prepare(source, args.data, Path(folder))
            for method, seed in runs:
                row = one(method, task, seed, limits, args.threads, args.output.parent / LABELS)
                write(row, args.output)
                print(source.name, method.name, seed, row.get("ari", ""), row["exit"], file=sys.stderr)
    if not args.output.exists():
        sys.exit(f"nothing was run: none of the data sets is in {args.data}")
    table = tables.read(args.output)
    args.output.with_suffix(".md").write_text(tables.report(table))
    if not (record := args.output.with_name(machine.RECORD)).exists():
        record.write_text(machine.report())
    figures.accuracy(table, args.output.with_suffix(""))


if __name__ == "__main__":
    main()

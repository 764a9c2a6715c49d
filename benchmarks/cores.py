"""One core against two, from file to report: seconds, and whether the domains are the same.

usage: cores.py FILE [-o TABLE.tsv] [--n-domains K] [--pairs N] [--options TEXT] [--cores N ...] [--code NAME=SRC ...]
       [--floor]

Runs take turns, also those of several checkouts, whose folders ``src`` are given under a name, and with ``--floor``
``floor.py`` on the first of the cores. ``wall`` and ``cpu`` are seconds of the whole process. On a machine with other
work the wall time says little, so ``unloaded`` tells what an idle one would take, from what each thread computed in
every half of a second (``/proc/PID/task/*/schedstat``, Linux): as long as the busiest thread, but no less than all of
them on so many cores, and as long as nothing computed or waited for a core.
``same`` says whether ``domains.csv`` is that of the first run.
Rows are appended; the medians are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
INTERVAL = 0.5


def read_threads(pid: int) -> dict[str, tuple[float, float]]:
    """Return the seconds that each thread computed, and that it waited for a core."""
    threads = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError):  # it may end while it is looked at
            computed, waited, _ = map(int, task.read_text().split())
            threads[task.parent.name] = computed / 1e9, waited / 1e9
    return threads


def run(command: list[str], cores: list[int]) -> dict[str, float]:
    """Run a command on some cores and return its seconds."""
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    started = last = time.perf_counter()
    process = subprocess.Popen(command, env=env, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    before, unloaded = {}, 0.0
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        now = time.perf_counter()
        if ended or now - last >= INTERVAL:
            threads = read_threads(process.pid)
            moved = np.array([np.subtract(at, before.get(name, (0, 0))) for name, at in threads.items()]).reshape(-1, 2)
            computed = moved[:, 0]
            unloaded += max(computed.max(initial=0), computed.sum() / len(cores)) + max(0, now - last - moved.sum())
            before, last = threads, now
        if ended:
            break
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the run ended with status {process.returncode}")
    return {"wall": last - started, "cpu": used.ru_utime + used.ru_stime, "unloaded": unloaded}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "cores.tsv")
    parser.add_argument("--n-domains", default="7")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--options", default="", help="more options of stmfg run, such as '--set redraws=0'")
    parser.add_argument("--cores", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--floor", action="store_true", help="run the floor of the accuracy tables, too")
    parser.add_argument("--code", nargs="*", default=["="], help="NAME=SRC of checkouts (default: what is installed)")
    args = parser.parse_args(argv)
    free, rows, first = sorted(os.sched_getaffinity(0)), [], b""
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(args.pairs):
            for cores, code in itertools.product(args.cores, args.code):
                name, source = code.split("=", 1)
                if source:
                    os.environ["PYTHONPATH"] = source
                command = [sys.executable, "-m", "stmfg", "run", str(args.file), "-o", scratch]
                command += ["--overwrite", "--quiet", "--n-domains", args.n_domains, *args.options.split()]
                row = {"file": args.file.stem, "options": args.options, "cores": cores} | run(command, free[:cores])
                domains = (Path(scratch) / "domains.csv").read_bytes()
                first = first or domains
                rows.append(row | {"same": domains == first, "code": name})
                print(rows[-1], flush=True)
            if args.floor:
                command = [
                    sys.executable,
                    str(HERE / "floor.py"),
                    str(args.file),
                    args.n_domains,
                    f"{scratch}/floor.csv",
                ]
                row = {"file": args.file.stem, "options": "", "cores": 1} | run(command, free[:1])
                rows.append(row | {"same": "", "code": "floor"})
                print(rows[-1], flush=True)
    new = pd.DataFrame(rows)
    before = [pd.read_csv(args.output, sep="\t", keep_default_na=False)] if args.output.exists() else []
    pd.concat([*before, new]).to_csv(args.output, sep="\t", index=False, float_format="%.2f")
    seconds = new.groupby(["code", "cores"])[["wall", "cpu", "unloaded"]].median()
    print(seconds.round(2).to_string())
    if args.floor:
        print("over the floor:", (seconds["cpu"] / seconds["cpu"]["floor", 1]).round(2).to_dict())


if __name__ == "__main__":
    main()

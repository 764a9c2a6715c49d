"""What the benchmark ran on: machine, versions of the harness and of every peer; written beside the results.

usage: machine.py [-o FILE.md]
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pandas as pd

import environments
import tables

HERE = Path(__file__).resolve().parent
RECORD = "environment.md"
OURS = ("stmfg", "numpy", "scipy", "scikit-learn", "pandas", "anndata", "scanpy", "torch", "igraph")
SHARED = ("numpy", "scipy", "scanpy", "anndata", "torch", "scikit-learn", "leidenalg", "igraph")


def processor() -> str:
    """Return the model of the processor."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def r_version() -> str:
    """Return the versions of R and of mclust, which GraphST's runner calls."""
    if not shutil.which("Rscript"):
        return "not there"
    ask = 'cat(as.character(getRversion()), "with mclust", as.character(packageVersion("mclust")))'
    done = subprocess.run(["Rscript", "-e", ask], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else "there, without mclust"


def peers() -> pd.DataFrame:
    """Return the pinned versions of every peer: its own and those of the libraries that decide results and speed."""
    rows = {}
    for pins in sorted(environments.PEERS.glob("*/requirements.txt")):
        lines = [line.partition("==") for line in pins.read_text().split()]
        versions = {name.lower(): version for name, _, version in lines}
        name = pins.parent.name
        rows[name] = {"itself": f"{lines[0][0]} {lines[0][2]}", **{key: versions.get(key, "") for key in SHARED}}
    return pd.DataFrame.from_dict(rows, orient="index")


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def report() -> str:
    """Return machine and versions as Markdown."""
    facts = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "processor": processor(),
        "processors that may be used": len(os.sched_getaffinity(0)),
        "memory, GB": f"{memory_gb():.0f}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "R": r_version(),
        **{name: version(name) for name in OURS},
    }
    table = pd.DataFrame({"": facts})
    return (
        "# What the results ran on\n\nMade by `benchmarks/machine.py`.\n\n"
        f"{tables.markdown(table, 'the harness, `default` and `paper`')}\n\n"
        "Peers, each in an environment of its own with exact pins (`benchmarks/peers/NAME/requirements.txt`):\n\n"
        f"{tables.markdown(peers(), 'peer')}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / RECORD)
    args = parser.parse_args()
    args.output.write_text(report())


if __name__ == "__main__":
    main()

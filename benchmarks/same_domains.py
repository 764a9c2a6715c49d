"""Compare the domains that two commits find: are they the same, byte for byte?

usage: python benchmarks/same_domains.py DATA OLD [NEW] [--sets NAME ...] [--keep FOLDER]

Runs ``stmfg run`` of each commit on every data set of the manifest that is in DATA, on one thread, and compares the
two ``domains.csv``. NEW is the working tree when it is not given. Ends with status 1 if a table differs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from protocol import Source, manifest

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def checkout(commit: str | None):
    """Yield a folder with the files of a commit, or the working tree."""
    if commit is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def find_domains(tree: Path, source: Source, data: Path, output: Path) -> bytes:
    """Run one commit on one data set and return its table of domains."""
    options = ["--n-domains", str(source.k), "--seed", "0", "--quiet", *(["--use-rep", source.rep] * bool(source.rep))]
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "stmfg", "run", data / source.file, "-o", output, *options]
    subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    return (output / "domains.csv").read_bytes()


def main() -> int:
    """Run both commits on every set and print which tables differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--keep", type=Path, help="folder that keeps the tables of OLD for the next comparison")
    options = parser.parse_args()
    sources = [s for s in manifest() if (options.data / s.file).is_file() and s.name in (options.sets or [s.name])]
    differing = 0
    with tempfile.TemporaryDirectory() as scratch, checkout(options.old) as old, checkout(options.new) as new:
        for source in sources:
            kept = None if options.keep is None else options.keep / f"{source.name}.csv"
            if kept is not None and kept.is_file():
                before = kept.read_bytes()
            else:
                before = find_domains(old, source, options.data, Path(scratch) / f"{source.name}-old")
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_bytes(before)
            same = find_domains(new, source, options.data, Path(scratch) / f"{source.name}-new") == before
            differing += not same
            print(f"{source.name}: {'equal' if same else 'DIFFERENT'}", flush=True)
    print(f"{len(sources) - differing} of {len(sources)} tables are equal")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

"""The lowest and the newest versions that pyproject.toml admits: both run the tests.

``python -m reliability.bounds lowest`` or ``newest``. Of each requirement the version named in pyproject.toml, or the
newest one admitted, is put in front of the packages of this environment; torch, whose every version is a download of
its own size, stays the one that is installed here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
_QUIET = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
"""What an old library warns of is no fault of ours."""
KEPT = {"torch"}
"""Not resolved anew."""
TESTS = (
    "tests",
    "--ignore=tests/project/test_benchmarks.py",
    "--ignore=tests/project/test_docs.py",
    "--ignore=tests/project/test_reliability.py",
)


def requirements(which: str) -> list[str]:
    """Return what to install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    found = [r for r in map(Requirement, lines) if r.name not in KEPT]
    if which == "newest":
        return [str(r) for r in found]
    return [f"{r.name}=={next(s.version for s in r.specifier if s.operator == '>=')}" for r in found]


def environment(folder: Path, which: str) -> Path:
    """Make an environment in front of this one and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    behind = next(folder.glob("lib/python*/site-packages")) / "behind.pth"
    behind.write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT / 'src'}\n")
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*install, *requirements(which)], check=True)
    return python


def main(which: str, tests: tuple[str, ...] = TESTS) -> dict[str, Any]:
    """Run the tests and return how they ended."""
    with tempfile.TemporaryDirectory(prefix=f"stmfg-{which}-") as name:
        python = environment(Path(name) / "venv", which)
        names = [re.split(r"[=<>]", line)[0] for line in requirements(which)]
        shown = "from importlib.metadata import version; import sys; print(*(f'{n} {version(n)}' for n in sys.argv[1:]), sep=', ')"
        versions = subprocess.run(
            [python, "-c", shown, *names], check=True, capture_output=True, text=True
        ).stdout.strip()
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_QUIET, *tests]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        failed = re.findall(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
        last = (done.stdout.strip().splitlines() or [done.stderr[-300:]])[-1]
    return {"versions": versions, "tests": last, "failed": failed}


if __name__ == "__main__":
    for line, value in main(sys.argv[1], tuple(sys.argv[2:]) or TESTS).items():
        print(f"{line}: {value}")

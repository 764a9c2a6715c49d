"""Environments of the peers: one each, made on demand from exact pins, never mixed.

usage: environments.py [NAME ...]

``peers/NAME/requirements.txt`` lists every package an environment holds, so nothing is resolved at install time
(``--no-deps``): the same versions today and in a year. Python 3.11 and Linux on x86-64 are what they were made with.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS, ENVIRONMENTS = HERE / "peers", HERE / ".envs"


class InstallError(Exception):
    """An environment cannot be made."""


def python_of(name: str) -> Path:
    """Return the Python of a peer's environment; make the environment if it is absent or its pins have changed."""
    requirements = PEERS / name / "requirements.txt"
    folder = ENVIRONMENTS / name
    stamp, pins = folder / "pins.sha256", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != pins:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"making the environment of {name}", file=sys.stderr)
        _call([sys.executable, "-m", "venv", str(folder)])
        _call([str(folder / "bin" / "pip"), "install", "--quiet", "--no-deps", "--requirement", str(requirements)])
        stamp.write_text(pins)
    return folder / "bin" / "python"


def version_of(name: str) -> str:
    """Return the pinned version of the peer itself: the first line of its requirements."""
    return (PEERS / name / "requirements.txt").read_text().split(maxsplit=1)[0].partition("==")[2]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
        raise InstallError(lines[-1][:160])


if __name__ == "__main__":
    for peer in sys.argv[1:] or sorted(path.parent.name for path in PEERS.glob("*/requirements.txt")):
        try:
            print(python_of(peer))
        except InstallError as error:
            print(f"{peer}: {error}")

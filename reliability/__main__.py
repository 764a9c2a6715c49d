"""Run everything and write the table: ``python -m reliability``, or ``make reliability``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

PARTS = {
    "Hostile and broken input": ["fuzz", "--cases", "2000"],
    "Crashes": ["crash", "40"],
    "Many runs in one process": ["soak", "200"],
    "Number of threads": ["threads"],
    "Licences": ["licences"],
}
TABLE = Path(__file__).with_name("results.md")


def main() -> int:
    """Run the parts one after another; 1 where one failed."""
    lines, failed = ["# Figures of `make reliability`", ""], 0
    for title, (module, *arguments) in PARTS.items():
        began = time.time()
        command = [sys.executable, "-W", "ignore", "-m", f"reliability.{module}", *arguments]
        # One thread, as the scripts fork; the one about threads sets its own.
        done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="", flush=True)
        failed += done.returncode != 0
        lines += [f"## {title}", "", f"`python -m reliability.{' '.join([module, *arguments])}`", ""]
        if done.returncode == 0:
            found = json.loads(done.stdout.splitlines()[-1])
            failed += bool(found.get("failures"))
            lines += [
                "| what | figure |",
                "|---|---|",
                *(f"| {name} | {_short(value)} |" for name, value in found.items()),
            ]
        else:
            lines.append(f"ended with status {done.returncode}")
        lines += [f"| minutes | {(time.time() - began) / 60:.1f} |", ""]
    TABLE.write_text("\n".join(lines))
    return int(failed > 0)


def _short(value: object) -> str:
    return ", ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


if __name__ == "__main__":
    sys.exit(main())

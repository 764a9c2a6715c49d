"""Many runs in one process: memory, open files, threads and temporary files must not grow.

``python -m reliability.soak 200``.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from reliability.inputs import QUICK, tissue


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def _held() -> tuple[int, int, int]:
    """Return open files, threads of Python and of the process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir("/proc/self/task"))  # noqa: PTH208


def main(runs: int = 200, *, warm: int = 20) -> dict[str, Any]:
    """Run, and return what grew; the first runs, which load what is used, are not counted."""
    import stmfg.workflow

    with tempfile.TemporaryDirectory(prefix="stmfg-soak-") as name:
        root = Path(name)
        (root / "tmp").mkdir()
        tempfile.tempdir = str(root / "tmp")
        try:
            tissue().write_h5ad(root / "input.h5ad")
            memory, held = [], []
            for seed in range(runs):
                options = {"n_domains": 3, "random_state": seed, "overwrite": True} | QUICK
                stmfg.workflow.run(root / "input.h5ad", root / "out", **options)
                gc.collect()
                memory.append(_resident_mb())
                held.append(_held())
            left = (
                len(list((root / "tmp").iterdir())) + len(list((root / "out").iterdir())) - len(stmfg.workflow.OUTPUTS)
            )
        finally:
            tempfile.tempdir = None
    after = np.array(memory[warm:])
    slope, _ = np.polyfit(np.arange(len(after)), after, 1)
    return {
        "runs": runs,
        "memory at first, MB": round(float(after[0]), 1),
        "memory at last, MB": round(float(after[-1]), 1),
        "slope, MB a run": round(float(slope), 4),
        "open files more": held[-1][0] - held[warm][0],
        "Python threads more": held[-1][1] - held[warm][1],
        "threads more": held[-1][2] - held[warm][2],
        "files left behind": left,
    }


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    print(json.dumps(main(*numbers[:1], **({"warm": numbers[1]} if len(numbers) > 1 else {}))))

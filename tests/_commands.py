"""The command in a process of its own, and files to give it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from stmfg.cli import main

# One thread: short runs gain nothing from more, and the tests share the machine.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def stmfg_command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``stmfg`` as a process of its own."""
    command = [sys.executable, "-m", "stmfg", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300, **options)


def stmfg_here(*arguments: str | Path) -> int:
    """Run ``stmfg`` in this process, which spares the loading of the libraries, and return its exit status."""
    logger = logging.getLogger("stmfg")
    level = logger.level
    try:
        return main(list(map(str, arguments)))
    finally:
        logger.setLevel(level)


def ctrl_c_interrupts() -> None:
    """Let Ctrl-C interrupt a new process (``preexec_fn``), also where the tests run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def make(n: int = 30, genes: int = 20, *, scale: float = 1.0) -> ad.AnnData:
    """Spots named s0, s1, ... on a grid, with Poisson counts."""
    counts = np.random.default_rng(0).poisson(2.0, (n, genes)).astype(np.float32)
    adata = ad.AnnData(sparse.csr_matrix(counts) * scale, obs=pd.DataFrame(index=[f"s{i}" for i in range(n)]))
    adata.obsm["spatial"] = np.column_stack(np.divmod(np.arange(n), 6)).astype(np.float64)
    return adata


def changed(change: Callable[[ad.AnnData], Any], *args: Any, **kwargs: Any) -> Callable[[Path], None]:
    """Return a function that writes an .h5ad with something wrong in it."""

    def write(path: Path) -> None:
        adata = make(*args, **kwargs)
        change(adata)
        adata.write_h5ad(path)

    return write


def good(path: Path) -> None:
    make().write_h5ad(path)

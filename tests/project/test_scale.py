"""A hundred thousand cells fit: nothing of the size cells x cells is ever dense."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT = 8_000_000_000
"""Bytes of address space, libraries included. Cells x cells would be 40 GB in single precision, 10 GB as bytes."""

RUN = """
import resource, sys
import stmfg
adata = stmfg.datasets.simulate(100_000, 60, random_state=0)
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
stmfg.tl.domains(adata, n_domains=7)
assert adata.obs["stmfg_domain"].nunique() == 7
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of the address space are those of Linux")
def test_nothing_cells_by_cells_is_dense() -> None:
    done = subprocess.run([sys.executable, "-c", RUN, str(LIMIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

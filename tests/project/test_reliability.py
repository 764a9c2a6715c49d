"""The short form of ``make reliability``: the same scripts, fewer cases, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the scripts read /proc and set limits")


def figures(module: str, *arguments: str) -> dict[str, Any]:
    """Run a script and return the figures on its last line; what failed is printed before."""
    command = [sys.executable, "-W", "ignore", "-m", f"reliability.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not found.get("failures"), done.stdout
    return found


def test_broken_and_hostile_input_ends_in_a_result_or_one_line() -> None:
    found = figures("fuzz", "--cases", "30")
    assert found["results"] + found["refused in one line"] == 30
    assert found["results"]
    assert found["refused in one line"]


def test_crashes_leave_nothing_half_written() -> None:
    found = figures("crash", "2", "--short")
    assert found["kills before a change to the file system, resumed"] >= 3
    assert found["runs out of memory"] >= 1
    assert found["two at once, one refused"] >= 1


def test_nothing_grows_from_run_to_run() -> None:
    found = figures("soak", "12", "6")
    assert found["slope, MB a run"] < 5
    assert found["open files more"] == found["Python threads more"] == found["files left behind"] == 0


def test_one_and_four_threads_give_the_same_labels() -> None:
    found = figures("threads", "--short")
    assert found["simulated hex, 300 x 100"]["spots that differ"] == 0


def test_needed_packages_are_free_to_use() -> None:
    found = figures("licences")
    assert found["copyleft"] == "igraph (leiden)"  # an extra that the user chooses
    assert found["licence not declared"] == "none"


def test_no_network_at_run_time(tmp_path: Path) -> None:
    program = """if True:
        import sys

        def no_network(event, arguments):
            if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto", "urllib.Request"):
                raise RuntimeError(f"network: {event} {arguments}")

        sys.addaudithook(no_network)
        from pathlib import Path
        from reliability.inputs import record, tissue
        from stmfg.cli import main

        tissue().write_h5ad("input.h5ad")
        record(Path("quick.json"))
        sys.exit(main(["run", "input.h5ad", "-o", "out", "--from", "quick.json", "--quiet"]))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "run.json").exists()


LARGE = """
import resource, sys
import stmfg
adata = stmfg.datasets.simulate(100_000, 60, random_state=0)
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
stmfg.tl.domains(adata, n_domains=7)
assert adata.obs["stmfg_domain"].nunique() == 7
"""


def test_nothing_cells_by_cells_is_dense() -> None:
    # Cells x cells would be 40 GB in single precision, 10 GB as bytes; the libraries count, too.
    command = [sys.executable, "-c", LARGE, "8_000_000_000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""A small run, for the tests of what a run leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import stmfg.workflow
from stmfg.datasets import simulate

FILES = set(stmfg.workflow.OUTPUTS)
QUICK: dict[str, Any] = {"epochs": 3, "n_votes": 1, "n_starts": 1, "redraws": 2}
"""Options of a run that takes a fraction of a second; what they are worth is measured elsewhere."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads gain little on data this small, and wait for each other where other processes want the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def tissue(n: int = 150, genes: int = 50) -> ad.AnnData:
    """A small section with three plain domains."""
    return simulate(n, genes, n_domains=3, difficulty=0.4, random_state=3)


def go(source: ad.AnnData | Path, output: Path, *, n_domains: int | str = 3, **options: Any) -> dict[str, Any]:
    """A quick run, and what every finished run must leave; without counts there are no markers."""
    record = stmfg.workflow.run(source, output, n_domains=n_domains, **{**QUICK, **options})
    assert {p.name for p in output.iterdir()} == FILES - (set() if record["n_vars"] else {"markers.csv"})
    assert json.loads((output / "run.json").read_text()) == json.loads(json.dumps(record))
    return record


def table(output: Path) -> pd.DataFrame:
    """Read domains.csv as text, so that nothing is guessed."""
    return pd.read_csv(output / "domains.csv", dtype={"spot": str, "domain": str}, keep_default_na=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

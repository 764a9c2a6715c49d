"""Two results compared, with a table and a map of where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stmfg._core import checks
from stmfg.errors import InputError
from stmfg.tl._compare import compare
from stmfg.workflow._earlier import find_result

if TYPE_CHECKING:
    from stmfg._core.comparison import Comparison


def compare_results(a: str | Path, b: str | Path, output: str | Path | None = None) -> Comparison:
    """Compare two results, see :func:`stmfg.compare`, and write where they differ.

    Parameters
    ----------
    a, b
        Folders of runs, or files.
    output
        Folder for ``differences.csv``, a row for each spot, and, where one of the two brings positions,
        ``differences.png``; made when missing. Nothing is written when not given.
    """
    comparison = compare(a, b)
    if output is None:
        return comparison
    output = Path(output).expanduser()
    checks.writable(output)
    output.mkdir(parents=True, exist_ok=True)
    comparison.spots.to_csv(output / "differences.csv", index_label="spot")
    paths = [path for result in (a, b) if (path := find_result(result)).suffix in (".h5ad", ".zarr")]
    if paths and not any(_draw(path, comparison, output / "differences.png") for path in paths):
        raise InputError(f"{paths[0]} names its spots otherwise than its domains.csv; compare the two result.h5ad")
    return comparison


def _draw(path: Path, comparison: Comparison, file: Path) -> bool:
    """Draw where the spots of a result differ, and return whether they are those that were compared."""
    from matplotlib.figure import Figure

    from stmfg import pl
    from stmfg._keys import SLICE
    from stmfg.io._read import read

    adata = read(path)
    if not adata.obs_names.isin(comparison.spots.index).any():
        return False
    figure = Figure(figsize=(8, 7), layout="constrained")
    library_key = SLICE if SLICE in adata.obs else None
    pl.differences(adata, comparison, library_key=library_key, ax=figure.add_subplot())
    figure.savefig(file, dpi=150)
    return True

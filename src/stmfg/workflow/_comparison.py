"""Two results compared, with a table and a map of where they differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stmfg._core import checks
from stmfg.errors import InputError
from stmfg.tl._compare import compare

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
    for result in (a, b):
        path = Path(result).expanduser()
        path = path / "result.h5ad" if (path / "result.h5ad").is_file() else path
        if path.suffix in (".h5ad", ".zarr"):
            _draw(path, comparison, output / "differences.png")
            break
    return comparison


def _draw(path: Path, comparison: Comparison, file: Path) -> None:
    from matplotlib.figure import Figure

    from stmfg import pl
    from stmfg._keys import SLICE
    from stmfg.io._read import read

    adata = read(path)
    if not adata.obs_names.isin(comparison.spots.index).any():
        raise InputError(f"{path} names its spots otherwise than its domains.csv; compare the two result.h5ad")
    figure = Figure(figsize=(8, 7), layout="constrained")
    library_key = SLICE if SLICE in adata.obs else None
    pl.differences(adata, comparison, library_key=library_key, ax=figure.add_subplot())
    figure.savefig(file, dpi=150)

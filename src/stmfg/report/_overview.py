"""What came of the samples of a sheet: a table of numbers, and one page with a small map of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from matplotlib.figure import Figure

from stmfg import pl
from stmfg._core.blocks import subsample
from stmfg._keys import CONFIDENCE, DOMAIN, SPATIAL
from stmfg._version import __version__
from stmfg.report._sentences import UNCERTAIN
from stmfg.report._stills import data_address
from stmfg.report._template import fill_template, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from stmfg.io.sheet import Sample

_NAMES: Final = ("sample", "path", "donor", "condition")
_COLUMNS: Final = (
    "status", "n_obs", "n_vars", "n_domains", "uncertain",
    "seconds", "peak_mb", "warnings", "reason", "report", "version",
)  # fmt: skip
_MAP_SPOTS: Final = 20_000  # more would not be seen on a small map
_MAP_INCHES, _MAP_DPI = 1.3, 200


def write_overview(
    samples: Iterable[Sample], records: Mapping[str, dict[str, Any]], reasons: Mapping[str, str], output: Path
) -> pd.DataFrame:
    """Write ``summary.csv`` and ``index.html``, each whole or not at all.

    Parameters
    ----------
    samples
        The samples, in the order to list them in.
    records
        For the finished ones, their ``run.json``.
    reasons
        For the others, what went wrong.
    output
        Folder of the batch, which holds one folder a sample.

    Returns
    -------
    The table, one row a sample: ``status`` is ``finished`` or ``failed``, ``uncertain`` the share of the spots with a
    confidence below 0.5.
    """
    rows: list[dict[str, Any]] = []
    for sample in samples:
        row: dict[str, Any] = {
            "sample": sample.name,
            "path": str(sample.source),
            "donor": sample.donor,
            "condition": sample.condition,
            "others": sample.others,
        }
        record = records.get(sample.name)
        if record is None:
            rows.append(row | {"status": "failed", "reason": reasons[sample.name]})
            continue
        library_key = record["options"].get("library_key")
        result = _read_labels(output / sample.name / "result.h5ad", library_key)
        rows.append(
            row
            | {name: record[name] for name in ("n_obs", "n_vars", "n_domains", "version")}
            | {
                "status": "finished",
                "uncertain": float((result.obs[CONFIDENCE].to_numpy() < UNCERTAIN).mean()),
                "seconds": sum(float(stage["seconds"]) for stage in record["stages"]),
                "peak_mb": max((float(stage["peak_mb"]) for stage in record["stages"]), default=None),
                "warnings": "; ".join(record["warnings"]),
                "report": f"{quote(sample.name)}/report.html",
                "messages": record["warnings"],
                "map": _draw_map(result, library_key),
            }
        )
    others = list(dict.fromkeys(name for row in rows for name in row["others"]))
    columns = [*_NAMES, *others, *_COLUMNS]  # what the sheet says goes before a number of the same name
    table = pd.DataFrame([row | row["others"] for row in rows], columns=list(dict.fromkeys(columns)))
    table = table.astype(dict.fromkeys(("n_obs", "n_vars", "n_domains"), "Int64"))
    write_text(output / "summary.csv", table.to_csv(index=False, float_format="%.4f"))
    page = fill_template(
        "index.html",
        ["index.js"],
        title=output.absolute().name,
        version=__version__,
        rows=rows,
        finished=[row for row in rows if row["status"] == "finished"],
        threshold=UNCERTAIN,
        conditions=sorted({row["condition"] for row in rows} - {""}),
    )
    write_text(output / "index.html", page)
    return table


def _read_labels(path: Path, library_key: str | None) -> AnnData:
    """Read positions, domains, confidence and slices of a result, and leave counts, graphs and layers on disk."""
    with h5py.File(path) as file:
        keys = [DOMAIN, CONFIDENCE, *([library_key] if library_key is not None and library_key in file["obs"] else [])]
        obs = pd.DataFrame({key: read_elem(file["obs"][key]) for key in keys})
        adata = AnnData(obs=obs.set_axis(obs.index.astype(str)))
        adata.obsm[SPATIAL] = np.asarray(read_elem(file["obsm"][SPATIAL]))
    return adata


def _draw_map(result: AnnData, library_key: str | None) -> str:
    """Return a small map of the domains as an address that needs no network."""
    chosen = result[subsample(result.n_obs, _MAP_SPOTS, 0)].copy()
    figure = Figure(figsize=(_MAP_INCHES, _MAP_INCHES), dpi=_MAP_DPI)
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    pl.domains(chosen, image=False, library_key=library_key, legend=False, ax=ax)
    return data_address(figure, lossless=True)

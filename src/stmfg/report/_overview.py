"""What came of the samples of a batch: a table of numbers, and one page with a small map of each."""

from __future__ import annotations

import base64
import hashlib
import io
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import h5py
import jinja2
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from markupsafe import Markup
from matplotlib.figure import Figure

from stmfg import pl
from stmfg._core import summary as _summary
from stmfg._core.blocks import subsample
from stmfg._core.files import replacing
from stmfg._keys import CONFIDENCE, DOMAIN, SPATIAL
from stmfg._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stmfg.io.sheet import Sample

COLUMNS: Final = (
    "sample", "path", "donor", "condition", "status", "n_obs", "n_vars", "n_domains", "uncertain",
    "seconds", "peak_mb", "warnings", "reason", "report", "version",
)  # fmt: skip
"""Columns of ``summary.csv``."""
_MAP_SPOTS: Final = 20_000  # more would not be seen on a small map
_MAP_INCHES, _MAP_DPI = 1.3, 200


def write(
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
    rows, maps = [], []
    for sample in samples:
        row: dict[str, Any] = {
            "sample": sample.name,
            "path": str(sample.source),
            "donor": sample.donor,
            "condition": sample.condition,
        }
        record = records.get(sample.name)
        if record is None:
            rows.append(row | {"status": "failed", "reason": reasons[sample.name]})
            maps.append("")
            continue
        slices = record["options"].get("library_key")
        result = _light(output / sample.name / "result.h5ad", slices)
        rows.append(row | _numbers(record, result) | {"report": f"{quote(sample.name)}/report.html"})
        maps.append(_map(result, slices))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    whole = table.astype(dict.fromkeys(("n_obs", "n_vars", "n_domains"), "Int64"))
    with replacing(output / "summary.csv") as written:
        whole.to_csv(written, index=False, float_format="%.4f")
    shown = [
        row | {"map": picture, "messages": records.get(row["sample"], {}).get("warnings", [])}
        for row, picture in zip(rows, maps, strict=True)
    ]
    with replacing(output / "index.html") as written:
        written.write_bytes(_page(shown, output).encode("utf-8", errors="xmlcharrefreplace"))
    return whole


def _numbers(record: Mapping[str, Any], result: AnnData) -> dict[str, Any]:
    stages = record["stages"]
    return {
        "status": "finished",
        "n_obs": record["n_obs"],
        "n_vars": record["n_vars"],
        "n_domains": record["n_domains"],
        "uncertain": float((result.obs[CONFIDENCE].to_numpy() < _summary.UNCERTAIN).mean()),
        "seconds": sum(float(stage["seconds"]) for stage in stages),
        "peak_mb": max((float(stage["peak_mb"]) for stage in stages), default=None),
        "warnings": "; ".join(record["warnings"]),
        "version": record["version"],
    }


def _light(path: Path, slices: str | None) -> AnnData:
    """Read positions, domains, confidence and slices of a result, and leave counts, graphs and layers on disk."""
    with h5py.File(path) as file:
        keys = [DOMAIN, CONFIDENCE, *([] if slices is None else [slices])]
        obs = pd.DataFrame({key: read_elem(file["obs"][key]) for key in keys})
        adata = AnnData(obs=obs.set_axis(obs.index.astype(str)))
        adata.obsm[SPATIAL] = np.asarray(read_elem(file["obsm"][SPATIAL]))
    return adata


def _map(result: AnnData, slices: str | None) -> str:
    """Return a small map of the domains as an address that needs no network."""
    chosen = result[np.sort(subsample(result.n_obs, _MAP_SPOTS, 0))].copy()
    figure = Figure(figsize=(_MAP_INCHES, _MAP_INCHES), dpi=_MAP_DPI)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    pl.domains(chosen, image=False, library_key=slices, legend=False, ax=axes)
    out = io.BytesIO()
    figure.savefig(out, format="webp", transparent=True, pil_kwargs={"lossless": True})
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _page(rows: list[dict[str, Any]], output: Path) -> str:
    """Return the page. Names come from strangers: all are escaped, and no script but the page's own can run."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("stmfg.report", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    script = files("stmfg.report").joinpath("templates", "index.js").read_text(encoding="utf-8")
    finished = [row for row in rows if row["status"] == "finished"]
    return environment.get_template("index.html").render(
        title=output.absolute().name,
        version=__version__,
        rows=rows,
        n_finished=len(finished),
        n_failed=len(rows) - len(finished),
        n_spots=sum(row["n_obs"] for row in finished),
        seconds=sum(row["seconds"] for row in finished),
        threshold=_summary.UNCERTAIN,
        conditions=sorted({row["condition"] for row in rows} - {""}),
        donors=any(row["donor"] for row in rows),
        script=Markup(script),  # noqa: S704 - our own script is the one piece of the page that is not escaped
        script_digest=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    )

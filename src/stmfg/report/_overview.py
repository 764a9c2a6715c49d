"""What came of the samples of a sheet: a table of numbers, and one page with a map of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import read_elem
from matplotlib.colors import to_rgba_array

from stmfg._core.blocks import subsample
from stmfg._core.labels import colours, labels
from stmfg._core.palette import MISSING
from stmfg._core.spots import spots
from stmfg._keys import COLORS, CONFIDENCE, DOMAIN, SPATIAL
from stmfg._version import __version__
from stmfg.io.sheet import Sample
from stmfg.report import _stills
from stmfg.report._matching import Matching, match, read_profile
from stmfg.report._sentences import UNCERTAIN
from stmfg.report._template import fill_template, write_text

_NAMES: Final = ("sample", "path", "donor", "condition")
_COLUMNS: Final = (
    "status", "n_obs", "n_vars", "n_domains", "uncertain", "seconds", "peak_mb", "warnings", "reason", "report",
    "version",
)  # fmt: skip
_MAP_SPOTS: Final = 20_000  # more would not be seen on a map of this size
_MAP_PIXELS: Final = 420
_MAPS_IN_FULL: Final = 100  # of more samples the maps are smaller, so that the page still opens
_MOST_CHOICES: Final = 12  # values of a column that can be chosen from


def write_overview(
    samples: Sequence[Sample], records: Mapping[str, dict[str, Any]], reasons: Mapping[str, str], output: Path
) -> pd.DataFrame:
    """Write ``summary.csv``, ``matched.csv`` and ``index.html``, each whole or not at all.

    `records` have the ``run.json`` of the samples that are finished, each in its folder in `output`, and `reasons` what
    went wrong with the others. Returned is the table, one row a sample in their order: ``status`` is ``finished`` or
    ``failed``, ``uncertain`` the share of the spots with a confidence below 0.5.
    """
    results: dict[str, AnnData] = {}
    profiles: dict[str, pd.DataFrame] = {}
    for name, record in records.items():
        with h5py.File(output / name / "result.h5ad") as file:
            results[name] = _read_labels(file, record["options"].get("library_key"))
            profile = read_profile(file, labels(results[name]), record["options"])
        if profile is not None:
            profiles[name] = profile
        results[name] = results[name][subsample(results[name].n_obs, _MAP_SPOTS, 0)].copy()
    matching = match(profiles)
    rows = [
        _describe(sample, records[sample.name], results[sample.name], matching, len(records))
        if sample.name in records
        else _name(sample) | {"status": "failed", "reason": reasons[sample.name]}
        for sample in samples
    ]
    others = list(dict.fromkeys(name for row in rows for name in row["others"]))
    columns = [*_NAMES, *others, *_COLUMNS]  # what the sheet says goes before a number of the same name
    table = pd.DataFrame([row | row["others"] for row in rows], columns=list(dict.fromkeys(columns)))
    table = table.astype(dict.fromkeys(("n_obs", "n_vars", "n_domains"), "Int64"))
    write_text(output / "summary.csv", table.to_csv(index=False, float_format="%.4f"))
    write_text(output / "matched.csv", matching.table.to_csv(index=False, float_format="%.3f"))
    described = [key for key in ("condition", "donor", *others) if any(_value(row, key) for row in rows)]
    choices = {key: sorted({_value(row, key) for row in rows} - {""}) for key in described}
    page = fill_template(
        "index.html",
        ["index.js"],
        title=output.absolute().name,
        version=__version__,
        rows=[row | {"told": {key: _value(row, key) for key in described}} for row in rows],
        finished=[row for row in rows if row["status"] == "finished"],
        threshold=UNCERTAIN,
        described=described,
        choices={key: values for key, values in choices.items() if 1 < len(values) <= _MOST_CHOICES},
        matching=matching,
    )
    write_text(output / "index.html", page)
    return table


def _name(sample: Sample) -> dict[str, Any]:
    """Return what the sheet says of a sample."""
    known = {"sample": sample.name, "path": str(sample.source), "donor": sample.donor, "condition": sample.condition}
    return known | {"others": sample.others}


def _value(row: dict[str, Any], key: str) -> str:
    return str(row["others"].get(key, "") if key not in ("condition", "donor") else row[key])


def _describe(
    sample: Sample, record: dict[str, Any], result: AnnData, matching: Matching, n_finished: int
) -> dict[str, Any]:
    """Return the row of a finished sample, with its map."""
    shades = {name: matching.colour(sample.name, name) or own for name, own in colours(result).items()}
    pixels = int(_MAP_PIXELS * min(1.0, np.sqrt(_MAPS_IN_FULL / n_finished)))
    return (
        _name(sample)
        | {name: record[name] for name in ("n_obs", "n_vars", "n_domains", "version")}
        | {
            "status": "finished",
            "uncertain": result.uns["uncertain"],
            "seconds": sum(float(stage["seconds"]) for stage in record["stages"]),
            "peak_mb": max((float(stage["peak_mb"]) for stage in record["stages"]), default=None),
            "warnings": "; ".join(record["warnings"]),
            "report": f"{quote(sample.name)}/report.html",
            "messages": record["warnings"],
            "map": _draw_map(result, record["options"].get("library_key"), list(shades.values()), pixels),
            "domains": [
                {"name": name, "colour": shade, "letter": matching.letters.get((sample.name, name), "")}
                for name, shade in shades.items()
            ],
        }
    )


def _read_labels(file: h5py.File, library_key: str | None) -> AnnData:
    """Read positions, domains, confidence and slices of a result, and leave counts, graphs and layers on disk."""
    keys = [DOMAIN, CONFIDENCE, *([library_key] if library_key is not None and library_key in file["obs"] else [])]
    obs = pd.DataFrame({key: read_elem(file["obs"][key]) for key in keys})
    adata = AnnData(obs=obs.set_axis(obs.index.astype(str)))
    adata.obsm[SPATIAL] = np.asarray(read_elem(file["obsm"][SPATIAL]))
    adata.uns["uncertain"] = float((adata.obs[CONFIDENCE].to_numpy() < UNCERTAIN).mean())
    if (place := f"uns/{DOMAIN}{COLORS}") in file:
        adata.uns[f"{DOMAIN}{COLORS}"] = read_elem(file[place])
    return adata


def _draw_map(result: AnnData, library_key: str | None, shades: list[str], pixels: int) -> str:
    """Return a map of the domains as an address that needs no network."""
    where = spots(result, image=False, library_key=library_key)
    face = to_rgba_array([*shades, MISSING])[labels(result).codes]
    return _stills.spots_picture(where, {"facecolor": face}, pixels)

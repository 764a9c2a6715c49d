"""The part of the report about several slices: a picture of each, what each is made of, and how conditions differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
from anndata import AnnData
from matplotlib import rc_context
from matplotlib.colors import to_rgba_array
from numpy.typing import NDArray

from stmfg._core.labels import labels
from stmfg._core.palette import MISSING
from stmfg._core.spots import Spots
from stmfg.errors import InputError
from stmfg.pl._study import draw_study
from stmfg.report import _stills
from stmfg.tl._study import CONDITION, DONOR, compare_samples

_PIXELS: Final = 420  # of the longer side of the picture of a slice, where there are few of them
_FEW_SLICES: Final = 12
"""Of more slices the pictures are smaller, so that all of them take about as much room in the file."""
_LEAST_PIXELS: Final = 120


def describe_slices(
    adata: AnnData, where: Spots, library_key: str | None, shades: Mapping[str, str], run: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the report shows of several slices; None of one."""
    if library_key is None or len(where.slices) < 2:
        return None
    try:
        study = compare_samples(adata, library_key, reference=run.get("options", {}).get("reference"))
    except InputError:  # a slice has no domain, which is no reason to be without a report
        return None
    if "n_shown" in run:  # the spots are a sample, the comparison was made of all
        study = replace(study, abundance=None, sentences=tuple(run.get("comparison", ())))
    of_spots = to_rgba_array([*shades.values(), MISSING])[labels(adata).codes]
    names = np.asarray(adata.obs[library_key]).astype(str)
    pixels = int(max(_LEAST_PIXELS, _PIXELS * min(1.0, np.sqrt(_FEW_SLICES / len(where.slices)))))
    rows = []
    for name, part in study.composition.groupby("sample", sort=False):
        row: dict[str, Any] = {key: str(part[key].iloc[0]) for key in (CONDITION, DONOR) if _is_known(part, key)}
        row |= {"name": str(name), "spots": int(part["spots"].sum()), "shares": part["proportion"].tolist()}
        rows.append(row | _draw_slice(where, str(name), np.flatnonzero(names == name), of_spots, pixels))
    order = list(where.slices)
    tests = []
    if study.abundance is not None:
        ends = {"odds": "effect", "odds_low": "ci_low", "odds_high": "ci_high"}
        odds = {name: np.exp(study.abundance[column]) for name, column in ends.items()}
        places = pd.Categorical(study.abundance["domain"].astype(str), list(shades)).codes
        tests = study.abundance.assign(**odds, place=places).to_dict("records")
    return {
        "slices": sorted(rows, key=lambda row: order.index(row["name"])),
        "columns": [key for key in (CONDITION, DONOR) if key in study.composition],
        "sentences": study.sentences,
        "tests": tests,
        "figure": None if study.abundance is None else _as_svg(draw_study(study)),
    }


def _is_known(part: pd.DataFrame, key: str) -> bool:
    return key in part and bool(pd.notna(part[key].iloc[0]))


def _draw_slice(
    where: Spots, name: str, rows: NDArray[np.intp], shades: NDArray[np.float64], pixels: int
) -> dict[str, str | None]:
    """Return pictures of a slice: its spots, and the tissue under them where there is an image."""
    left, top, right, bottom = where.slices[name]
    margin = where.diameter + 0.02 * max(right - left, bottom - top)
    frame = (left - margin, top - margin, right + margin, bottom + margin)
    part = replace(where, xy=where.xy[rows], slices={}, frame=frame)
    tissue = None if where.image is None else _stills.tissue_picture(part, pixels)
    return {"picture": _stills.spots_picture(part, {"facecolor": shades[rows]}, pixels), "tissue": tissue}


def _as_svg(figure: Any) -> str:
    """Return a figure as an address that needs no network."""
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "stmfg"}):  # the same result gives the same page
        figure.savefig(out, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"

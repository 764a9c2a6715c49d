"""What the instrument calls spots and cells, under what other tools have put before and behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pandas as pd
from anndata import AnnData

from stmfg.errors import InputError, flag
from stmfg.io.tables import as_text


@dataclass(frozen=True)
class Viewer:
    """A program that finds spots by their names."""

    title: str
    header: tuple[str, str]  # names of the columns of its table; the second is that of the domains where it is empty
    patterns: tuple[str, ...]  # what the instrument calls spots, the most telling first
    example: str  # one such name
    platforms: tuple[str, ...]  # those whose data it opens


_NUMBER: Final = r"-[1-9]\d*"  # behind names; zero is of a tool that put slices together
_COUNTED: Final = r"[1-9]\d*"  # a name that is a number; zero is a row, not a cell
_TENX: Final = (r"[ACGT]{16}", r"s_\d{3}um_\d{5}_\d{5}", r"cellid_\d{9}")
_WITH_NUMBER: Final = tuple(name + _NUMBER for name in _TENX)
LOUPE: Final = Viewer(
    "Loupe Browser", ("Barcode", ""), _WITH_NUMBER + _TENX, "AAACAAGTATCTCCCA-1", ("visium", "visiumhd")
)
XENIUM_EXPLORER: Final = Viewer(
    "Xenium Explorer", ("cell_id", "group"), (r"[a-p]{8}" + _NUMBER, _COUNTED, r"[a-p]{8}"), "aaaadnje-1", ("xenium",)
)


def instrument_names(adata: AnnData, viewer: Viewer) -> list[str]:
    """Return the names by which a viewer finds the observations; refused if those of several slices are the same.

    Names can be in any column of ``obs``, and other tools put the name of a sample before or behind them. Both is
    undone where it is the same for all observations.
    """
    columns = [name for name in adata.obs if adata.obs[name].dtype.kind not in "biufcmM" or name == "cell_id"]
    candidates = [pd.Series(adata.obs_names), *(adata.obs[name] for name in columns)]
    for pattern in viewer.patterns:
        for candidate in candidates:
            if pattern == _COUNTED and candidate.name not in (None, "cell_id"):
                continue  # any number could be one
            names = candidate.map(as_text).astype(str)
            # Letters and digits beside a match would be a part of the name, those behind a separator are not.
            parts = names.str.extract(rf"^(.*?)(?<![A-Za-z0-9])({pattern})(?![A-Za-z0-9])(.*)$")
            if pattern == _COUNTED:  # nothing else may be in the name
                parts = names.str.extract(rf"^()({pattern})()$")
            if parts[1].isna().any():
                continue
            slices = parts[[0, 2]].drop_duplicates()
            if len(slices) > 1 or parts[1].duplicated().any():
                shown = " and ".join(repr(name) for name in names.loc[slices.index[:2]])
                raise InputError(
                    f"names such as {shown} are of several slices, and {viewer.title} shows one; "
                    f"name it with {flag('slice_name')}, or give the result of one slice"
                )
            end = "" if pattern.endswith((_NUMBER, _COUNTED)) else "-1"  # which some tools take off
            return [f"{barcode}{end}" for barcode in parts[1]]
    raise InputError(
        f"spots have names such as {str(adata.obs_names[0])!r}, which {viewer.title} cannot match; it needs "
        f"those of the instrument, such as {viewer.example!r}, as names or in obs['barcode'] or obs['cell_id']"
    )

"""What the instrument calls spots and cells, under what other tools have put before and behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from stmfg.errors import InputError, flag
from stmfg.io.tables import as_text

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Viewer:
    """A program that finds spots by their names.

    Attributes
    ----------
    title
        What it is called.
    header
        Names of the columns of its table; the second is that of the domains where it is empty.
    patterns
        What the instrument calls spots, the most telling first.
    example
        One such name.
    platforms
        Platforms whose data it opens.
    """

    title: str
    header: tuple[str, str]
    patterns: tuple[str, ...]
    example: str
    platforms: tuple[str, ...]


_NUMBER: Final = r"-[1-9]\d*"
"""Behind names; zero is of a tool that put slices together."""
_COUNTED: Final = r"[1-9]\d*"
"""A name that is a number; zero is a row, not a cell."""
LOUPE: Final = Viewer(
    "Loupe Browser",
    ("Barcode", ""),
    (
        *(name + _NUMBER for name in (r"[ACGT]{16}", r"s_\d{3}um_\d{5}_\d{5}", r"cellid_\d{9}")),
        *(r"[ACGT]{16}", r"s_\d{3}um_\d{5}_\d{5}", r"cellid_\d{9}"),
    ),
    "AAACAAGTATCTCCCA-1",
    ("visium", "visiumhd"),
)
XENIUM_EXPLORER: Final = Viewer(
    "Xenium Explorer", ("cell_id", "group"), (r"[a-p]{8}" + _NUMBER, _COUNTED, r"[a-p]{8}"), "aaaadnje-1", ("xenium",)
)


def instrument_names(adata: AnnData, viewer: Viewer) -> list[str]:
    """Return the names by which a viewer finds the observations.

    Names can be in any column of ``obs``, and other tools put the name of a sample before or behind them. Both is
    undone where it is the same for all observations.

    Raises
    ------
    InputError
        If there are no such names, or observations of several slices would have the same.
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
            barcodes = (
                parts[1] if pattern.endswith((_NUMBER, _COUNTED)) else parts[1] + "-1"
            )  # some tools take the end off
            return [str(barcode) for barcode in barcodes]
    raise InputError(
        f"spots have names such as {str(adata.obs_names[0])!r}, which {viewer.title} cannot match; it needs "
        f"those of the instrument, such as {viewer.example!r}, as names or in obs['barcode'] or obs['cell_id']"
    )

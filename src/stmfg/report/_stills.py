"""Maps as still pictures, for print and for readers whose browser runs no script; drawn as ``stmfg.pl`` draws them."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import PIL.WebPImagePlugin  # noqa: F401  else Pillow loads every format it knows: 0.1 s
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stmfg._core.spots import Spots
from stmfg.pl._maps import HALO, draw_spots

LARGE, SMALL = 1_200, 800  # pixels of the longer side
_DPI = 200


def tissue_picture(where: Spots, pixels: int = LARGE) -> str:
    """Return the tissue image inside the bounds of the spots, as a data address."""
    figure, ax = _panel(where, pixels)
    draw_spots(ax, replace(where, slices={}, frame=where.bounds())).remove()  # names are on the picture of the spots
    return data_address(figure, quality=85)


def spots_picture(
    where: Spots, paint: dict[str, Any], pixels: int = LARGE, names: Iterable[tuple[float, float, str]] = ()
) -> str:
    """Return spots on a transparent ground as a data address; `names` are (x, y, text).

    `paint` are properties of the collection of spots, such as ``facecolor``.
    """
    figure, ax = _panel(where, pixels)
    # Smooth edges would make the file four times as large; they are too fine to be missed.
    draw_spots(ax, replace(where, image=None)).set(antialiased=False, **paint)
    for x, y, name in names:
        ax.text(x, y, name, ha="center", va="center", size=7, weight="bold", path_effects=HALO, parse_math=False)
    return data_address(figure, lossless=True)


def data_address(figure: Figure, **options: Any) -> str:
    """Return a figure as an address that needs no network; `options` are those of Pillow for WebP."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # letters that matplotlib's font lacks; the page itself has them
        try:
            figure.savefig(out, format="webp", transparent=True, pil_kwargs=options)
        except (KeyError, ValueError) as error:  # how Pillow says that its WebP part, or the picture, had no memory
            raise MemoryError(f"Pillow cannot write WebP: {error}") from error
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def _panel(where: Spots, pixels: int) -> tuple[Figure, Axes]:
    """Return a figure, and axes that fill it, of the shape of the spots' bounds."""
    left, top, right, bottom = where.bounds()
    inches = pixels / _DPI / max(right - left, bottom - top)
    least = 1 / _DPI  # one pixel
    size = max((right - left) * inches, least), max((bottom - top) * inches, least)
    figure = Figure(figsize=size, dpi=_DPI)
    return figure, figure.add_axes((0.0, 0.0, 1.0, 1.0))

"""Spots as an inline SVG that needs no script: for print, and for readers whose browser runs none."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from stmfg._core.spots import Spots

_WIDTH = 10_000  # of a view box: whole numbers are then precise enough, and short
_IMAGE_SIDE = 1_200  # pixels of the tissue image at most
_PIXELS = 1_400  # longer side of spots drawn as a picture
_REACH = 8.0  # radius in pixels at most: so many spots would hide each other if they were larger
_VECTOR_LIMIT = 20_000  # spots drawn one by one; a browser slows down beyond, and a picture shows as much


@dataclass(frozen=True)
class Group:
    """Spots of one colour.

    Attributes
    ----------
    name
        What the spots are, shown when the pointer rests on one.
    colour
        As ``#rrggbb``.
    path
        Data of an SVG path: a point for each spot, drawn as a dot by its round line cap.
    """

    name: str
    colour: str
    path: str


@dataclass(frozen=True)
class Drawing:
    """A figure for the report's template.

    Attributes
    ----------
    width, height
        Size of the view box.
    groups
        Dots, empty if there is a picture.
    diameter
        Of a dot, in the units of the view box.
    square
        Whether dots are squares.
    picture
        All spots as the data address of a picture that fills the view box, where they are too many for dots.
    image
        Tissue image as a data address, with left, top, width and height in the view box.
    texts
        What is written where in the view box: (x, y, text).
    """

    width: int
    height: int
    groups: Sequence[Group] = ()
    diameter: int = 1
    square: bool = False
    picture: str | None = None
    image: tuple[str, int, int, int, int] | None = None
    texts: Sequence[tuple[int, int, str]] = ()


def draw(
    where: Spots,
    codes: NDArray[Any],
    names: Sequence[str],
    colours: Sequence[str],
    texts: Sequence[tuple[float, float, str]] = (),
) -> Drawing:
    """Return spots in the colour of their group: as dots, or as a picture where they are many.

    Parameters
    ----------
    where
        The spots.
    codes
        Group of each spot, from 0; spots below 0 are left out.
    names, colours
        Name and colour of each group.
    texts
        What to write where, (x, y, text) in the units of the spots.
    """
    left, top, right, bottom = where.bounds()
    scale = _WIDTH / (right - left)
    height = max(1, round((bottom - top) * scale))
    groups: list[Group] = []
    picture = None
    if len(where.xy) > _VECTOR_LIMIT:
        picture = _picture(where, codes, colours)
    else:
        xy = np.rint((where.xy - (left, top)) * scale).astype(np.int64)
        for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
            groups.append(Group(name, colour, "".join(f"M{x} {y}h0" for x, y in xy[codes == i].tolist())))
    image = None
    if where.image is not None:
        address, box = _cropped(where)
        x, y, w, h = (round(v * scale) for v in (box[0] - left, box[1] - top, box[2] - box[0], box[3] - box[1]))
        image = (address, x, y, w, h)
    return Drawing(
        _WIDTH,
        height,
        groups,
        max(1, round(where.diameter * scale)),
        where.square,
        picture,
        image,
        [(round((x - left) * scale), round((y - top) * scale), text) for x, y, text in texts],
    )


def _picture(where: Spots, codes: NDArray[Any], colours: Sequence[str]) -> str:
    """Return the spots as the data address of a picture that fills their bounds."""
    left, top, right, bottom = where.bounds()
    scale = _PIXELS / max(right - left, bottom - top)
    width, height = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    shown = codes >= 0
    column, row = ((where.xy[shown] - (left, top)) * scale).astype(np.intp).T
    radius = min(where.diameter * scale / 2, _REACH)
    reach = np.arange(-int(radius), int(radius) + 1)
    painted = np.zeros((height, width), dtype=np.intp)  # 0 where there is no spot
    for dy in reach:
        for dx in reach:
            if where.square or dx * dx + dy * dy <= max(radius, 1.5) ** 2:
                painted[np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)] = codes[shown] + 1
    table = np.array([(0, 0, 0, 0), *((*bytes.fromhex(c[1:]), 255) for c in colours)], dtype=np.uint8)
    out = io.BytesIO()
    imsave(out, table[painted], format="png")
    return _address(out.getvalue(), "png")


def _cropped(where: Spots) -> tuple[str, tuple[float, float, float, float]]:
    """Return the part of the tissue image under the spots, and its left, top, right, bottom in their units."""
    image = where.image
    if image is None:
        raise ValueError("these spots have no image")
    x0, x1, y1, y0 = where.extent
    height, width = image.shape[:2]
    pixel_x, pixel_y = (x1 - x0) / width, (y1 - y0) / height
    left, top, right, bottom = where.bounds()
    column = np.clip([np.floor((left - x0) / pixel_x), np.ceil((right - x0) / pixel_x)], 0, width).astype(int)
    row = np.clip([np.floor((top - y0) / pixel_y), np.ceil((bottom - y0) / pixel_y)], 0, height).astype(int)
    # Spots off the image: nothing of it can be shown, and one pixel is the least a picture can have.
    column[0], row[0] = min(column[0], width - 1), min(row[0], height - 1)
    part = image[row[0] : max(row[1], row[0] + 1), column[0] : max(column[1], column[0] + 1)]
    step = -(-max(part.shape[:2]) // _IMAGE_SIDE)
    if step > 1:  # the mean of step x step pixels, the incomplete last ones left out
        h, w = (side // step for side in part.shape[:2])
        small = part[: h * step, : w * step].reshape(h, step, w, step, 3)
        part = small.mean(axis=(1, 3)).astype(np.uint8)
    out = io.BytesIO()
    imsave(out, np.ascontiguousarray(part), format="jpg", pil_kwargs={"quality": 85})
    x, y = x0 + column[0] * pixel_x, y0 + row[0] * pixel_y
    box = (x, y, x + part.shape[1] * step * pixel_x, y + part.shape[0] * step * pixel_y)
    return _address(out.getvalue(), "jpeg"), box


def _address(data: bytes, kind: str) -> str:
    """Return `data` as an address that needs no network."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"

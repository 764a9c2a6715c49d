"""Spots as inline SVG: one path for each group, small, sharp at any zoom, and easy to hide or show."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from stmfg._spots import Spots

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

_WIDTH = 10_000  # of a view box: whole numbers are then precise enough, and short
_IMAGE_SIDE = 1_200  # pixels of the tissue image at most


@dataclass(frozen=True)
class Group:
    """Spots of one colour.

    Attributes
    ----------
    index
        Position in the legend.
    name
        What the spots are, shown when the pointer rests on one.
    colour
        As ``#rrggbb``.
    path
        Data of an SVG path: a point for each spot, drawn as a dot by its round line cap.
    """

    index: int
    name: str
    colour: str
    path: str


@dataclass(frozen=True)
class Drawing:
    """A figure for the report's template: vector dots, or one picture where there are too many.

    Attributes
    ----------
    width, height
        Size of the view box, or of the picture in pixels.
    groups
        Dots, empty if there is a picture.
    diameter
        Of a dot, in the units of the view box.
    square
        Whether dots are squares.
    picture
        The whole figure as a data address, if there are no dots.
    image
        Tissue image as a data address, with left, top, width and height in the view box.
    places
        Where in the view box to write the name of each group.
    """

    width: int
    height: int
    groups: Sequence[Group] = ()
    diameter: int = 1
    square: bool = False
    picture: str | None = None
    image: tuple[str, int, int, int, int] | None = None
    places: Sequence[tuple[int, int]] = ()


def dots(
    where: Spots,
    codes: NDArray[Any],
    names: Sequence[str],
    colours: Sequence[str],
    places: NDArray[np.intp] | None = None,
) -> Drawing:
    """Return spots as one group for each code.

    Parameters
    ----------
    where
        The spots.
    codes
        Group of each spot, from 0; spots below 0 are left out.
    names, colours
        Name and colour of each group.
    places
        For each group the spot at which to write its name, or None.
    """
    left, top, right, bottom = where.bounds()
    scale = _WIDTH / (right - left)
    xy = np.rint((where.xy - (left, top)) * scale).astype(np.int64)
    groups = []
    for i, (name, colour) in enumerate(zip(names, colours, strict=True)):
        path = "".join(f"M{x} {y}h0" for x, y in xy[codes == i].tolist())
        groups.append(Group(i, name, colour, path))
    image = None
    if where.image is not None:
        address, box = _cropped(where)
        x, y, w, h = (round(v * scale) for v in (box[0] - left, box[1] - top, box[2] - box[0], box[3] - box[1]))
        image = (address, x, y, w, h)
    return Drawing(
        _WIDTH,
        max(1, round((bottom - top) * scale)),
        groups,
        max(1, round(where.diameter * scale)),
        where.square,
        image=image,
        places=[] if places is None else [(x, y) for x, y in xy[places].tolist()],
    )


def picture(draw: Callable[[Axes], Any], width: float, height: float) -> Drawing:
    """Return what `draw` puts on axes that fill a picture of `width` x `height` inches.

    Parameters
    ----------
    draw
        Called with the axes.
    width, height
        Inches, at 200 pixels each.
    """
    figure = Figure(figsize=(width, height), dpi=200)
    draw(figure.add_axes((0.0, 0.0, 1.0, 1.0)))
    out = io.BytesIO()
    figure.savefig(out, format="png", transparent=True)
    return Drawing(round(200 * width), round(200 * height), picture=_address(out.getvalue(), "png"))


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

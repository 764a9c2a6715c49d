"""Where the spots of a result lie, how large they are, and the tissue image under them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmfg._core.checks import library_names
from stmfg._core.geometry import spacing
from stmfg._keys import SPATIAL
from stmfg.errors import InputError, in_words, require

if TYPE_CHECKING:
    from anndata import AnnData

    Box = tuple[float, float, float, float]

logger = logging.getLogger("stmfg")

_FILL = 0.9  # diameter in spacings where the true one is unknown: a tissue without holes, spots still told apart
_MOSAIC = 3_000  # pixels of the longer side of the images of several slices, joined to one


@dataclass(frozen=True)
class Spots:
    """Spots to be drawn, everything in the units of ``obsm["spatial"]``; y points down."""

    xy: NDArray[np.float64]  # (n, 2)
    diameter: float  # of a spot, or side of a square bin
    square: bool = False  # bins of Visium HD
    image: NDArray[np.uint8] | None = None  # of the tissue, (height, width, 3)
    extent: Box = (0.0, 1.0, 1.0, 0.0)  # left, right, bottom, top of the image
    slices: Mapping[str, Box] = field(default_factory=dict)  # left, top, right, bottom, where several lie side by side
    frame: Box | None = None  # the bounds, where these are a part of the spots

    def filled(self) -> Spots:
        """Return the spots large enough to leave no gaps: for values rather than tissue."""
        return replace(self, diameter=max(self.diameter, _FILL * spacing(self.xy)))

    def part(self, rows: NDArray[np.int64]) -> Spots:
        """Return some of the spots in the same frame, larger so that they cover as much tissue."""
        larger = self.diameter * np.sqrt(len(self.xy) / max(len(rows), 1))
        return replace(self, xy=self.xy[rows], diameter=larger, frame=self.bounds())

    def bounds(self) -> Box:
        """Return left, top, right, bottom of the spots with a margin of 2 % of the larger side and a spot.

        Above several slices there is room for a name.
        """
        if self.frame is not None:
            return self.frame
        low, high = self.xy.min(axis=0), self.xy.max(axis=0)
        side = float((high - low).max())
        margin = self.diameter + 0.02 * side
        above = margin + (0.02 * side if self.slices else 0.0)
        return float(low[0] - margin), float(low[1] - above), float(high[0] + margin), float(high[1] + margin)


def spots(adata: AnnData, *, image: bool = True, library_key: str | None = None) -> Spots:
    """Collect what is needed to draw the spots of `adata`.

    A tissue image in ``uns["spatial"]`` is taken where it is clear which: that of the only library, or those by the
    names of the slices. The slices that `library_key` names are laid out side by side, since their coordinates overlap.
    """
    fix = "store the (x, y) of every spot there, or load with stmfg.read"
    xy = np.asarray(require(adata, "obsm", SPATIAL, fix))[:, :2].astype(np.float64)
    every = list(_libraries(adata).values())
    library: Mapping[str, Any] = every[0] if len(every) == 1 else {}
    factors = _mapping(library, "scalefactors")
    square = "bin_size_um" in factors
    slices: dict[str, Box] = {}
    if library_key is not None:
        names = library_names(adata, library_key)
        if len(np.unique(names)) > 1:
            low = {name: xy[names == name].min(axis=0) for name in np.unique(names)}
            xy, slices = _side_by_side(xy, names)
            libraries = {name: entry for name in slices if (entry := _libraries(adata).get(name))}
            factors = next((_mapping(entry, "scalefactors") for entry in libraries.values()), factors)
    diameter = _factor(factors, "spot_diameter_fullres")
    if not (np.isfinite(diameter) and diameter > 0):
        diameter = _FILL * spacing(xy)
    where = Spots(xy, diameter, square, slices=slices)
    if image and slices and libraries:
        return _with_images(where, {name: (entry, low[name]) for name, entry in libraries.items()})
    for name in ("hires", "lowres") if image and not slices else ():
        if (picture := _image(library, name)) is not None:
            rgb, scale = picture
            height, width = rgb.shape[:2]
            half = 0.5 / scale  # pixel centres lie at whole numbers: the image begins half a pixel before zero
            return replace(where, image=rgb, extent=(-half, width / scale - half, height / scale - half, -half))
    return where


def _image(library: Mapping[str, Any], name: str) -> tuple[NDArray[np.uint8], float] | None:
    """Return a tissue image, and its pixels in a unit of the positions; None where there is none."""
    scale = _factor(_mapping(library, "scalefactors"), f"tissue_{name}_scalef")
    picture = _mapping(library, "images").get(name)
    if picture is None or not 0 < scale < np.inf:
        return None
    try:
        return as_rgb(np.asarray(picture), name), scale
    except InputError as error:
        logger.warning("%s: it is not drawn", error)
        return None


def _with_images(where: Spots, libraries: Mapping[str, tuple[Mapping[str, Any], NDArray[np.float64]]]) -> Spots:
    """Return slices with their tissue images joined to one; `libraries` has for each the corner its positions had."""
    from PIL import Image

    images = {name: _image(entry, "hires") or _image(entry, "lowres") for name, (entry, _) in libraries.items()}
    finest = max((image[1] for image in images.values() if image), default=0.0)
    if finest == 0:
        return where
    left, top, right, bottom = where.bounds()
    scale = min(finest, _MOSAIC / max(right - left, bottom - top))
    canvas = Image.new("RGB", (round((right - left) * scale), round((bottom - top) * scale)), "white")
    margin = where.diameter
    for name, image in images.items():
        if image is None:
            continue
        (rgb, own), corner, box = image, libraries[name][1], where.slices[name]
        size = np.array([box[2] - box[0], box[3] - box[1]]) + 2 * margin
        x, y = (corner - margin) * own + 0.5  # the image begins half a pixel before zero
        width, height = np.maximum(np.rint(size * scale), 1).astype(int).tolist()
        part = Image.fromarray(rgb).transform(
            (width, height), Image.Transform.EXTENT, (x, y, x + size[0] * own, y + size[1] * own),
            resample=Image.Resampling.BILINEAR, fillcolor="white",
        )  # fmt: skip
        canvas.paste(part, (round((box[0] - margin - left) * scale), round((box[1] - margin - top) * scale)))
    height, width = canvas.height / scale, canvas.width / scale
    return replace(where, image=np.asarray(canvas), extent=(left, left + width, top + height, top))


def _libraries(adata: AnnData) -> dict[str, Mapping[str, Any]]:
    """Return the entries of ``uns["spatial"]`` for libraries; some files have flags beside them."""
    entries = adata.uns.get(SPATIAL)
    entries = entries if isinstance(entries, Mapping) else {}
    return {name: entry for name, entry in entries.items() if isinstance(entry, Mapping)}


def _mapping(library: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entries = library.get(name, {})
    if not isinstance(entries, Mapping):
        raise _bad_library(f"{name} in uns['spatial'] is not a mapping of names")
    return entries


def _factor(factors: Mapping[str, Any], name: str) -> float:
    """Return a scale factor, 0 where there is none."""
    try:
        return float(np.asarray(factors.get(name, 0.0)).item())
    except (TypeError, ValueError) as error:
        raise _bad_library(f"{name} in uns['spatial'] is {str(factors[name])[:50]!r}, not a number") from error


def _bad_library(problem: str) -> InputError:
    return InputError(f"{problem}; {in_words('remove it, or draw without: image=False', 'remove it from the file')}")


def as_rgb(picture: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return `picture` as three channels of bytes; transparent parts become white."""
    if picture.dtype.kind not in "biuf":
        raise InputError(f"the {name} tissue image has values of type {picture.dtype}, expected numbers")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim == 3 and picture.shape[0] in (3, 4) and picture.shape[2] not in (1, 3, 4):
        picture = np.moveaxis(picture, 0, 2)  # channels first
    if picture.ndim != 3 or 0 in picture.shape or picture.shape[2] not in (1, 3, 4):
        expected = "expected (height, width) with 1, 3 or 4 channels"
        raise InputError(f"the {name} tissue image has shape {picture.shape}, {expected}")
    if picture.dtype != np.uint8:
        values = np.nan_to_num(picture.astype(np.float32))
        top = max(float(values.max()), 1.0)  # fractions of one, or counts of a camera with more than 8 bits
        picture = np.round(255 * np.clip(values / top, 0.0, 1.0)).astype(np.uint8)
    if picture.shape[2] == 4:
        opaque = picture[:, :, 3:].astype(np.float32) / 255
        picture = np.round(picture[:, :, :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
    return np.asarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _side_by_side(xy: NDArray[np.float64], names: NDArray[np.str_]) -> tuple[NDArray[np.float64], dict[str, Box]]:
    """Move every slice into its own cell of a grid about as wide as high, with room for its name above.

    Returns the new positions, and left, top, right, bottom of the spots of every slice.
    """
    slices, number = np.unique(names, return_inverse=True)
    columns = int(np.ceil(np.sqrt(len(slices))))
    low = np.array([xy[number == i].min(axis=0) for i in range(len(slices))])
    high = np.array([xy[number == i].max(axis=0) for i in range(len(slices))])
    size = (high - low).max(axis=0)
    cell = size * 1.08 + [0.0, 0.06 * size.max()]  # a line for the name
    row, column = np.divmod(np.arange(len(slices)), columns)
    corner = np.column_stack([column, row]) * cell
    boxes = np.hstack([corner, corner + high - low]).tolist()
    return xy - low[number] + corner[number], {str(name): tuple(box) for name, box in zip(slices, boxes, strict=True)}

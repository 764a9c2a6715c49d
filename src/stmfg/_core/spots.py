"""Where the spots of a finished result lie, how large they are, and the tissue image under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stmfg import _keys
from stmfg._core.geometry import spacing
from stmfg.errors import InputError, require

if TYPE_CHECKING:
    from anndata import AnnData

_FILL = 0.9  # diameter in spacings where the true one is unknown: a tissue without holes, spots still told apart
_WITHOUT = "remove it, or draw without: image=False"


@dataclass(frozen=True)
class Spots:
    """Spots to be drawn, everything in the units of ``obsm["spatial"]``.

    Attributes
    ----------
    xy
        Positions (n, 2), y downwards.
    diameter
        Diameter of a spot, or side of a square bin.
    square
        Whether spots are the square bins of Visium HD.
    image
        Tissue image (height, width, 3) of bytes, or None.
    extent
        Left, right, bottom, top edge of the image.
    slices
        Left, top, right, bottom of every slice by its name, where several lie side by side.
    """

    xy: NDArray[np.float64]
    diameter: float
    square: bool = False
    image: NDArray[np.uint8] | None = None
    extent: tuple[float, float, float, float] = (0.0, 1.0, 1.0, 0.0)
    slices: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def filled(self) -> Spots:
        """Return the spots without image, large enough to leave no gaps: for values rather than tissue."""
        return Spots(self.xy, max(self.diameter, _FILL * spacing(self.xy)), self.square, slices=self.slices)

    def bounds(self) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of the spots with a margin of 2 % of the larger side and a spot.

        Above several slices there is room for a name.
        """
        low, high = self.xy.min(axis=0), self.xy.max(axis=0)
        side = float((high - low).max())
        margin = self.diameter + 0.02 * side
        above = margin + (0.02 * side if self.slices else 0.0)
        return float(low[0] - margin), float(low[1] - above), float(high[0] + margin), float(high[1] + margin)


def spots(adata: AnnData, *, image: bool = True, library_key: str | None = None) -> Spots:
    """Collect what is needed to draw the spots of `adata`.

    Parameters
    ----------
    adata
        Annotated data with ``obsm["spatial"]``; of more than two coordinates the first two are drawn.
    image
        Whether to look for a tissue image, in ``uns["spatial"]`` as scanpy stores it. One is taken only where it is
        clear which: with one library and no `library_key`.
    library_key
        Column of ``obs`` naming the slice of each spot; slices are laid out side by side, since their coordinates
        overlap.
    """
    found = require(adata, "obsm", _keys.SPATIAL, "store the (x, y) of every spot there, or load with stmfg.read")
    xy = np.asarray(found)[:, :2].astype(np.float64)
    library = _only_library(adata)
    scale = _part(library, "scalefactors")
    square = "bin_size_um" in scale
    slices: dict[str, tuple[float, float, float, float]] = {}
    if library_key is not None:
        names = np.asarray(require(adata, "obs", library_key, "name the column that tells the slices apart"), dtype=str)
        if len(np.unique(names)) > 1:
            xy = _side_by_side(xy, names)
            slices = _boxes(xy, names)
    diameter = _number(scale, "spot_diameter_fullres")
    if not (np.isfinite(diameter) and diameter > 0):
        diameter = _FILL * spacing(xy)
    if slices:
        return Spots(xy, diameter, square, slices=slices)
    picture, extent = _image(library) if image else (None, None)
    if picture is None or extent is None:
        return Spots(xy, diameter, square)
    return Spots(xy, diameter, square, picture, extent)


def _only_library(adata: AnnData) -> Mapping[str, Any]:
    """Return the entry of ``uns["spatial"]`` if there is exactly one."""
    libraries = adata.uns.get(_keys.SPATIAL, {})
    if not isinstance(libraries, Mapping) or len(libraries) != 1:
        return {}
    only = next(iter(libraries.values()))
    return only if isinstance(only, Mapping) else {}


def _part(library: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the images or scale factors of a library."""
    part = library.get(name, {})
    if not isinstance(part, Mapping):
        raise InputError(f"{name} in uns['spatial'] is not a mapping of names; {_WITHOUT}")
    return part


def _number(factors: Mapping[str, Any], name: str) -> float:
    """Return a scale factor, 0 where there is none."""
    try:
        return float(factors.get(name, 0.0))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name} in uns['spatial'] is {str(factors[name])[:50]!r}, not a number; {_WITHOUT}"
        ) from error


def _image(library: Mapping[str, Any]) -> tuple[NDArray[np.uint8] | None, tuple[float, float, float, float] | None]:
    """Return the best image of `library` and its edges in the units of the coordinates."""
    for name in ("hires", "lowres"):
        picture = _part(library, "images").get(name)
        factor = _number(_part(library, "scalefactors"), f"tissue_{name}_scalef")
        if picture is None or not 0 < factor < np.inf:
            continue
        picture = _as_rgb(np.asarray(picture), name)
        height, width = picture.shape[:2]
        # Pixel centres lie at whole numbers, so that the image begins half a pixel before zero.
        half = 0.5 / factor
        return picture, (-half, width / factor - half, height / factor - half, -half)
    return None, None


def _as_rgb(picture: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Return `picture` as three channels of bytes; transparent parts become white."""
    if picture.dtype.kind not in "biuf":
        raise InputError(f"the {name} tissue image has values of type {picture.dtype}, expected numbers; {_WITHOUT}")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or 0 in picture.shape or picture.shape[2] not in (1, 3, 4):
        raise InputError(
            f"the {name} tissue image has shape {picture.shape}, expected (height, width) with 1, 3 or 4 channels; "
            f"{_WITHOUT}"
        )
    if picture.dtype != np.uint8:
        values = np.nan_to_num(picture.astype(np.float32))
        # Fractions of one, or counts of a camera with more than 8 bits.
        top = (
            1.0 if np.issubdtype(picture.dtype, np.floating) and values.max() <= 1.0 else max(float(values.max()), 1.0)
        )
        picture = np.round(255 * np.clip(values / top, 0.0, 1.0)).astype(np.uint8)
    if picture.shape[2] == 4:
        opaque = picture[:, :, 3:].astype(np.float32) / 255
        picture = np.round(picture[:, :, :3] * opaque + 255 * (1 - opaque)).astype(np.uint8)
    return np.asarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def _side_by_side(xy: NDArray[np.float64], names: NDArray[np.str_]) -> NDArray[np.float64]:
    """Move every slice into its own cell of a grid about as wide as high, with room for its name above."""
    libraries, place = np.unique(names, return_inverse=True)
    columns = int(np.ceil(np.sqrt(len(libraries))))
    low = np.array([xy[place == i].min(axis=0) for i in range(len(libraries))])
    high = np.array([xy[place == i].max(axis=0) for i in range(len(libraries))])
    size = (high - low).max(axis=0)
    cell = size * 1.08 + [0.0, 0.06 * size.max()]  # a line for the name
    row, column = np.divmod(np.arange(len(libraries)), columns)
    return np.asarray(xy - low[place] + np.column_stack([column, row])[place] * cell)


def _boxes(xy: NDArray[np.float64], names: NDArray[np.str_]) -> dict[str, tuple[float, float, float, float]]:
    """Return left, top, right, bottom of the spots of every slice."""
    boxes = {}
    for name in np.unique(names):
        own = xy[names == name]
        (left, top), (right, bottom) = own.min(axis=0).tolist(), own.max(axis=0).tolist()
        boxes[str(name)] = (left, top, right, bottom)
    return boxes

"""The tissue image of a SpatialData store, brought to where the places of its table are.

It is read with zarr alone, from the smallest level that is good enough to look at: a store holds images of gigabytes.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from stmfg._core.spots import as_rgb
from stmfg._keys import SPATIAL, SPATIALDATA
from stmfg.errors import reason
from stmfg.io import guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    """Affine transformation of (x, y, 1), (3, 3)."""

logger = logging.getLogger("stmfg")

_GOOD_ENOUGH: Final = 500
_LARGEST: Final = 2_000
"""Pixels of the longer side."""
_LARGEST_CHUNK: Final = 2**28
_COLOURS: Final = {"r", "g", "b", "a", "red", "green", "blue", "alpha", "0", "1", "2", "3"}
"""Names of channels of a picture in colours; those of stains are others."""


@dataclass(frozen=True)
class _Level:
    """One resolution of an image: its pixels (channels, height, width) on disk, and where they go in each system."""

    folder: Path
    pixels: Any
    onto: dict[str, Matrix]

    @property
    def side(self) -> int:
        return int(max(self.pixels.shape[1:]))


def add_images(
    adata: AnnData, store: Path, shown: Path, systems: dict[str, str], fetch: Callable[[Path], None] | None = None
) -> None:
    """Give a table of a store the image of the tissue, as ``uns["spatial"]`` of a Visium slide has it, if there is one.

    A table of several elements gets that of each, or the one under all of them. `systems` are the coordinate systems of
    the places of elements, where these are not in the element's own frame; `fetch` unpacks an array.
    """
    libraries = adata.uns.get(SPATIAL)
    present = libraries.values() if isinstance(libraries, dict) else ()
    if any(isinstance(each, dict) and each.get("images") for each in present):
        return
    try:
        attrs = adata.uns[SPATIALDATA]
        regions = [str(each) for each in np.ravel(attrs["region"])]
        levels = [level for folder in _elements(store, "images") for level in _levels(folder)]
        xy = np.asarray(adata.obsm[SPATIAL], dtype=np.float64)[:, :2]
        known = np.isfinite(xy).all(axis=1)
        of_region = np.asarray(adata.obs[attrs["region_key"]]).astype(str) if len(regions) > 1 else None
        placed = {}
        for region in regions if levels else ():
            rows = known if of_region is None else known & (of_region == region)
            if rows.any():
                placed[region] = (_find_image(store, region, xy[rows], systems.get(region), levels), xy[rows])
        one, *others = {region: image for region, (image, _) in placed.items()}.values() or [None]
        if others and one is not None and all(image is not None and image.equals(one) for image in others):
            placed = {next(iter(placed)): (one, xy[known])}
        libraries = {region: _library(image, places, fetch) for region, (image, places) in placed.items() if image}
    except (KeyError, TypeError, ValueError, IndexError, OSError, ImportError) as error:
        logger.warning("%s: its image is left out (%s)", shown, reason(error))
        return
    if libraries:
        adata.uns[SPATIAL] = libraries
    elif levels:
        logger.info("%s: no image in colours lies under the places of the table", shown)


@dataclass(frozen=True)
class _Image:
    """An image under an element, and what brings places of that onto its pixels."""

    level: _Level
    onto: Matrix
    element: Path | None

    def equals(self, other: _Image) -> bool:
        return self.level is other.level and np.allclose(self.onto, other.onto)


def _find_image(
    store: Path, region: str, xy: NDArray[np.float64], system: str | None, levels: list[_Level]
) -> _Image | None:
    element, frame = (None, {system: np.eye(3)}) if system else _frame(store, region, xy)
    fitting = [
        _Image(level, onto, element)
        for level in levels
        for name, to_system in frame.items()
        if name in level.onto and _lies_on(xy, onto := np.linalg.inv(level.onto[name]) @ to_system, level)
    ]

    # The smallest that is large enough, else the largest.
    def size(image: _Image) -> tuple[bool, int]:
        return image.level.side < _GOOD_ENOUGH, abs(image.level.side - _GOOD_ENOUGH)

    return min(fitting, key=size, default=None)


def _library(image: _Image, xy: NDArray[np.float64], fetch: Callable[[Path], None] | None) -> dict[str, Any]:
    if fetch is not None:
        fetch(image.level.folder)
    picture, scale = _read(image.level, image.onto, xy)
    factors = {"tissue_hires_scalef": scale} | _diameter(image.element)
    return {"images": {"hires": picture}, "scalefactors": factors, "metadata": {}}


def _elements(store: Path, kind: str) -> list[Path]:
    return sorted(p for p in (store / kind).iterdir() if p.is_dir()) if (store / kind).is_dir() else []


def _levels(folder: Path) -> Iterator[_Level]:
    import zarr

    guard.zarr_store(folder)
    group = zarr.open_group(folder, mode="r")
    attributes: Any = dict(group.attrs)
    attributes = attributes.get("ome", attributes)
    image = attributes["multiscales"][0]
    channels = attributes.get("omero", {}).get("channels", [])
    if [axis["name"] for axis in image["axes"]] != ["c", "y", "x"]:
        return
    if not {str(each.get("label", "0")).lower() for each in channels} <= _COLOURS:
        return
    full = None
    for dataset in image["datasets"]:
        pixels: Any = group[dataset["path"]]
        full = full or pixels.shape
        if pixels.shape[0] in (3, 4):
            step = np.diag([full[2] / pixels.shape[2], full[1] / pixels.shape[1], 1.0])
            onto = {name: matrix @ step for name, matrix in _systems(image).items()}
            yield _Level(folder / dataset["path"], pixels, onto)


def _systems(attributes: Any) -> dict[str, Matrix]:
    """Return what brings an element into each coordinate system; those of which not all is understood are left out."""
    matrices = {each["output"]["name"]: _matrix(each) for each in attributes["coordinateTransformations"]}
    return {name: matrix for name, matrix in matrices.items() if matrix is not None and abs(np.linalg.det(matrix)) > 0}


def _matrix(step: Any) -> Matrix | None:
    """Return a transformation as a matrix for (x, y, 1)."""
    kind, matrix = step["type"], np.eye(3)
    if kind == "sequence":
        for part in step["transformations"]:
            next_one = _matrix(part)
            if next_one is None:
                return None
            matrix = next_one @ matrix
        return matrix
    if kind == "identity":
        return matrix
    source = [axis["name"] for axis in step["input"]["axes"]]
    target = [axis["name"] for axis in step["output"]["axes"]]
    for row, to in enumerate("xy"):
        if kind in ("scale", "translation"):
            matrix[row, row if kind == "scale" else 2] = step[kind][source.index(to)]
        elif kind == "affine":
            values = step["affine"][target.index(to)]
            matrix[row] = [values[source.index("x")], values[source.index("y")], values[-1]]
        else:
            return None
    return matrix


def _frame(store: Path, region: str, xy: NDArray[np.float64]) -> tuple[Path | None, dict[str, Matrix]]:
    """Return the element in whose own frame the places are, and what brings it into each system.

    Of some instruments the table annotates labels in pixels, and its places are in micrometres, as outlines are.
    """
    import zarr

    low, high = xy.min(axis=0), xy.max(axis=0)
    best = 0.0
    frame: tuple[Path | None, dict[str, Matrix]] = None, {}
    for folder in sorted([*_elements(store, "shapes"), *_elements(store, "labels")], key=lambda f: f.name != region):
        guard.zarr_store(folder)
        is_image = folder.parent.name == "labels"
        attributes: Any = dict(zarr.open_group(folder, mode="r").attrs)
        attributes = attributes.get("ome", attributes)["multiscales"][0] if is_image else attributes
        extent = _extent(folder, attributes)
        if extent is None:
            continue
        size = np.maximum(extent[1] - extent[0], 1e-9)
        inside = (low > extent[0] - 0.05 * size).all() and (high < extent[1] + 0.05 * size).all()
        shared = float(((high - low) / size).min())  # less where the table has a part of the elements
        if inside and shared > max(best, 0.5 if folder.name == region and not is_image else 0.9):
            best, frame = shared, (folder, _systems(attributes))
    return frame


def _extent(folder: Path, attributes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the corners of all shapes or labels of an element in its own frame; None where they are not known."""
    import zarr

    if (folder / "shapes.parquet").is_file():
        from pyarrow import parquet

        about = json.loads(parquet.read_schema(folder / "shapes.parquet").metadata.get(b"geo", b"{}"))
        box = about.get("columns", {}).get(about.get("primary_column"), {}).get("bbox")
        return None if box is None else (np.array(box[:2]), np.array(box[len(box) // 2 :][:2]))
    if folder.parent.name != "labels":
        return None
    paths = [each["path"] for each in attributes["datasets"]]
    group: Any = zarr.open_group(folder, mode="r")
    full, small = group[paths[0]], group[paths[-1]]
    if small.ndim != 2 or np.prod(small.chunks) * small.dtype.itemsize > _LARGEST_CHUNK:
        return None
    rows, columns = np.nonzero(small[_thin(small.shape)])
    if not len(rows):
        return None
    each = np.array([full.shape[1], full.shape[0]]) / [small.shape[1], small.shape[0]] * _step(small.shape)
    return each * [columns.min(), rows.min()], each * [columns.max() + 1, rows.max() + 1]


def _step(shape: tuple[int, ...]) -> int:
    return max(1, -(-max(shape) // _LARGEST))


def _thin(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(None, None, _step(shape)) for _ in shape)


def _lies_on(xy: NDArray[np.float64], onto: Matrix, level: _Level) -> bool:
    places = xy @ onto[:2, :2].T + onto[:2, 2]
    on = (places > 0) & (places < level.pixels.shape[:0:-1])
    return bool(on.all(axis=1).mean() > 0.9)


def _read(level: _Level, onto: Matrix, xy: NDArray[np.float64]) -> tuple[NDArray[np.uint8], float]:
    """Return an image in the frame of the places, (height, width, 3), and its pixels for a unit of them."""
    if np.prod(level.pixels.chunks) * level.pixels.dtype.itemsize > _LARGEST_CHUNK:
        raise ValueError("it is in one piece and too large")
    _, rows, columns = _thin(level.pixels.shape[1:] * 2)[:3]
    picture = as_rgb(np.moveaxis(np.asarray(level.pixels[:, rows, columns]), 0, 2), "stored")
    thin = np.diag([1 / rows.step, 1 / columns.step, 1.0])
    onto = thin @ onto
    scale = float(np.sqrt(abs(np.linalg.det(onto))))
    plain = np.allclose(onto[:2, :2], scale * np.eye(2), rtol=0, atol=1e-3 * scale)
    if plain and (np.abs(onto[:2, 2]) < 1.5).all():
        return picture, scale
    # Turned, stretched or moved: drawn anew from (0, 0) on, which is where other tools take an image to begin.
    if (xy < 0).any():
        raise ValueError("places are negative, and it does not begin where they do")
    from PIL import Image

    end = xy.max(axis=0) * 1.03
    scale = min(scale, _LARGEST / float(end.max()))
    # Centres of pixels are at whole numbers in the frame, and half a pixel further in images.
    back = np.array([[1 / scale, 0, -0.5 / scale], [0, 1 / scale, -0.5 / scale], [0, 0, 1]])
    width, height = np.ceil(end * scale).astype(int).tolist()
    drawn = Image.fromarray(picture).transform(
        (width, height), Image.Transform.AFFINE, (onto @ back)[:2].ravel(), Image.Resampling.BILINEAR, fillcolor="white"
    )
    return np.asarray(drawn), scale


def _diameter(element: Path | None) -> dict[str, float]:
    from pyarrow import parquet

    file = None if element is None else element / "shapes.parquet"
    if file is None or not file.is_file() or "radius" not in parquet.read_schema(file).names:
        return {}
    return {"spot_diameter_fullres": 2 * float(np.median(parquet.read_table(file, columns=["radius"])["radius"]))}

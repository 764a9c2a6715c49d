"""Colour and texture of a stained tissue image around each spot. Arrays only, nothing to download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

NAMES = tuple(
    f"{stain} {what}"
    for stain in ("haematoxylin", "eosin", "residual")
    for what in ("mean", "deviation", "fine texture", "coarse texture")
)
"""Columns of :func:`patch_features`."""
# Optical density of haematoxylin and eosin in red, green and blue (Ruifrok and Johnston 2001, table 1).
_HAEMATOXYLIN, _EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
_FINE, _COARSE = 1.0, 4.0  # pixels


def patch_features(image: NDArray[np.uint8], xy: NDArray[np.float64], width: float) -> NDArray[np.float32]:
    """Describe the square of an image (height, width, 3) of bytes around each position by its stains.

    The stains are separated by colour deconvolution (Ruifrok and Johnston 2001); of each, the mean and the standard
    deviation in the square, and the mean gradient at two scales, are taken. Positions (n, 2) and width of the square in
    pixels, column before row; positions outside take the nearest part of the image. Columns as in ``NAMES``, (n, 12).
    """
    from scipy import ndimage  # only images need it

    side = max(3, round(width))
    rows, columns = np.round(xy[:, ::-1].T).astype(np.int64)
    rows, columns = rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)

    def around(values: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(ndimage.uniform_filter(values, side, mode="nearest")[rows, columns])

    features: list[NDArray[Any]] = []
    for stain in _stains(image):
        mean = around(stain)
        deviation = np.sqrt(np.maximum(around((stain - stain.mean()) ** 2) - (mean - stain.mean()) ** 2, 0))
        textures = [around(ndimage.gaussian_gradient_magnitude(stain, sigma)) for sigma in (_FINE, _COARSE)]
        features += [mean, deviation, *textures]
    return np.column_stack(features).astype(np.float32)


def _stains(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Amount of haematoxylin, eosin and the rest in every pixel, (3, height, width)."""
    stains = np.array([_HAEMATOXYLIN, _EOSIN, np.cross(_HAEMATOXYLIN, _EOSIN)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    density = -np.log10((image.astype(np.float32) + 1) / 256)
    return np.moveaxis(density @ np.linalg.inv(stains).astype(np.float32), -1, 0)

"""Stains and texture of images whose colours are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stmfg.model import image as _image

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def stained(haematoxylin: NDArray[np.float64], eosin: float = 0.3) -> NDArray[np.uint8]:
    """Image of so much of each stain, as optical density."""
    h, e = HAEMATOXYLIN / np.linalg.norm(HAEMATOXYLIN), EOSIN / np.linalg.norm(EOSIN)
    density = haematoxylin[..., None] * h + eosin * e
    return np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8)


def features(image: NDArray[np.uint8], xy: list[list[float]], width: float = 9) -> list[dict[str, float]]:
    found = _image.patch_features(image, np.array(xy, dtype=float), width)
    assert found.dtype == np.float32
    return [dict(zip(_image.NAMES, map(float, row), strict=True)) for row in found]


def test_stains_are_told_apart() -> None:
    for h, e in ((0.1, 0.5), (0.6, 0.2)):
        (row,) = features(stained(np.full((40, 50), h), e), [[25, 20]])
        assert row["haematoxylin mean"] == pytest.approx(h, abs=0.01)
        assert row["eosin mean"] == pytest.approx(e, abs=0.01)
        for name in _image.NAMES:
            if "mean" not in name:
                assert row[name] == pytest.approx(0, abs=1e-3), name


def test_column_comes_first_in_a_position() -> None:
    image = stained(np.where(np.arange(60)[None, :] < 30, 0.1, 0.6) * np.ones((20, 1)))
    left, right = features(image, [[10, 10], [50, 10]])
    assert left["haematoxylin mean"] < 0.2 < 0.5 < right["haematoxylin mean"]


def test_texture_is_seen_where_it_is() -> None:
    rng = np.random.default_rng(0)
    amount = np.full((60, 120), 0.4)
    amount[:, 60:] += 0.1 * rng.standard_normal((60, 60))
    smooth, rough = features(stained(amount), [[20, 30], [90, 30]], 21)
    assert rough["haematoxylin deviation"] == pytest.approx(0.1, rel=0.1)
    assert rough["haematoxylin fine texture"] > 10 * smooth["haematoxylin fine texture"]
    assert smooth["haematoxylin mean"] == pytest.approx(rough["haematoxylin mean"], abs=0.02)


def test_positions_outside_take_the_nearest_part() -> None:
    image = stained(np.linspace(0.1, 0.6, 50)[None, :] * np.ones((30, 1)))
    inside, outside = features(image, [[49, 15], [500, 15]])
    assert inside == outside

"""Hyperparameters: presets, changes, and what is refused. What a default is, is not tested."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from stmfg import Config
from stmfg.config import PRESETS


def test_presets() -> None:
    assert set(PRESETS) == {"default", "paper"}
    assert Config.preset("default") == Config()
    paper = Config.preset("paper")
    assert paper != Config()
    # What makes it the paper's method (paper.md), whatever the default becomes.
    assert (paper.convolution, paper.averages, paper.scales) == ("relu", False, "embedding")
    assert (paper.fusion, paper.views) == ("layer", ("spatial", "feature"))
    assert min(paper.reconstruction_weight, paper.contrastive_weight, paper.spatial_weight) > 0


@pytest.mark.parametrize("preset", PRESETS)
def test_replace_changes_a_copy(preset: str) -> None:
    config = Config.preset(preset)
    before = config.to_dict()
    changed = config.replace(epochs=7, n_layers=5, clusterer="leiden")
    assert (changed.epochs, changed.n_layers, changed.clusterer) == (7, 5, "leiden")
    assert config.to_dict() == before
    expected = before | {"epochs": 7, "n_layers": 5, "clusterer": "leiden"}
    assert changed.to_dict() == expected


def test_unknown_names_are_refused(refused: Callable[..., str]) -> None:
    assert refused(Config.preset, "papre") == "preset 'papre' is unknown; choose from default, paper"
    assert refused(Config().replace, epochs=3, epoch=4) == "unknown option 'epoch'; did you mean 'epochs'?"


@pytest.mark.parametrize("name", ["features", "convolution", "fusion", "embedding", "clusterer", "scales"])
def test_choices_are_checked(name: str, refused: Callable[..., str]) -> None:
    said = refused(Config().replace, **{name: "nonsense"})
    assert said.startswith(f"{name} is 'nonsense'; it must be one of ")
    assert repr(getattr(Config(), name)) in said


NUMBERS = [
    field.name
    for field in dataclasses.fields(Config)
    if isinstance(field.default, (int, float)) and not isinstance(field.default, bool)
]


@pytest.mark.parametrize("value", [-1, float("nan"), "3", None], ids=str)
def test_numbers_are_numbers_and_not_negative(value: Any, refused: Callable[..., str]) -> None:
    for name in NUMBERS:
        said = refused(Config().replace, **{name: value})
        assert name in said
        assert str(value) in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("epochs", 2.5), ("log1p", "no"), ("averages", 1), ("n_layers", 0), ("n_layers", (8, 4)), ("batch_size", 1)),
        *(("views", views) for views in ((), "spatial", ("spatial", "image"), ("spatial", "spatial"))),
        *((name, 0) for name in ("decoder_width", "feature_neighbors", "max_factors", "n_starts", "n_votes")),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, refused: Callable[..., str]) -> None:
    assert name in refused(Config().replace, **{name: value})


def test_without_neighbors_and_radius_there_is_no_graph(refused: Callable[..., str]) -> None:
    assert "spatial_neighbors" in refused(Config().replace, spatial_neighbors=0, spatial_radius=0.0)
    assert Config().replace(spatial_neighbors=0, spatial_radius=1.5).spatial_radius == 1.5


def test_lists_become_tuples() -> None:
    config = Config(views=["feature", "spatial"])  # type: ignore[arg-type]
    assert config.views == ("feature", "spatial")
    assert hash(config) == hash(Config(views=("feature", "spatial")))


@pytest.mark.parametrize("preset", PRESETS)
def test_json_round_trip(preset: str) -> None:
    config = Config.preset(preset).replace(views=("spatial", "image=X"), epochs=11)
    assert Config(**json.loads(json.dumps(config.to_dict()))) == config

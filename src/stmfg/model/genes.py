"""Bring the genes of a new slice together with those of a model, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stmfg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stmfg._core.blocks import Counts
    from stmfg.model.features import FeatureMap

AT_LEAST = 0.5
"""Share of the model's genes without which a slice is refused."""


def columns(known: list[str], given: Sequence[object]) -> NDArray[np.int64]:
    """Where each known gene is among those given, (n_known,), -1 where it is not; the first where a name repeats."""
    names = [str(name) for name in given]
    if names == known:  # also with names that repeat
        return np.arange(len(known))
    place: dict[str, int] = {}
    for i, name in enumerate(names):
        place.setdefault(name, i)
    return np.array([place.get(name, -1) for name in known], dtype=np.int64)


def share(given: Sequence[object], known: list[str], feature_map: FeatureMap) -> float:
    """Share of the genes the map uses that are among those given."""
    return float((columns(known, given)[feature_map.genes] >= 0).mean())


def matched(
    counts: Counts, given: Sequence[object], known: list[str], feature_map: FeatureMap
) -> tuple[Counts, FeatureMap]:
    """Return the counts (n, genes) of the genes that the model knows, and the map for them.

    The others are left out so that the depth of a spot means the same as where the map was fitted.

    Raises
    ------
    InputError
        If fewer than half of the genes the map uses are there, or any is missing that the network reads itself.
    """
    place = columns(known, given)
    used = place[feature_map.genes]
    n_shared = int((used >= 0).sum())
    needed = AT_LEAST * len(used) if feature_map.loadings.size else len(used)
    if n_shared < needed:
        example = f"the model knows {', '.join(known[:3])}, the data {', '.join(map(str, given[:3]))}"
        raise InputError(
            f"the data have {n_shared} of the {len(used)} genes the model uses, {int(np.ceil(needed))} are needed; "
            f"give data of the same species, with the same kind of gene names ({example})"
        )
    if len(place) == len(given) and (place == np.arange(len(place))).all():
        return counts, feature_map
    kept = np.unique(place[place >= 0])
    return counts.only(kept), feature_map.restricted(np.where(place >= 0, np.searchsorted(kept, place), -1))

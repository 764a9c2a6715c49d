"""Domains of equal size are numbered by their places, not by the order in which a clustering gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import stmfg


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_equal_domains_have_the_same_numbers(order: tuple[int, ...], section: AnnData, quick: dict[str, Any]) -> None:
    def thirds(x: Any, k: int, *, random_state: int) -> Any:
        return np.array(order)[np.argsort(np.argsort(x[:, 0], kind="stable")) * k // len(x)]

    stmfg.tl.domains(section, n_domains=3, clusterer=thirds, refine=0, averages=False, **quick)
    sizes = section.obs["stmfg_domain"].value_counts()
    assert sizes.to_list() == [100, 100, 100]
    place = np.lexsort(section.obsm["spatial"].T)
    first = [np.flatnonzero((section.obs["stmfg_domain"] == str(i + 1)).to_numpy()[place])[0] for i in range(3)]
    assert first == sorted(first)

"""What the tests of readers share: a tissue to write the folders of instruments from."""

from __future__ import annotations

from pathlib import Path

import pytest
from anndata import AnnData

from _data import write_space_ranger
from stmfg import datasets


@pytest.fixture(scope="session")
def _cells() -> AnnData:
    return datasets.simulate(110, 30, n_domains=3, layout="cells", random_state=4)


@pytest.fixture
def tissue(_cells: AnnData) -> AnnData:
    return _cells.copy()


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    """A Space Ranger 1 folder: HDF5 matrix of all spots, positions without header, no images."""
    return write_space_ranger(tmp_path / "sample" / "outs", version=1)

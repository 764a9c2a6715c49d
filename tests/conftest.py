"""What several test files share: a small section, options for a quick run, and two checks."""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read once, when torch loads: threads that spin while they wait slow down those that work, where cores are shared.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# A background job ignores Ctrl-C, and so would every process that the tests of interrupts start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
import torch
from anndata import AnnData

import _browser
from _runs import go, one_thread, tissue
from stmfg import datasets, tl
from stmfg.errors import InputError


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Put the level of the log back, which a command sets for its process."""
    logger = logging.getLogger("stmfg")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def _simulated() -> AnnData:
    return datasets.simulate(300, 80, n_domains=4, difficulty=0.3, random_state=1)


@pytest.fixture
def section(_simulated: AnnData) -> AnnData:
    """Return a section of 300 spots, 80 genes and 4 clear domains; each test has its own."""
    return _simulated.copy()


QUICK = {"epochs": 3, "n_layers": 2, "redraws": 2}


@pytest.fixture
def quick() -> dict[str, Any]:
    """Return options of a run that takes a fraction of a second."""
    return dict(QUICK)


@pytest.fixture(scope="session")
def _solved(_simulated: AnnData) -> AnnData:
    return tl.domains(_simulated, 4, random_state=7, copy=True, **QUICK)


@pytest.fixture
def solved(_solved: AnnData) -> AnnData:
    """Return the section with four domains, found with the quick options and seed 7."""
    return _solved.copy()


@pytest.fixture
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One run from a file: its folder and its record. The input lies beside, as input.h5ad."""
    folder = tmp_path_factory.mktemp("finished")
    adata = tissue()
    adata.obs["note"] = "kept"
    adata.layers["other"] = adata.X * 2
    adata.write_h5ad(folder / "input.h5ad")
    with one_thread():
        return folder / "out", go(folder / "input.h5ad", folder / "out")


@pytest.fixture
def refused() -> Callable[..., str]:
    """Return a function that makes a call and returns the one line with which it is refused."""

    def call_refused(call: Callable[..., Any], *args: Any, kind: type[Exception] = InputError, **kwargs: Any) -> str:
        with pytest.raises(kind) as caught:
            call(*args, **kwargs)
        said = str(caught.value)
        assert said
        assert "\n" not in said
        return said

    return call_refused


@pytest.fixture
def global_generators() -> Callable[[], tuple[Any, ...]]:
    """Return a function that tells the state of every global random generator."""
    # One draw each: seeding anew would then show, whatever the seed.
    random.random()  # noqa: S311
    np.random.random()  # noqa: NPY002
    torch.rand(1)

    def state() -> tuple[Any, ...]:
        _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
        return random.getstate(), keys.tobytes(), position, torch.get_rng_state().numpy().tobytes()

    return state


@pytest.fixture(scope="session")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = _browser.start(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture
def browser(_started: Any) -> Iterator[Any]:
    """Return a browser without a window; the test is skipped where there is none."""
    yield _started
    _started.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    _started.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    _started.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

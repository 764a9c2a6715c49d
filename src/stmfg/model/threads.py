"""One thread for what is learnt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that a result does not depend on the number of cores.

    Threads add numbers in another order, and hundreds of steps of training turn that rounding into other domains: on a
    Visium slice a third of the spots got another number. Nor do threads pay: there, two took six times the CPU seconds
    for the features and as long on the clock.
    """
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

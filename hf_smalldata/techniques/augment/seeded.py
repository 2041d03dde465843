"""Libraries that draw from the global generators of `random` and `numpy`, made to draw from a row's own."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_ONE_AT_A_TIME = threading.RLock()  # the generators are shared by all threads


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Inside, `random` and `numpy.random` draw what `rng` decides; behind it they go on as if nothing had been drawn.

    Threads wait for each other. One that draws from the global generators outside of this scope is not held up.
    """
    with _ONE_AT_A_TIME:
        before, numpy_before = random.getstate(), np.random.get_state()
        random.seed(int(rng.integers(2**63)))
        np.random.seed(int(rng.integers(2**32)))
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)

"""As many threads as there are cores to run them on."""

from __future__ import annotations

import os

import torch
from joblib import cpu_count


def use_cores() -> None:
    """Give torch the cores that this process may use, as its affinity and its container's quota say.

    Left alone, torch takes all cores of the host: in a container of two of its 64 it would run 64 threads by turns.
    OMP_NUM_THREADS, where it is set, is the user's word.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))

"""What methods beside the model share: what no seed changes is computed once for all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_smalldata.technique import Context

Array = np.ndarray[Any, Any]


def once_for(rows: Dataset, ctx: Context, settings: object, make: Callable[[], Array]) -> Array:
    """An array that depends on rows and settings alone, made once for all seeds of a Run and all Runs of a study.

    Args:
        rows: of which all columns count.
        ctx: of a `baseline` hook.
        settings: all else that the array depends on; its text is what counts.
        make: called in one process, and not at all where the array is there.
    """

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, make())

    key = hashlib.sha256(f"{settings!r} {rows[:]!r}".encode()).hexdigest()
    found: Array = np.load(ctx.once(f"{key}.npy", write))
    return found

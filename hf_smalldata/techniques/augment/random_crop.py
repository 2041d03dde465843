"""Random crop: a random window of each training clip or sequence, another one in every epoch.

Helps when the label holds for any part (a bird's song, rain, a speaker's voice; the species of a genome): few
recordings give many clips, shorter ones, which train faster. Hurts when the label is one event, such as a spoken word
or a motif, which a crop may miss.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from hf_smalldata.technique import Technique

Row = TypeVar("Row", np.ndarray[Any, Any], str)


def crop(row: Row, count: int, rng: np.random.Generator) -> Row:
    """A window of `count` samples or letters, every start alike likely; what is not longer comes back whole."""
    if len(row) <= count:
        return row
    start = rng.integers(0, len(row) - count + 1)
    return row[start : start + count]


class RandomCrop(Technique):
    """Crop training rows; rows that are predicted are read whole, or from their start as `model.seconds` says."""

    name = "random_crop"
    tasks = frozenset({"audio-classification", "sequence-classification"})
    paper = "https://arxiv.org/abs/1608.04363"

    seconds: PositiveFloat = 1.0  # of the window of a sound; shorter clips stay whole
    letters: PositiveInt = 100  # of the window of a sequence

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its sequence, or its decoded sound, cropped."""
        if "sequence" in example:
            return {**example, "sequence": crop(example["sequence"], self.letters, example["rng"])}
        sound = example["audio"]
        count = max(round(self.seconds * sound["sampling_rate"]), 1)
        return {**example, "audio": {**sound, "array": crop(sound["array"], count, example["rng"])}}

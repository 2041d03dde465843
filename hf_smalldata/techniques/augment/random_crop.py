"""Random crop: a random window of each training clip, another one in every epoch.

Helps when the label holds for any part of a clip (a bird's song, rain, a speaker's voice): few recordings give many
clips, shorter ones, which train faster. Hurts when the label is one event of the clip, such as a spoken word, which a
crop may miss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import PositiveFloat

from hf_smalldata.technique import Technique


def crop(samples: np.ndarray[Any, Any], count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """A window of `count` samples, every start alike likely; what is not longer comes back whole. (samples,)."""
    if len(samples) <= count:
        return samples
    start = rng.integers(0, len(samples) - count + 1)
    return samples[start : start + count]


class RandomCrop(Technique):
    """Crop training clips; rows that are predicted are read from their start, as `model.seconds` says."""

    name = "random_crop"
    tasks = frozenset({"audio-classification"})
    paper = "https://arxiv.org/abs/1608.04363"

    seconds: PositiveFloat = 1.0  # of the window; shorter clips stay whole

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded sound cropped."""
        sound = example["audio"]
        count = max(round(self.seconds * sound["sampling_rate"]), 1)
        return {**example, "audio": {**sound, "array": crop(sound["array"], count, example["rng"])}}

"""TrivialAugment: one random operation of random magnitude on each training image, anew in each epoch.

Helps with photos when a network is trained whole, with nothing to tune. Hurts with scans, documents and digits, whose
labels colours, turns and inversions may change: see `image_preset`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_policies import trivial_augment
from hf_smalldata.technique import Technique


class TrivialAugment(Technique):
    """Draw one operation out of fourteen on wide ranges, and its magnitude."""

    name = "trivial_augment"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/2103.10158"

    strength: float = Field(default=1.0, ge=0, le=1)  # the largest magnitude; 1 is the paper's wide space

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        return {**example, "image": trivial_augment(example["image"], example["rng"], self.strength)}

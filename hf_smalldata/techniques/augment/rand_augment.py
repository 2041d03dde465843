"""RandAugment: a few random operations on each training image, all of one magnitude, anew in each epoch.

Helps with photos when a network is trained whole: one number stands for all augmentation. Hurts with scans, documents
and digits, whose labels colours, turns and inversions may change: see `image_preset`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_policies import rand_augment
from hf_smalldata.technique import Technique


class RandAugment(Technique):
    """Draw operations with equal chances out of fourteen, the identity among them."""

    name = "rand_augment"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1909.13719"

    operations: int = Field(default=2, ge=1, le=14)  # the paper's N
    magnitude: float = Field(default=0.3, ge=0, le=1)  # the paper's M / 30; 0 leaves images as they are

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = rand_augment(example["image"], example["rng"], self.operations, self.magnitude)
        return {**example, "image": image}

"""Blur: training images get out of focus or smeared by motion, anew in each epoch.

Helps when images to come are taken by hand, by a moving robot or through cheap lenses, and the training images are
sharp. Does little when all are equally sharp, and hurts when fine texture is the label.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_pixels import gaussian_blur, motion_blur
from hf_smalldata.technique import Technique


class Blur(Technique):
    """Blur some images, each in one of the ways that have a strength."""

    name = "blur"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1604.04004"

    probability: float = Field(default=0.5, ge=0, le=1)
    gaussian: float = Field(default=0.01, ge=0, le=0.2)  # largest standard deviation, a share of the shorter side
    motion: float = Field(default=0.05, ge=0, le=0.5)  # longest streak, a share of the shorter side

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image, rng = example["image"], example["rng"]
        ways = [way for way in ((gaussian_blur, self.gaussian), (motion_blur, self.motion)) if way[1] > 0]
        if not ways or rng.random() >= self.probability:
            return example
        change, strength = ways[rng.integers(len(ways))]
        return {**example, "image": change(image, rng, strength)}

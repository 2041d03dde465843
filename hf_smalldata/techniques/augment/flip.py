"""Flip: training images are mirrored, anew in each epoch.

Helps where left and right mean nothing, as in most photos; seen from above (cells, satellites) up and down mean nothing
either. Hurts with text, digits, road signs and X-rays, whose mirror image is another thing or nothing at all.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_geometry import flip
from hf_smalldata.technique import Technique


class Flip(Technique):
    """Mirror images, each way with its probability."""

    name = "flip"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://doi.org/10.1145/3065386"

    horizontal: float = Field(default=0.5, ge=0, le=1)  # probability of left to right
    vertical: float = Field(default=0.0, ge=0, le=1)  # probability of upside down

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = flip(example["image"], example["rng"], self.horizontal, self.vertical)
        return {**example, "image": image}

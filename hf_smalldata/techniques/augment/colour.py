"""Colour: brightness, contrast, saturation and hue of training images change a little, anew in each epoch.

Helps where light and cameras differ between the training images and those to come. Hurts where colour is the label
(ripeness, stains, skin), so lower them there; of scans brightness and contrast alone mean something.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_pixels import colour
from hf_smalldata.technique import Technique


class Colour(Technique):
    """Change the light of an image; grey images stay grey."""

    name = "colour"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1312.5402"

    brightness: float = Field(default=0.2, ge=0, le=1)  # a factor of 1 ± this
    contrast: float = Field(default=0.2, ge=0, le=1)  # a factor of 1 ± this
    saturation: float = Field(default=0.2, ge=0, le=1)  # a factor of 1 ± this
    hue: float = Field(default=0.02, ge=0, le=0.5)  # ± a share of the colour circle

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        amounts = (self.brightness, self.contrast, self.saturation, self.hue)
        return {**example, "image": colour(example["image"], example["rng"], *amounts)}

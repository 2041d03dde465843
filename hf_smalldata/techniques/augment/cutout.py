"""Cutout: patches of training images are hidden (random erasing, occlusion), anew in each epoch.

Helps when things to come are partly behind others, and when a network trained whole looks at one part of a thing alone.
Hurts when the label hangs on a small detail, which a patch may hide.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_pixels import Fill, cutout
from hf_smalldata.technique import Technique


class Cutout(Technique):
    """Hide patches about random places; they may stick out of the image, as the paper found to matter."""

    name = "cutout"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1708.04552"

    patches: int = Field(default=1, ge=0, le=64)  # how many
    size: float = Field(default=0.4, ge=0, le=1)  # of a patch's sides, a share of the image's
    fill: Fill = "mean"  # the image's mean colour, or noise as in random erasing, https://arxiv.org/abs/1708.04896

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = cutout(example["image"], example["rng"], self.patches, self.size, self.fill)
        return {**example, "image": image}

"""Elastic: training images are bent smoothly, as tissue and handwriting are, anew in each epoch.

Helps with cells, organs and handwriting, whose forms vary in just this way. Hurts where straight lines are the thing
(buildings, machines, print) and does little for photos.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_geometry import elastic
from hf_smalldata.technique import Technique


class Elastic(Technique):
    """Bend images by a coarse grid of random shifts.

    The grid is that of U-Net; it has one strength where a field of smoothed noise has two that act on each other.
    """

    name = "elastic"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1505.04597"

    shift: float = Field(default=0.02, ge=0, le=0.2)  # of a knot: standard deviation, a share of the shorter side
    knots: int = Field(default=4, ge=2, le=32)  # of the grid a side: more bend it at a smaller scale

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = elastic(example["image"], example["rng"], self.shift, self.knots)
        return {**example, "image": image}

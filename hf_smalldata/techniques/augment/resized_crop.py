"""Resized crop: a random part of each training image is enlarged to the size of the whole, anew in each epoch.

Helps with photos, where things are of any size and parts of them tell the class: the most useful change of ImageNet
training. Hurts when the label hangs on a small detail that a crop may miss, or on size itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_geometry import resized_crop
from hf_smalldata.technique import Technique


class ResizedCrop(Technique):
    """Crop and enlarge.

    Proportions are drawn relative to those of the image, where the paper draws absolute ones of 3/4 to 4/3: images that
    are not square would lose their sides even at `least: 1`.
    """

    name = "resized_crop"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1409.4842"

    least: float = Field(default=0.35, gt=0, le=1)  # the smallest share of the area that is kept; the paper has 0.08
    stretch: float = Field(default=1.33, ge=1, le=4)  # how far proportions may change, either way; 1 keeps them

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = resized_crop(example["image"], example["rng"], self.least, self.stretch)
        return {**example, "image": image}

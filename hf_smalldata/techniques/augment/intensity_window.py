"""Intensity window: CT, MRI and X-ray images are shown through other windows of grey values, anew in each epoch.

Helps when scanners, doses and readers' settings differ: grey values of MRI and X-ray have no unit. Hurts where the very
value tells (bone density in CT), and is not for photos, see `colour`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_pixels import window
from hf_smalldata.technique import Technique


class IntensityWindow(Technique):
    """Random windows around the one that an image was decoded with (`data.window`, or that of its file), and gamma.

    Images are read with 8 bits, so what lies outside the first window is gone: set `data.window` a little wider.
    """

    name = "intensity_window"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/2311.14990"

    center: float = Field(default=0.1, ge=0, le=0.5)  # ± a share of the window
    width: float = Field(default=0.2, ge=0, le=3)  # 0.2: between 1 / 1.2 and 1.2 of the width
    gamma: float = Field(default=0.2, ge=0, le=3)  # 0.2: an exponent between 1 / 1.2 and 1.2

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = window(example["image"], example["rng"], self.center, self.width, self.gamma)
        return {**example, "image": image}

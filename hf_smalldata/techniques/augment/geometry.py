"""Geometry: training images are turned, scaled, sheared and shifted a little, anew in each epoch.

Helps where the thing lies anywhere in the image and at any angle: a network trained whole on few rows learns their
places otherwise. Does little where all images are framed alike, and hurts where the angle is the label (a 6, a 9).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_geometry import affine
from hf_smalldata.technique import Technique


class Geometry(Technique):
    """One affine map an image, each amount drawn within ± its range."""

    name = "geometry"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://doi.org/10.1186/s40537-019-0197-0"

    degrees: float = Field(default=10.0, ge=0, le=180)  # of rotation
    scale: float = Field(default=0.1, ge=0, le=1)  # 0.1: between 1 / 1.1 and 1.1 of the size
    shift: float = Field(default=0.1, ge=0, le=0.5)  # a share of the width, and of the height
    shear: float = Field(default=5.0, ge=0, le=45)  # degrees

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = affine(example["image"], example["rng"], self.degrees, self.scale, self.shift, self.shear)
        return {**example, "image": image}

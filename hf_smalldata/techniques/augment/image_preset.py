"""Image preset: the changes that are safe for one kind of image, all under one strength, anew in each epoch.

Helps who would rather name what images show than tune ten ranges: photos, scans of patients, what a robot sees,
documents. Does not know your labels: a preset hurts where colour, size, angle or fine texture is the label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from hf_smalldata.data import image_geometry as geometry
from hf_smalldata.data import image_pixels as pixels
from hf_smalldata.technique import Technique

Kind = Literal["natural", "medical", "robot", "document"]
Change = Callable[[Image.Image, np.random.Generator, float], Image.Image]  # the last is the strength, 0 to 1

PRESETS: Mapping[Kind, tuple[Change, ...]] = {
    "natural": (
        lambda image, rng, s: geometry.flip(image, rng, min(s, 0.5), 0),
        lambda image, rng, s: geometry.affine(image, rng, 20 * s, 0, 0, 10 * s),
        lambda image, rng, s: geometry.resized_crop(image, rng, 1 - 0.8 * s, 1 + 0.5 * s),
        lambda image, rng, s: pixels.colour(image, rng, 0.4 * s, 0.4 * s, 0.4 * s, 0.05 * s),
        lambda image, rng, s: pixels.cutout(image, rng, 1, 0.5 * s, "mean"),
    ),
    # no mirror images, since left and right differ inside; no hue, since stains and skin have theirs
    "medical": (
        lambda image, rng, s: geometry.affine(image, rng, 20 * s, 0.2 * s, 0.1 * s, 5 * s),
        lambda image, rng, s: geometry.elastic(image, rng, 0.02 * s, 4),
        lambda image, rng, s: pixels.window(image, rng, 0.2 * s, 0.4 * s, 0.4 * s),
        lambda image, rng, s: pixels.noise(image, rng, "poisson", 0.1 * s),
        lambda image, rng, s: pixels.gaussian_blur(image, rng, 0.01 * s),
    ),
    "robot": (
        lambda image, rng, s: geometry.perspective(image, rng, 0.2 * s),
        lambda image, rng, s: geometry.affine(image, rng, 10 * s, 0.2 * s, 0.1 * s, 0),
        lambda image, rng, s: pixels.colour(image, rng, 0.6 * s, 0.4 * s, 0.4 * s, 0.02 * s),
        lambda image, rng, s: pixels.cutout(image, rng, 2, 0.4 * s, "mean"),
        lambda image, rng, s: pixels.motion_blur(image, rng, 0.1 * s),
        lambda image, rng, s: pixels.noise(image, rng, "gaussian", 0.1 * s),
    ),
    # no mirror images and no quarter turns, since text has one way up; nothing hidden, since each sign counts
    "document": (
        lambda image, rng, s: geometry.affine(image, rng, 6 * s, 0.1 * s, 0.05 * s, 5 * s),
        lambda image, rng, s: geometry.perspective(image, rng, 0.1 * s),
        lambda image, rng, s: pixels.colour(image, rng, 0.4 * s, 0.4 * s, 0, 0),
        lambda image, rng, s: pixels.gaussian_blur(image, rng, 0.01 * s),
        lambda image, rng, s: pixels.noise(image, rng, "gaussian", 0.1 * s),
    ),
}


def preset(image: Image.Image, rng: np.random.Generator, kind: Kind, strength: float) -> Image.Image:
    """All changes of a kind, one after the other; the strength scales every range, and 0 leaves the image as it is."""
    for change in PRESETS[kind]:
        image = change(image, rng, strength)
    return image


class ImagePreset(Technique):
    """Changes by what images show.

    `natural` flips left to right, turns, crops, recolours and hides; `medical` turns, bends, shows through other
    windows, adds X-ray noise; `robot` looks from aside, in other light, past obstacles, in motion; `document` (digits
    and text too) photographs a page askew. Slides under a microscope may be mirrored: add `flip` to `medical` there.
    """

    name = "image_preset"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://doi.org/10.1186/s40537-019-0197-0"

    kind: Kind = "natural"
    strength: float = Field(default=0.5, ge=0, le=1)  # 0 leaves images as they are; 1 for strong ones and long training

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        return {**example, "image": preset(example["image"], example["rng"], self.kind, self.strength)}

"""Image noise: the grain of sensors on training images, anew in each epoch.

Helps when images to come are taken in little light, at a low dose (X-ray, CT) or by ultrasound and radar, and against
reading single pixels on few rows. Hurts when fine texture is the label, and does little after strong resizing.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hf_smalldata.data.image_pixels import Noise, noise
from hf_smalldata.technique import Technique


class ImageNoise(Technique):
    """Noise of one kind an image, drawn among those that have a strength.

    Strengths are the largest standard deviation, a share of the range from black to white; an image's own is drawn
    between 0 and that. The same noise falls on all channels of a grey image.
    """

    name = "image_noise"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/2001.06057"

    gaussian: float = Field(default=0.05, ge=0, le=1)  # added, alike everywhere
    speckle: float = Field(default=0.05, ge=0, le=1)  # times the brightness; the strength is that of white
    poisson: float = Field(default=0.05, ge=0, le=1)  # counted photons; the strength is that of white

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        strengths: dict[Noise, float] = {"gaussian": self.gaussian, "speckle": self.speckle, "poisson": self.poisson}
        kinds = [kind for kind, strength in strengths.items() if strength > 0]
        if not kinds:
            return example
        kind = kinds[example["rng"].integers(len(kinds))]
        return {**example, "image": noise(example["image"], example["rng"], kind, strengths[kind])}

"""AugMix: several chains of operations on each training image, mixed with the image itself, anew in each epoch.

Helps when images to come are noisier, blurrier or otherwise worse than the training ones: variants are diverse and
still look natural. Does little for clean test images, and costs several times as much as one operation.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveFloat

from hf_smalldata.data.image_policies import augmix
from hf_smalldata.technique import Technique


class AugMix(Technique):
    """Mix chains of operations, without the paper's consistency term.

    The term, a Jensen-Shannon divergence over the row and two variants of it, triples the work of a step. Here a step
    sees one variant of each row.
    """

    name = "augmix"
    tasks = frozenset({"image-classification"})
    extra = "image"
    paper = "https://arxiv.org/abs/1912.02781"

    chains: int = Field(default=3, ge=1, le=10)
    depth: int = Field(default=3, ge=1, le=10)  # the most operations of a chain
    severity: float = Field(default=0.3, ge=0, le=1)  # the largest magnitude; 0 leaves images as they are
    alpha: PositiveFloat = 1.0  # of the shares: near 0 one chain or the image itself prevails

    def example(self, example: dict[str, Any]) -> dict[str, Any]:
        """A row with its decoded image changed."""
        image = augmix(example["image"], example["rng"], self.chains, self.depth, self.severity, self.alpha)
        return {**example, "image": image}

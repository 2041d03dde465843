"""CutMix: a rectangle of each training image is replaced by that of another one, targets follow the shares of area.

Helps when the network is trained whole and looks at one part of a thing alone: the rest has to suffice. Hurts when the
label hangs on a small detail, which a rectangle may carry away, and does little where only a head is trained.
"""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hf_smalldata.nn.mix import beta, mix, partners
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Technique


def box(height: int, width: int, area: float, y: float, x: float) -> tuple[slice, slice]:
    """Rows and columns of a rectangle of the image's proportions, cut off at the edges: eq. 2.

    Args:
        height: of the image in pixels.
        width: of the image in pixels.
        area: of the rectangle, a share of the image's.
        y: of its centre, a share of the height.
        x: of its centre, a share of the width.
    """
    half_height, half_width = height * area**0.5 / 2, width * area**0.5 / 2
    top, left = round(max(y * height - half_height, 0)), round(max(x * width - half_width, 0))
    bottom, right = round(min(y * height + half_height, height)), round(min(x * width + half_width, width))
    return slice(top, bottom), slice(left, right)


def cutmix(images: Tensor, targets: Tensor, permutation: Tensor, place: tuple[slice, slice]) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of each row's partner; targets are mixed by the area that is left: eq. 1.

    Args:
        images: (B, 3, H, W), not changed.
        targets: (B, C).
        permutation: (B,), the partner of each row.
        place: rows and columns of the rectangle.
    """
    pasted = images.clone()
    pasted[:, :, place[0], place[1]] = images[permutation][:, :, place[0], place[1]]
    size = (place[0].stop - place[0].start) * (place[1].stop - place[1].start)
    left = 1 - size / (images.shape[-2] * images.shape[-1])
    return pasted, mix(targets, permutation, left)


class CutMix(Technique):
    """Exchange rectangles between the images of every training batch; one rectangle a batch, as in the paper."""

    name = "cutmix"
    tasks = frozenset({"image-classification"})
    paper = "https://arxiv.org/abs/1905.04899"

    alpha: PositiveFloat = 1.0  # of Beta(alpha, alpha): near 0 nearly all or nothing, 1 any area alike likely

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """Images (B, 3, H, W) and targets (B, C) -> patched ones, and their targets."""
        images, targets = batch["pixel_values"], batch["labels"]
        y, x = torch.rand(2).tolist()
        place = box(images.shape[-2], images.shape[-1], 1 - float(beta(self.alpha)), y, x)
        images, targets = cutmix(images, targets, partners(targets), place)
        return {**batch, "pixel_values": images, "labels": targets}

"""Differentiable augmentation of what a discriminator sees, real and made alike: Zhao et al. 2020.

Each image of a batch (B, C, H, W) in [-1, 1] gets its own; gradients pass through to the generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SHIFT, HOLE = 1 / 8, 1 / 2  # of a side


def augmented(images: Tensor, kinds: Sequence[str]) -> Tensor:
    """After each of `kinds`, names in `KINDS`, in their order."""
    for kind in kinds:
        images = KINDS[kind](images)
    return images


def colour(images: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5, saturation by 0 to 2, contrast by 0.5 to 1.5."""
    images = images + _uniform(images) - 0.5
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * 2 * _uniform(images) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (_uniform(images) + 0.5) + mean


def translation(images: Tensor) -> Tensor:
    """Moved by up to an eighth along each side; what comes in is 0, middle grey."""
    height, width = images.shape[2:]
    down, right = round(height * SHIFT), round(width * SHIFT)
    padded = functional.pad(images, (right, right, down, down)).permute(0, 2, 3, 1)
    rows = _start(images, 2 * down + 1) + torch.arange(height, device=images.device)  # (B, H)
    columns = _start(images, 2 * right + 1) + torch.arange(width, device=images.device)  # (B, W)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor) -> Tensor:
    """A rectangle of half the sides, anywhere and in part outside, is 0."""
    height, width = images.shape[2:]
    down, across = round(height * HOLE), round(width * HOLE)
    rows = torch.arange(height, device=images.device) - (_start(images, height + 1) - down // 2)  # (B, H)
    columns = torch.arange(width, device=images.device) - (_start(images, width + 1) - across // 2)  # (B, W)
    hole = ((rows >= 0) & (rows < down))[:, :, None] & ((columns >= 0) & (columns < across))[:, None, :]
    return images * ~hole[:, None]


def _uniform(images: Tensor) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device, dtype=images.dtype)


def _start(images: Tensor, count: int) -> Tensor:
    return torch.randint(0, count, (len(images), 1), device=images.device)


KINDS = {"colour": colour, "translation": translation, "cutout": cutout}

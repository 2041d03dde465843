"""Images of which patches are hidden: SimMIM (Xie et al. 2022, https://arxiv.org/abs/2111.09886)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.image_size import resize_model
from hf_smalldata.tasks.pretrained import pretraining_model
from hf_smalldata.technique import Context
from hf_smalldata.techniques.domain.pretexts import Array, Whole, config_with, once
from hf_smalldata.training.batching import to_device

CELL = 32  # pixels a side of what is hidden


class Patches:
    """Masked image modelling: the mean absolute difference of hidden pixels.

    Args:
        rows: images.
        ctx: of the run.
        share: of an image that is hidden.

    Raises:
        UserError: transformers has no such head for the network, or not for images of this size.
    """

    noun, part = "images", "patches"

    def __init__(self, rows: Dataset, ctx: Context, share: float) -> None:
        self.ctx, self.share = ctx, share
        self.config = config_with("AutoModelForMaskedImageModeling", ctx, "ViT, DeiT, Swin and FocalNet")
        stages = len(getattr(self.config, "depths", (1,)))  # of which all but the first halve the grid of patches
        stride = self.config.encoder_stride = self.config.patch_size * 2 ** (stages - 1)  # pixels that a state draws
        self.features = once(ctx.task.encode(rows, ctx.processor), "pixel_values")
        height, self.side = self.features[0]["pixel_values"].shape[-2:]
        if height != self.side or height % stride:
            raise UserError(f"continued_pretraining: {ctx.model.name} fills in square images of a multiple of {stride} "
                            f"pixels, found {height} x {self.side}; set model.image_size")  # fmt: skip

    def __len__(self) -> int:
        return len(self.features)

    def load(self) -> Whole:
        """A network that draws pixels, for images of the recipe's size."""
        model: Any
        model, missing = pretraining_model("AutoModelForMaskedImageModeling", self.ctx.model, self.config)
        if self.ctx.model.image_size is not None:
            model = resize_model(model, self.side, self.ctx.model.name)
        model.config.image_size = self.side  # its loss lays the mask by this, also where it takes any size
        return model, missing

    def digest(self) -> str:
        """sha256 of all pixels."""
        return hashlib.sha256(b"".join(each["pixel_values"].tobytes() for each in self.features)).hexdigest()

    def lengths(self) -> Array:
        """All alike."""
        return np.ones(len(self.features))

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """That of the hidden pixels."""
        batch = self.ctx.task.collate([self.features[at] for at in indices], self.ctx.processor)
        hidden = np.stack([cells(self.side, self.config.patch_size, self.share, rng) for _ in indices])
        loss: Tensor = model(**to_device(batch, device), bool_masked_pos=torch.from_numpy(hidden).to(device)).loss
        return loss


def cells(side: int, patch: int, share: float, rng: np.random.Generator) -> Array:
    """Which patches of an image are hidden ((side / patch)²,), whole cells at a time.

    Args:
        side: pixels of the image.
        patch: pixels of a patch.
        share: of the cells, at least one of them.
        rng: of the draw.
    """
    fits = CELL % patch == 0 and side % CELL == 0 and side // CELL >= 4
    cell = CELL if fits else patch
    count = side // cell
    hidden = np.zeros(count * count, dtype=bool)
    hidden[rng.permutation(count * count)[: max(1, round(share * count * count))]] = True
    return hidden.reshape(count, count).repeat(cell // patch, 0).repeat(cell // patch, 1).ravel()

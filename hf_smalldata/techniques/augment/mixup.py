"""Mixup: each training row is blended with another of its batch, inputs and targets in the same share.

Helps when the network is trained whole on few rows and grows over-confident: between two rows it learns to be in
doubt. Hurts when only a head is trained, which can't fit blends that the body never saw, and on sounds or scans where a
blend of two means something else.
"""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import Tensor, nn

from hf_smalldata.nn.mix import beta, mix, partners
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Technique


def mixup(batch: Batch, permutation: Tensor, weight: Tensor) -> Batch:
    """Inputs and targets of rows and their partners, blended; a mask covers what either covers.

    Args:
        batch: inputs (B, ...) of one shape; `labels` are targets (B, C).
        permutation: (B,), the partner of each row.
        weight: (B,), each row's own share.
    """
    return {
        name: mix(value, permutation, weight) if value.is_floating_point() else value.maximum(value[permutation])
        for name, value in batch.items()
    }


class Mixup(Technique):
    """Blend rows of every training batch.

    Each row has its own share; the paper's code has one for the whole batch, which in small batches swings too much.
    Clips of unequal length are blended over the longer one: padding repeats a clip.
    """

    name = "mixup"
    tasks = frozenset({"image-classification", "audio-classification"})
    paper = "https://arxiv.org/abs/1710.09412"

    alpha: PositiveFloat = 0.2  # of Beta(alpha, alpha): near 0 nearly no blending, 1 any share alike likely

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """Inputs and targets (B, C) -> blends of them, and their targets (B, C)."""
        targets = batch["labels"]
        return mixup(batch, partners(targets), beta(self.alpha, (len(targets),)).to(targets.device))

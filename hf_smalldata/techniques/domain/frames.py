"""Sounds of which spans are hidden: wav2vec 2.0 (Baevski et al. 2020, https://arxiv.org/abs/2006.11477)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from transformers.models.wav2vec2.modeling_wav2vec2 import _compute_mask_indices, _sample_negative_indices

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.pretrained import pretraining_model
from hf_smalldata.tasks.task import Features
from hf_smalldata.technique import Context
from hf_smalldata.techniques.augment.seeded import seeded
from hf_smalldata.techniques.domain.pretexts import Array, Whole, config_with, once
from hf_smalldata.training.batching import to_device

SPAN = 10  # frames that are hidden together (section 4.2 of the paper)
FEWEST = 4  # frames of a clip: room for two spans of two
# A classifier's config may hide nothing, as those that are saved here, or features too, drawn from a global generator
HIDES = {"apply_spec_augment": True, "mask_time_prob": 0.65, "mask_feature_prob": 0.0, "layerdrop": 0.0}


class Frames:
    """wav2vec 2.0: of the hidden frames, each is told from others of the same clip.

    Args:
        rows: sounds.
        ctx: of the run.
        share: of a clip that spans cover, overlaps counted twice.

    Raises:
        UserError: transformers has no such head for the network.
    """

    noun, part = "sounds", "spans"

    def __init__(self, rows: Dataset, ctx: Context, share: float) -> None:
        self.ctx, self.share = ctx, share
        self.config = config_with("AutoModelForPreTraining", ctx, "wav2vec 2.0", ("wav2vec2", "wav2vec2-conformer"))
        self.config.update(HIDES)
        self.main = ctx.processor.model_input_names[0]
        heard = once(ctx.task.encode(rows, ctx.processor), self.main)
        self.features = [each for each in heard if self.frames(each) >= FEWEST]
        if not self.features:
            raise UserError(f"continued_pretraining: no sound has {FEWEST} frames of the network, of which some are "
                            "hidden and told apart; leave the technique out")  # fmt: skip

    def __len__(self) -> int:
        return len(self.features)

    def load(self) -> Whole:
        """A network with the quantiser that it was pretrained with."""
        return pretraining_model("AutoModelForPreTraining", self.ctx.model, self.config)

    def digest(self) -> str:
        """sha256 of all samples."""
        return hashlib.sha256(b"".join(each[self.main].tobytes() for each in self.features)).hexdigest()

    def lengths(self) -> Array:
        """Samples."""
        return np.array([len(each[self.main]) for each in self.features])

    def loss(self, model: Any, indices: list[int], rng: np.random.Generator, device: torch.device) -> Tensor:
        """Contrastive loss and the codebook's diversity (eq. 2) a hidden frame."""
        batch = to_device(self.ctx.task.collate([self.features[at] for at in indices], self.ctx.processor), device)
        hidden = spans([self.frames(self.features[at]) for at in indices], self.share, rng)
        with seeded(rng):
            others = _sample_negative_indices(hidden.shape, model.config.num_negatives, hidden)
        there, negatives = (torch.from_numpy(each).to(device) for each in (hidden, others))
        loss: Tensor = model(**batch, mask_time_indices=there, sampled_negative_indices=negatives).loss
        return loss / there.sum()

    def frames(self, row: Features) -> int:
        """Of a clip, as the convolutions that read it count."""
        count = int(row["attention_mask"].sum()) if "attention_mask" in row else len(row[self.main])
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            count = (count - kernel) // stride + 1
        return max(count, 0)


def spans(frames: Sequence[int], share: float, rng: np.random.Generator) -> Array:
    """Which frames of clips are hidden (B, T), two or more of each clip and no padding.

    Args:
        frames: of each clip, FEWEST or more.
        share: of a clip that spans cover, overlaps counted twice.
        rng: of the draw.
    """
    there = np.arange(max(frames)) < np.asarray(frames)[:, None]
    hidden = np.zeros_like(there)
    with seeded(rng):
        for row, count in zip(hidden, frames, strict=True):  # a batch's spans would be too long for its shortest clip
            row[:count] = _compute_mask_indices((1, count), share, min(SPAN, count // 2), min_masks=2)[0]
    return hidden

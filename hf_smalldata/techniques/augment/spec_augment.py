"""SpecAugment: random spans of time and bands of frequency are hidden from the model, others in every batch.

Helps when few clips would be learnt by one telling sound each: with part of it hidden, the rest must do. Costs next to
nothing a batch, but frozen blocks are not computed once. Does little for a frozen body with a linear head, and hurts
where the label is one short event that a mask may cover: make masks few and narrow there.
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Technique

INPUTS = ("input_features", "input_values")  # by the names that models have for them
WAVES_DIM = 2


def spans(lengths: Tensor, size: int, count: int, fraction: float) -> Tensor:
    """Which steps are hidden: `count` spans a row, each 0 to `fraction` of its length wide, all widths alike likely.

    Args:
        lengths: steps of each row (B,), on the device of the result.
        size: steps of the longest.
        count: of spans, which may overlap.
        fraction: of a row, the widest span.

    Returns:
        Bool (B, size).
    """
    limits = lengths[:, None].float()
    widths = (torch.rand(len(lengths), count, device=lengths.device) * ((fraction * limits).floor() + 1)).floor()
    starts = (torch.rand_like(widths) * (limits - widths + 1)).floor()  # section 2: from [0, τ - t)
    at = torch.arange(size, device=lengths.device)
    return ((at >= starts[..., None]) & (at < (starts + widths)[..., None])).any(1)  # (B, spans, size) -> (B, size)


def hidden(values: Tensor, mask: Tensor) -> Tensor:
    """Values (B, ...) with the mean of their row where a mask, which broadcasts to them, is true."""
    return torch.where(mask, values.flatten(1).mean(1).view(-1, *[1] * (values.dim() - 1)), values)


class SpecAugment(Technique):
    """Time and frequency masks on spectrograms, filled with the mean of the clip; waveforms get the time masks alone.

    Widths are fractions, where the paper has frames and channels: its 100 frames are more than some clips have. Its
    time warping is left out: by its own ablation it adds the least and costs the most. Of encoders that read waveforms
    (wav2vec 2.0, HuBERT) the input is masked, not states by the model's own `mask_time_prob`: that needs clips longer
    than its spans of 10 frames, not every model has it, and it draws from numpy's global generator.
    """

    name = "spec_augment"
    tasks = frozenset({"audio-classification"})
    paper = "https://arxiv.org/abs/1904.08779"

    time_masks: NonNegativeInt = 2
    time_fraction: float = Field(default=0.1, ge=0, le=1)  # of the window, or of a waveform: the widest mask
    frequency_masks: NonNegativeInt = 2
    frequency_fraction: float = Field(default=0.2, ge=0, le=1)  # of the mel channels; 15 of 80, the paper's mild policy

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """Inputs with masks; labels stay.

        Raises:
            UserError: waveforms, and no masks in time.
        """
        name = next(each for each in INPUTS if each in batch)
        return {**batch, name: self._masked(batch[name], batch.get("attention_mask"), model)}

    def _masked(self, values: Tensor, valid: Tensor | None, model: nn.Module) -> Tensor:
        waves = values.dim() == WAVES_DIM
        if waves and not self.time_masks:
            raise UserError("spec_augment.time_masks: this model reads waveforms, which have no channels of frequency "
                            "to mask; give 1 at least")  # fmt: skip
        network: Any = extract_model_from_parallel(model)
        mel_first = network.config.model_type == "whisper"  # (B, mel, T); the others have (B, T, mel)
        time = 2 if mel_first else 1
        steps = torch.full((len(values),), values.shape[time], device=values.device)
        lengths = steps if valid is None else valid.sum(1)
        in_time = spans(lengths, values.shape[time], self.time_masks, self.time_fraction)
        if waves:
            return hidden(values, in_time)
        channels = torch.full_like(steps, values.shape[3 - time])
        in_frequency = spans(channels, values.shape[3 - time], self.frequency_masks, self.frequency_fraction)
        return hidden(values, in_time.unsqueeze(3 - time) | in_frequency.unsqueeze(time))

"""What a generator of pixels learns and makes: rows as tensors of one size, and back to what a row holds.

Images are squares of RGB; sounds are log-mel spectrograms, images of one channel as wide as the clips are long.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from hf_smalldata.data.audio import open_audio, sound_facts
from hf_smalldata.data.images import open_image
from hf_smalldata.errors import UserError, listed
from hf_smalldata.techniques.synthesis.mels import BINS, HOP_S, log_mels, waveform

MULTIPLE = 16  # of pixels: networks halve a canvas up to four times
LONGEST_S = 4.0  # of a clip
RANGE = 8.0  # powers of ten between the loudest sound of all clips and what counts as silence
SILENT = -0.75  # of a made frame in [-1, 1], 70 dB below the loudest: nothing louder after it is the clip's end


class Canvas(ABC):
    """Rows as tensors (N, channels, height, width) in [-1, 1], padded to multiples of 16 by their edges."""

    shape: tuple[int, int, int]  # channels, height, width

    @abstractmethod
    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a row is neither blown up nor cut to fit."""

    @abstractmethod
    def tensors(self, rows: Dataset) -> Tensor:
        """Rows -> (N, *shape)."""

    @abstractmethod
    def value(self, pixels: Tensor, seed: int) -> Any:
        """One of (*shape) -> a PIL image, or {"array", "sampling_rate"}; `seed` is of the phases of a sound."""


class Pictures(Canvas):
    """Squares from the middle of images, `side` pixels wide.

    Raises:
        UserError: images that are smaller, the first 20 of them named.
    """

    def __init__(self, side: int, technique: str, rows: Dataset) -> None:
        self.side = side
        padded = _padded(side)
        self.shape = (3, padded, padded)
        sizes = {row["id"]: open_image(row["image"], row.get("window")).size for row in rows}
        small = [f"{name} ({size[0]} x {size[1]})" for name, size in sizes.items() if min(size) < side]
        if small:
            least = min(min(size) for size in sizes.values())
            raise UserError(
                f"{technique}: expected images of at least {side} x {side} pixels, found smaller: {listed(small)}; "
                f"set techniques.{technique}.side to {least} at most"
            )

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether an image is as large as those that are made."""
        return min(open_image(row["image"], row.get("window")).size) >= self.side

    def tensors(self, rows: Dataset) -> Tensor:
        """Rows -> (N, 3, height, width)."""
        size = self.side, self.side
        squares = [ImageOps.fit(open_image(row["image"], row.get("window")), size, Image.Resampling.LANCZOS)
                   for row in rows]  # fmt: skip
        pixels = torch.from_numpy(np.stack([np.asarray(square) for square in squares])).permute(0, 3, 1, 2)
        return _grown(pixels.float() / 127.5 - 1, self.shape)

    def value(self, pixels: Tensor, seed: int) -> Image.Image:
        """One of (3, height, width) -> an RGB image of `side` pixels."""
        cut = pixels[:, : self.side, : self.side].clamp(-1, 1)
        return Image.fromarray(((cut + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


class Mels(Canvas):
    """Log-mel spectrograms of clips at the model's rate; shorter clips end in silence.

    Raises:
        UserError: clips that are longer than a generator can learn.
    """

    def __init__(self, rate_hz: int, technique: str, rows: Dataset) -> None:
        self.rate_hz = rate_hz
        lengths = {row["id"]: sound_facts(row["audio"]).seconds for row in rows}
        long = [f"{name} ({seconds:.1f} s)" for name, seconds in lengths.items() if seconds > LONGEST_S]
        if long:
            raise UserError(f"{technique}: expected sounds of at most {LONGEST_S:g} s, found longer ones: "
                            f"{listed(long)}; cut them, or use waveform for variants of theirs")  # fmt: skip
        frames = max(lengths.values()) / HOP_S + 1
        self.shape = (1, BINS, _padded(math.ceil(frames)))
        self.top = max(float(self._powers(row).max()) for row in rows)

    def holds(self, row: dict[str, Any]) -> bool:
        """Whether a clip is no longer than those that are made."""
        return sound_facts(row["audio"]).seconds <= (self.shape[2] - 1) * HOP_S

    def tensors(self, rows: Dataset) -> Tensor:
        """Rows -> (N, 1, bins, frames): -1 is silence, 1 the loudest of all."""
        found = torch.full((len(rows), *self.shape), -1.0)
        for at, row in enumerate(rows):
            powers = self._powers(row)[:, : self.shape[2]]
            scaled = ((powers - self.top) / (RANGE / 2) + 1).clamp(-1, 1)
            found[at, 0, :, : scaled.shape[1]] = scaled
        return found

    def value(self, pixels: Tensor, seed: int) -> dict[str, Any]:
        """One of (1, bins, frames) -> its sound by Griffin-Lim, without the silence behind it."""
        scaled = pixels[0].clamp(-1, 1).cpu()
        heard = (scaled.amax(0) > SILENT).nonzero()
        end = int(heard.max()) + 2 if len(heard) else self.shape[2]
        powers = (scaled[:, :end] - 1) * (RANGE / 2) + self.top
        return {"array": waveform(powers, self.rate_hz, seed).numpy(), "sampling_rate": self.rate_hz}

    def _powers(self, row: dict[str, Any]) -> Tensor:
        return log_mels(torch.from_numpy(open_audio(row["audio"], self.rate_hz)), self.rate_hz)


def _padded(length: int) -> int:
    return math.ceil(length / MULTIPLE) * MULTIPLE


def _grown(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """(N, C, h, w) -> (N, *shape) by repeating the last row and column."""
    down, right = shape[1] - pixels.shape[2], shape[2] - pixels.shape[3]
    return functional.pad(pixels, (0, right, 0, down), mode="replicate")

"""What generators of pixels share: a `rows` hook that trains one on the rows, draws from it, and keeps what is good."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from hf_smalldata.data.made import real, rng_of
from hf_smalldata.data.modality import modality_of
from hf_smalldata.errors import UserError, require
from hf_smalldata.technique import Context, Technique
from hf_smalldata.techniques.synthesis.canvas import Canvas, Mels, Pictures
from hf_smalldata.techniques.synthesis.keep import Keep, check_rows_a_class, kept
from hf_smalldata.techniques.synthesis.learning import Facts, digest, learnt

logger = logging.getLogger(__name__)

AT_ONCE = 64  # rows that are drawn in a pass


class PixelGenerator(Technique):
    """A class-conditional generator that is trained on the training rows; its own part is `build`, `fit` and `draw`."""

    extra: ClassVar[str | None] = "synthesis"
    drawing: ClassVar[frozenset[str]] = frozenset({"keep", "tries", "per_seed"})  # fields that no training depends on

    side: int = Field(default=32, ge=8, le=128)  # pixels of the sides of made images
    steps: PositiveInt = 1000  # of training
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    tries: float = Field(default=2.0, ge=1)  # rows made for each that is wanted, as the keeper drops some
    per_seed: bool = False  # train anew for each seed, even on the same rows
    keep: Keep = Keep()  # which are learnt from, and how many

    @abstractmethod
    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """A network with random weights, for canvases (channels, height, width)."""

    @abstractmethod
    def fit(self, network: nn.Module, pixels: Tensor, labels: Tensor, classes: int) -> tuple[nn.Module, Facts]:
        """Train it on its device: what is kept of it, and facts.

        Args:
            network: from `build`.
            pixels: (N, channels, height, width) in [-1, 1].
            labels: (N,) classes, and `classes` for rows without one.
            classes: C.
        """

    @abstractmethod
    def draw(self, network: nn.Module, labels: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Rows of these classes (M,) -> pixels (M, channels, height, width); each draws from its own generator."""

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        """Training rows, and behind them those that were made and kept.

        Raises:
            UserError: too few rows of a class, too small or too long ones, no classes, or nothing worth keeping.
        """
        if self.extra is not None:
            require("diffusers", self.extra)
        check_rows_a_class(train, ctx, self.name)
        if ctx.problem_type != "single_label_classification":
            raise UserError(f"{self.name}: for rows of one class each, and these are {ctx.problem_type}; leave it out")
        originals, count = real(train), len(ctx.labels)
        canvas = self.canvas(originals, ctx)
        pixels, labels = canvas.tensors(originals), torch.as_tensor(originals["label"][:])
        if ctx.unlabelled is not None:
            more = canvas.tensors(self._fitting(ctx.unlabelled, canvas))
            pixels, labels = torch.cat([pixels, more]), torch.cat([labels, torch.full((len(more),), count)])
        settings = self.model_dump(exclude=set(self.drawing))
        network, facts = learnt(
            self.name,
            [settings, pixels, labels, count],
            lambda: self.build(canvas.shape, count),
            lambda made: self.fit(made, pixels, labels, count),
            ctx.seed if self.per_seed else 0,
        )
        ctx.facts[self.name] = facts
        wanted = [math.ceil(self.tries * each) for each in self.keep.wanted(train, ctx)]
        classes = [label for label, each in enumerate(wanted) for _ in range(each)]
        numbers = [number for each in wanted for number in range(each)]

        def write(path: Path) -> None:
            save_file({"pixels": self._drawn(network, classes, numbers, ctx.seed)}, path)

        key = digest([self, pixels, labels, classes, ctx.seed])
        drawn = load_file(ctx.once(f"{self.name}-{key}.safetensors", write))["pixels"]
        encode = modality_of(train).encoded  # type: ignore[attr-defined]
        made = [
            {ctx.task.kind: encode(canvas.value(one, number)), "label": label, "number": number}
            for one, label, number in zip(drawn, classes, numbers, strict=True)
        ]
        return kept(train, made, ctx, self.keep, self.name)

    def _fitting(self, unlabelled: Dataset, canvas: Canvas) -> Dataset:
        """Unlabelled rows that the canvas holds."""
        found = [at for at, row in enumerate(unlabelled) if canvas.holds(row)]
        if not found:
            raise UserError(f"{self.name}: all {len(unlabelled)} unlabelled rows are smaller or longer than what is "
                            "made; take others, or leave data.unlabelled out")  # fmt: skip
        if len(found) < len(unlabelled):
            logger.warning("%s: %d of %d unlabelled rows are smaller or longer than what is made, and left out",
                           self.name, len(unlabelled) - len(found), len(unlabelled))  # fmt: skip
        return unlabelled.select(found)

    def canvas(self, originals: Dataset, ctx: Context) -> Canvas:
        """How rows are tensors."""
        if ctx.task.kind == "audio":
            return Mels(ctx.processor.sampling_rate, self.name, originals)
        return Pictures(self.side, self.name, originals)

    def _drawn(self, network: nn.Module, classes: Sequence[int], numbers: Sequence[int], seed: int) -> Tensor:
        """(M, channels, height, width); the n-th of a class is the same however many are drawn."""
        rngs = [rng_of(seed, f"{self.name}:{label}", number) for label, number in zip(classes, numbers, strict=True)]
        starts = tqdm(range(0, len(classes), AT_ONCE), desc=f"{self.name}: drawing", leave=False, delay=1, disable=None)
        parts, device = [], PartialState().device
        with torch.no_grad():
            for start in starts:
                some = torch.tensor(classes[start : start + AT_ONCE], device=device)
                parts.append(self.draw(network, some, rngs[start : start + AT_ONCE]).float().cpu())
        return torch.cat(parts).contiguous()


def normal(rngs: Sequence[np.random.Generator], shape: Sequence[int], device: torch.device | str) -> Tensor:
    """(M, *shape) of standard normal numbers, a generator each."""
    return torch.from_numpy(np.stack([rng.standard_normal(shape, np.float32) for rng in rngs])).to(device)

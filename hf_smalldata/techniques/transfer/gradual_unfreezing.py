"""Gradual unfreezing: the head learns first, then one more block at a time from the top down.

Helps when a new head on few rows would shake a pretrained body: while its errors are large, only what lies near it
moves. Costs as much as full fine-tuning, since gradients of held blocks are computed and dropped. Does little with a
long warm-up and small steps, which shield the body too.
"""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any

from pydantic import Field, PositiveFloat
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.nn.blocks import hold_in_eval, let_go
from hf_smalldata.nn.levels import levels
from hf_smalldata.technique import ALL_TASKS, Technique

logger = logging.getLogger(__name__)

ROUNDING = 1e-6  # of a stage


def held(stages: float, below: int) -> int:
    """How many of the levels below the head are still held, after so many stages: one more learns with each."""
    return max(below - math.floor(stages + ROUNDING), 0)


class GradualUnfreezing(Technique):
    """Hold the body's blocks and let them go one by one, the top one first.

    ULMFiT lets one more layer go each epoch (section 3.3): `epochs: 1`. Networks of today have more layers than few
    rows have epochs, so that by default they are all let go within the first half, at equal distances.
    """

    name = "gradual_unfreezing"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1801.06146"

    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5  # of training, after which everything learns
    epochs: PositiveFloat | None = None  # from one block to the next; takes the place of `fraction`

    def callbacks(self) -> list[TrainerCallback]:
        """The one that holds the blocks."""
        return [Unfreezing(self.fraction, self.epochs)]


class Unfreezing(TrainerCallback):
    """Drop the gradients of held levels before each step: neither moments nor weight decay move them then.

    `requires_grad` stays as it is: other processes wait for those gradients. They count in the norm that
    `max_grad_norm` clips. BatchNorm statistics of held levels stay too.
    """

    def __init__(self, fraction: float, epochs: float | None) -> None:
        self.fraction, self.epochs = fraction, epochs
        self.below: list[list[nn.Parameter]] = []  # levels below the head, from the stem upwards
        self.norms: list[list[nn.Module]] = []  # of each of them, those whose statistics we hold

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the levels, and hold the statistics of their norms."""
        model: nn.Module = kwargs["model"]
        self.below = levels(model)[:-1]
        if not self.below:
            logger.warning("gradual_unfreezing: had no effect, nothing but the head of %s learns", type(model).__name__)
        place = {id(parameter): at for at, level in enumerate(self.below) for parameter in level}
        self.norms = [[] for _ in self.below]
        for module in model.modules():
            at = next((place[id(p)] for p in module.parameters(recurse=False) if id(p) in place), None)
            if at is not None and isinstance(module, nn.modules.batchnorm._BatchNorm) and "train" not in vars(module):
                hold_in_eval(module)
                self.norms[at].append(module)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Norms of levels whose turn has come learn their statistics again."""
        self._let_go(self._held(state))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop the gradients of held levels."""
        for level in self.below[: self._held(state)]:
            for parameter in level:
                parameter.grad = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what never learnt, and hold nothing any more."""
        if left := self._held(state):
            logger.warning("gradual_unfreezing: the bottom %d of %d levels never learnt; train longer, or set fewer "
                           "epochs", left, len(self.below) + 1)  # fmt: skip
        self._let_go(0)

    def _held(self, state: TrainerState) -> int:
        count = len(self.below)
        if self.epochs is None:
            return held(count * state.global_step / (self.fraction * state.max_steps), count)
        return held(float(state.epoch or 0) / self.epochs, count)

    def _let_go(self, still: int) -> None:
        for level in self.norms[still:]:
            for norm in level:
                let_go(norm)
            level.clear()

"""FixMatch: what the model is sure of an unlabelled row as it is, it must say of the row strongly changed as well.

Helps with some labels a class, many unlabelled rows, and an augmentation that leaves classes as they are: above all for
images and sounds. Costs about twice `per_row` times the training. Does little for texts, whose changes a pretrained
network sees through, and hurts where unlabelled rows hold other classes.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, bare, one_class_each, unlabelled_logits
from hf_smalldata.techniques.selftrain.views import Strong, strong_view

MOMENTUM = 0.9  # of what is remembered of past batches: few rows make few steps


@dataclass
class Memory:
    """Averages over batches, each (C,); None before the first."""

    labelled: Tensor | None = None  # targets
    said: Tensor | None = None  # predictions for unlabelled rows
    sure: Tensor | None = None  # share of rows that are surely of each class

    def take(self, name: str, new: Tensor) -> Tensor:
        """The average with a new batch in it."""
        old = getattr(self, name)
        value: Tensor = new if old is None else MOMENTUM * old + (1 - MOMENTUM) * new
        setattr(self, name, value)
        return value


MEMORIES: MutableMapping[nn.Module, Memory] = WeakKeyDictionary()


def consistency(weak: Tensor, strong: Tensor, thresholds: Tensor) -> Tensor:
    """Mean over U rows of the cross-entropy of the strong view's logits with the class that the weak view is sure of.

    Rows that it is not sure of count 0, and no gradient goes through the weak view.

    Args:
        weak: probabilities (U, C).
        strong: logits (U, C).
        thresholds: least probability of each class (C,).
    """
    sure, label = weak.detach().max(-1)
    each = functional.cross_entropy(strong, label, reduction="none")
    return ((sure >= thresholds[label]) * each).mean()  # eq. 4


def aligned(probabilities: Tensor, wanted: Tensor, said: Tensor) -> Tensor:
    """Probabilities (U, C) as if classes were as frequent as `wanted` (C,), where they are said to be `said` (C,)."""
    made = probabilities * (wanted / said.clamp(min=1e-6))
    return made / made.sum(-1, keepdim=True)  # section 3.1 of https://arxiv.org/abs/1911.09785


def flexible(threshold: float, sure: Tensor) -> Tensor:
    """Thresholds (C,), lower for classes of which few rows are sure so far. sure: share of rows surely of each (C,)."""
    beta = sure / torch.maximum(sure.max(), 1 - sure.sum()).clamp(min=1e-6)  # eq. 9 of the paper below, with warm-up
    return threshold * beta / (2 - beta)  # eq. 12 of https://arxiv.org/abs/2110.08263


class FixMatch(Technique):
    """A penalty on strong views of unlabelled rows; the weak ones are as the recipe's own `example` hooks make them.

    `flexible: true` is FlexMatch, with moving averages over batches in place of its table of all rows; `align: true` is
    the distribution alignment of ReMixMatch, for unlabelled rows whose classes are as frequent as the labelled ones'.
    """

    name = "fixmatch"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://arxiv.org/abs/2001.07685"

    threshold: float = Field(default=0.95, gt=0, lt=1)  # least probability that makes a label of a prediction
    weight: PositiveFloat = 1.0  # beside the cross-entropy
    per_row: PositiveInt = 3  # unlabelled rows for each labelled one; the paper has 7
    strong: Strong = None
    flexible: bool = False  # lower thresholds for classes that are learnt more slowly
    align: bool = False  # classes of unlabelled rows are as frequent as those of labelled ones

    def beside(self, kind: Kind) -> Beside:
        """Two views of the unlabelled rows."""
        return Beside(self.per_row, strong_view(self.strong, kind))

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is, for rows of one class each."""
        one_class_each(self.name, ctx.problem_type)
        return model

    def callbacks(self) -> list[TrainerCallback]:
        """The one that forgets past batches."""
        return [Forget()]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the consistency."""
        with torch.no_grad():
            weak = unlabelled_logits(model, batch).softmax(-1)
            memory = MEMORIES.setdefault(bare(model), Memory())
            wanted, said = memory.take("labelled", batch["labels"].mean(0)), memory.take("said", weak.mean(0))
            if self.align:
                weak = aligned(weak, wanted, said)
            thresholds = weak.new_full((weak.shape[1],), self.threshold)
            if self.flexible:
                sure, label = weak.max(-1)
                counts = functional.one_hot(label, weak.shape[1]) * (sure >= self.threshold)[:, None]
                thresholds = flexible(self.threshold, memory.take("sure", counts.float().mean(0)))
        return self.weight * consistency(weak, unlabelled_logits(model, batch, "strong"), thresholds)


class Forget(TrainerCallback):
    """Each training remembers its own batches alone."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Nothing is remembered."""
        MEMORIES.pop(kwargs["model"], None)

"""Mean teacher: the model agrees, on unlabelled rows, with the moving average of its own weights; the average is kept.

Helps with a network that has dropout or an augmentation, some labels a class and many unlabelled rows; the average is
calmer than any one step. Costs two more forward passes of the unlabelled rows and a copy of what learns. Does little in
short trainings, in which the average is hardly another model.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, bare, one_class_each, unlabelled_logits
from hf_smalldata.techniques.selftrain.views import Strong, strong_view
from hf_smalldata.training.average import Averaged


def share(decay: float, count: int, progress: float) -> float:
    """Of the newest weights in the average: 1 - decay, and more while the average holds few of them."""
    return 1 - min(decay, (1 + count) / (10 + count))


def ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - t)²), t the part of the ramp that is done: the weight of a teacher that knows little yet."""
    return math.exp(-5 * (1 - min(progress / length, 1)) ** 2)  # section 3


def disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over rows of |softmax - softmax|² of logits (U, C), (U, C); no gradient goes through the teacher."""
    return (student.softmax(-1) - teacher.detach().softmax(-1)).square().sum(-1).mean()  # eq. 1


class MeanTeacher(Technique):
    """A penalty on the difference of student and teacher; the teacher predicts without dropout.

    The average is that of `ema`, evaluated and kept like it, so leave `ema` out.
    """

    name = "mean_teacher"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://arxiv.org/abs/1703.01780"

    decay: float = Field(default=0.99, gt=0, lt=1)  # of the average
    weight: PositiveFloat = 10.0  # of the difference, at the end of the ramp
    ramp: float = Field(default=0.3, gt=0, le=1)  # part of training in which the weight grows
    per_row: PositiveInt = 3  # unlabelled rows for each labelled one
    strong: Strong = None  # what the student sees; None: the same rows, for dropout tells the two apart

    def beside(self, kind: Kind) -> Beside:
        """One view of the unlabelled rows, or two."""
        return Beside(self.per_row, None if self.strong is None else strong_view(self.strong, kind))

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is, for rows of one class each."""
        one_class_each(self.name, ctx.problem_type)
        return model

    def callbacks(self) -> list[TrainerCallback]:
        """The one that averages."""
        return [Teacher(self.name, partial(share, self.decay))]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight, as far as it has grown, times the difference; 0 before there is an average."""
        teacher, inputs = TEACHERS[bare(model)], batch["unlabelled"]
        student = unlabelled_logits(model, batch, "unlabelled" if self.strong is None else "strong")
        if not teacher.average:
            return student.sum() * 0
        said = predicted(bare(model), teacher.average, inputs)
        return self.weight * ramp(teacher.progress, self.ramp) * disagreement(student, said)


class Teacher(Averaged):
    """The average, where penalties find it."""

    progress = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """As for any average."""
        super().on_train_begin(args, state, control, **kwargs)
        TEACHERS[kwargs["model"]] = self

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The ramp."""
        self.progress = state.global_step / state.max_steps

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The average is the model."""
        super().on_train_end(args, state, control, **kwargs)
        TEACHERS.pop(kwargs["model"], None)


TEACHERS: MutableMapping[nn.Module, Teacher] = WeakKeyDictionary()


@torch.no_grad()
def predicted(model: nn.Module, weights: dict[str, Tensor], inputs: Any) -> Tensor:
    """Logits (U, C) of the model with other weights, without dropout; the model is as it was."""
    model.eval()
    try:
        logits: Tensor = functional_call(model, weights, (), dict(inputs)).logits
    finally:
        model.train()
    return logits.float()

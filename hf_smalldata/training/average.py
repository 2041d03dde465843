"""Averages of weights along the way of a training: evaluated, kept and saved in place of the weights themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.errors import UserError
from hf_smalldata.nn.norms import has_statistics, renew_statistics
from hf_smalldata.tasks.task import Batch
from hf_smalldata.training.batching import BESIDE_INPUTS, to_device
from hf_smalldata.training.best import learnt, read_weights

logger = logging.getLogger(__name__)

AVERAGED: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()  # models in training -> who averages their weights


class Averaged(TrainerCallback):
    """Average what learns after each step; training itself goes on with its own weights.

    Each evaluation sees the average, and so does `KeepBest`, which puts the best one back. Without evaluations the
    average is put in at the end. Checkpoints hold the weights, and the average beside them.

    Args:
        name: of the technique.
        share: (how many weights are in the average, progress of training in [0, 1]) -> what the newest weights make
            up of the next average; None leaves them out.
        renew: whether statistics of BatchNorm are taken anew from the training rows; else they are averaged too.
    """

    def __init__(self, name: str, share: Callable[[int, float], float | None], renew: bool = False) -> None:
        self.name, self.share, self.renew = name, share, renew
        self.average: dict[str, Tensor] = {}
        self.count, self.evaluated = 0, False
        self.aside: dict[str, Tensor] = {}  # the weights while the average takes their place

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A resumed training goes on with the average of its first part."""
        model: nn.Module = kwargs["model"]
        if model in AVERAGED:
            raise UserError(f"{self.name}: {AVERAGED[model]} averages the weights already; leave one of them out")
        AVERAGED[model] = self.name
        if state.global_step:
            file = self._file(args, state)
            if not file.exists():
                raise UserError(f"--resume: checkpoint-{state.global_step} has no average of {self.name}, since it was "
                                "made without it or cut short; start anew without --resume")  # fmt: skip
            self.average, facts = read_weights(file, next(model.parameters()).device)
            self.count, self.evaluated = int(facts["count"]), facts["evaluated"] == "True"

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Take the new weights in."""
        share = self.share(self.count, state.global_step / state.max_steps)
        if share is not None:
            now = learnt(kwargs["model"])
            if self.average:
                take_in(self.average, now, share)
            else:
                self.average = _copies(now)
            self.count += 1
        self._before_evaluation(control, args, kwargs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An evaluation may follow."""
        self._before_evaluation(control, args, kwargs)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Training goes on with its own weights."""
        self.evaluated = True
        _put(kwargs["model"], self.aside)
        self.aside = {}

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The average goes into the checkpoint."""
        if state.is_world_process_zero:
            facts = {"count": str(self.count), "evaluated": str(self.evaluated)}
            weights = {name: tensor.cpu() for name, tensor in self.average.items()}
            save_file(weights, self._file(args, state), metadata=facts)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Put the average in, unless evaluations have chosen one."""
        AVERAGED.pop(kwargs["model"], None)
        if not self.average:
            logger.warning("%s: had no effect, training ended before the first weights were averaged", self.name)
        elif not self.evaluated:
            self._put_in(args, kwargs)

    def _before_evaluation(self, control: TrainerControl, args: TrainingArguments, kwargs: dict[str, Any]) -> None:
        if control.should_evaluate and self.average and not self.aside:
            self.aside = _copies(learnt(kwargs["model"]))
            self._put_in(args, kwargs)

    def _put_in(self, args: TrainingArguments, kwargs: dict[str, Any]) -> None:
        model: nn.Module = kwargs["model"]
        _put(model, self.average)
        if self.renew and has_statistics(model):
            renew_statistics(model, _batches(kwargs["train_dataloader"], args))

    def _file(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / f"{self.name}.safetensors"


@dataclass
class Average:
    """A running mean, in double precision, of all that training changes."""

    count: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, model: nn.Module) -> None:
        """One model more."""
        self.count += 1
        for name, tensor in learnt(model).items():
            value = tensor.detach().cpu().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    @torch.no_grad()
    def put_into(self, model: nn.Module) -> None:
        """Give a model of the same architecture, trained from the same pretrained weights, the mean."""
        for name, tensor in learnt(model).items():
            tensor.copy_(self.sums[name] / self.count)


@torch.no_grad()
def take_in(average: dict[str, Tensor], new: dict[str, Tensor], share: float) -> None:
    """(1 - share) average + share new, in place; of whole numbers, such as counts of batches, the new ones."""
    for name, tensor in new.items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, share)
        else:
            average[name].copy_(tensor)


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def _put(model: nn.Module, weights: dict[str, Tensor]) -> None:
    now = learnt(model)
    for name, tensor in weights.items():
        now[name].copy_(tensor)


def _batches(loader: Any, args: TrainingArguments) -> Iterator[Batch]:
    """Inputs of all whole batches of training rows in their order, the same in every process; draws nothing."""
    rows, size = loader.dataset, args.train_batch_size
    for start in range(0, max(len(rows) - size, 0) + 1, size):
        batch = loader.collate_fn([rows[at] for at in range(start, min(start + size, len(rows)))])
        inputs = {name: tensor for name, tensor in batch.items() if name not in BESIDE_INPUTS}
        yield to_device(inputs, args.device)

"""A network that tells domains apart, for techniques that make this hard; it is there while a training lasts."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.nn import functional
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.nn.reverse import reverse
from hf_smalldata.technique import ParamGroups
from hf_smalldata.techniques.domain.pooled import bare, last_layer
from hf_smalldata.training.best import TRAINING_ONLY


def ramp(progress: float) -> float:
    """λ: 0 at the start of training, near 1 at its end. progress: in [0, 1]."""
    return 2 / (1 + math.exp(-10 * progress)) - 1  # section 5.2.2 of https://arxiv.org/abs/1505.07818


class Adversary(nn.Module):
    """Features (N, d) -> a logit for each row (N,): above 0 for labelled rows."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        self.progress = 0.0  # of training

    def forward(self, features: Tensor) -> Tensor:
        """Logits, with the gradient that goes back into the features reversed."""
        logits: Tensor = self.layers(reverse(features, ramp(self.progress))).squeeze(-1)
        return logits


def domain_loss(labelled: Tensor, unlabelled: Tensor, weights: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Binary cross-entropy of logits (B,) and (U,), each side's mean weighing alike, with weights of the rows or 1."""
    one = functional.binary_cross_entropy_with_logits(labelled, torch.ones_like(labelled), reduction="none")
    two = functional.binary_cross_entropy_with_logits(unlabelled, torch.zeros_like(unlabelled), reduction="none")
    a, b = (torch.ones_like(one), torch.ones_like(two)) if weights is None else weights
    return ((a * one).sum() / a.sum() + (b * two).sum() / b.sum()) / 2


class Duel(TrainerCallback):
    """Hangs an adversary beside the model, tells it how far training is, and takes it away again.

    Args:
        hidden: its width.
        width: (features of a row d, classes C) -> what it reads of a row.
    """

    def __init__(self, hidden: int, width: Any = None) -> None:
        self.hidden, self.width = hidden, width

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before the optimiser is made."""
        if args.num_train_epochs > 0 or args.max_steps > 0:
            model: nn.Module = kwargs["model"]
            layer = last_layer(model)
            width = layer.in_features if self.width is None else self.width(layer.in_features, layer.out_features)
            hang(model, Adversary(width, self.hidden).to(layer.weight.device))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The ramp."""
        adversary_of(kwargs["model"]).progress = state.global_step / state.max_steps

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """What is saved has no adversary."""
        delattr(kwargs["model"], TRAINING_ONLY)
        del kwargs["model"]._ddp_params_and_buffers_to_ignore


def hang(model: nn.Module, adversary: Adversary) -> None:
    """Put an adversary beside a model; the mean of its gradients over processes is taken here.

    DistributedDataParallel takes it for the parameters that the model's own forward pass uses, and these are not.
    """
    setattr(model, TRAINING_ONLY, adversary)
    ignored: Any = [f"{TRAINING_ONLY}.{name}" for name, _ in adversary.named_parameters()]
    model._ddp_params_and_buffers_to_ignore = ignored
    for parameter in adversary.parameters():
        parameter.register_hook(lambda gradient: reduce(gradient, "mean"))  # type: ignore[no-untyped-call]


def adversary_of(model: nn.Module) -> Adversary:
    """The one beside a model in training."""
    found: Adversary = getattr(bare(model), TRAINING_ONLY)
    return found


def at_its_own_rate(groups: ParamGroups, model: nn.Module, learning_rate: float) -> ParamGroups:
    """Optimiser groups in which the adversary, which begins at random weights, has a learning rate of its own."""
    own = {id(parameter) for parameter in adversary_of(model).parameters()}
    made = [{**group, "params": [p for p in group["params"] if id(p) not in own]} for group in groups]
    more = {"lr": learning_rate}
    theirs = [{**group, "params": [p for p in group["params"] if id(p) in own], **more} for group in groups]
    return [*made, *(group for group in theirs if group["params"])]

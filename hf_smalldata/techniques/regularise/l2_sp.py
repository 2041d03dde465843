"""L2-SP: weight decay towards the pretrained weights instead of towards zero.

Helps when rows are few and near to what the network was pretrained on: what it knows stays unless the rows say
otherwise. Hurts when they are far from it. Does little with adapters, which start at no change and are decayed to it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, MutableMapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import ALL_TASKS, ParamGroups, Technique

logger = logging.getLogger(__name__)

# A parameter of a body -> its weights before the first step
STARTS: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()


def squared_distance(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Tensor:
    """Sum of squared differences of (weights, start), a scalar; None starts at zero. 0 where there are no pairs."""
    parts = [(weights if start is None else weights - start).square().sum() for weights, start in pairs]
    return torch.stack(parts).sum() if parts else torch.zeros(())


class L2Sp(Technique):
    """Pull the body to where it started, and the new head to zero; weight decay is off, since this is its place.

    The start is that of training, after all `model` hooks; a resumed training keeps it. All weights are pulled, norms
    and biases too, as in the paper.
    """

    name = "l2_sp"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1802.01483"
    keeps_inputs: ClassVar[bool] = True

    alpha: NonNegativeFloat = 0.1  # of the body
    beta: NonNegativeFloat = 0.01  # of the head

    def param_groups(self, groups: ParamGroups, model: nn.Module) -> ParamGroups:
        """The groups without decay to zero."""
        return [{**group, "weight_decay": 0.0} for group in groups]

    def callbacks(self) -> list[TrainerCallback]:
        """The one that remembers where the body starts."""
        return [Start()]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """α / 2 |w - w0|² of the body + β / 2 |w|² of the head."""
        pairs = [(parameter, STARTS.get(parameter)) for parameter in model.parameters() if parameter.requires_grad]
        body = squared_distance(pair for pair in pairs if pair[1] is not None)
        head = squared_distance(pair for pair in pairs if pair[1] is None)
        return self.alpha / 2 * body + self.beta / 2 * head  # section 3, L²-SP


class Start(TrainerCallback):
    """Keeps a copy of the body's weights before training, and before a checkpoint is read."""

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer is made, and no step is done."""
        model: nn.Module = kwargs["model"]
        head = {id(p) for name in head_names(model) for p in model.get_submodule(name).parameters()}
        body = [p for p in model.parameters() if p.requires_grad and id(p) not in head]
        if not body:
            logger.warning("l2_sp: alpha had no effect, nothing but the head of %s learns", type(model).__name__)
        for parameter in body:
            STARTS[parameter] = parameter.detach().clone()

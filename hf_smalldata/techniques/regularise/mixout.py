"""Mixout: in each training step a random share of the weights is the pretrained ones.

Helps when a large network is fine-tuned on few rows and some seeds fail: each update must do in company of the
pretrained weights, so that none strays far from them. Costs a copy of the body. Hurts when rows are far from
what the network was pretrained on, and does nothing for frozen layers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.pytorch_utils import Conv1D

from hf_smalldata.nn.heads import head_names
from hf_smalldata.technique import ALL_TASKS, Technique

logger = logging.getLogger(__name__)

LAYERS = (nn.Linear, Conv1D, nn.modules.conv._ConvNd)


def mixout(weights: Tensor, start: Tensor, p: float) -> Tensor:
    """Each of the weights is that of the start with probability p; scaled so that the mean stays that of `weights`."""
    mixed = torch.where(torch.rand_like(weights) < p, start, weights)
    return (mixed - p * start) / (1 - p)


class Mixout(Technique):
    """Mix the weight matrices of the body's linear and convolutional layers with those that training starts from.

    The head is new and has no others to mix with; biases, norms and embeddings stay out, as in the authors' code, and
    weights that are made of others, such as those of wav2vec 2.0's positions. They
    also set dropout to 0, in whose place it stands: put `dropout: {hidden: 0, attention: 0}` beside it. Evaluation and
    the saved model have the learnt weights; a resumed training mixes with the same start.
    """

    name = "mixout"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1909.11299"

    p: float = Field(default=0.7, gt=0, lt=1)  # towards 1 training comes ever nearer to leaving the body as it is

    def callbacks(self) -> list[TrainerCallback]:
        """The one that mixes while training lasts."""
        return [Mixing(self.p)]


class Mixing(TrainerCallback):
    """Hooks on layers whose weights learn, from before a checkpoint is read to the end of training."""

    def __init__(self, p: float) -> None:
        self.p = p
        self.handles: list[RemovableHandle] = []

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer is made, and no step is done: the weights are those to mix with."""
        model: nn.Module = kwargs["model"]
        head = {module for name in head_names(model) for module in model.get_submodule(name).modules()}
        layers = [module for module in model.modules() if isinstance(module, LAYERS) and module not in head]
        learning = [layer for layer in layers if "weight" in layer._parameters and layer.weight.requires_grad]
        if not learning:
            logger.warning("mixout: had no effect, no layer in the body of %s learns", type(model).__name__)
        for layer in learning:
            self.handles += mix(layer, partial(mixout, start=layer.weight.detach().clone(), p=self.p))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The layers are ordinary ones again."""
        for handle in self.handles:
            handle.remove()
        self.handles = []


def mix(layer: nn.Module, change: Callable[[Tensor], Tensor]) -> tuple[RemovableHandle, RemovableHandle]:
    """Let each pass of a layer in training mode see changed weights; they are its own again when the pass ends.

    Parameters keep their names and places, so that optimisers, checkpoints and adapters see an ordinary layer.
    """
    own = layer._parameters

    def before(module: nn.Module, _args: Any) -> None:
        if module.training:
            learnt.append(own["weight"])
            own["weight"] = change(module.get_parameter("weight"))  # type: ignore[assignment]

    def after(_module: nn.Module, _args: Any, _output: Any) -> None:
        if learnt:
            own["weight"] = learnt.pop()

    learnt: list[nn.Parameter | None] = []
    return layer.register_forward_pre_hook(before), layer.register_forward_hook(after, always_call=True)

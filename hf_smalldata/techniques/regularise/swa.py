"""SWA: stochastic weight averaging, the plain mean of the weights over the last part of training.

Helps when a network moves about a wide minimum at a learning rate that stays high: the mean lies nearer to its middle,
which holds on fresh rows where the edge does not. Does little with a learning rate that decays to zero, which is the
default: set `train.lr_scheduler_type: constant_with_warmup`.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field
from transformers import TrainerCallback

from hf_smalldata.technique import ALL_TASKS, Technique
from hf_smalldata.training.average import Averaged


def share(fraction: float, count: int, progress: float) -> float | None:
    """Of the newest weights in the mean; None before the last `fraction` of training."""
    return 1 / (count + 1) if progress > 1 - fraction else None


class Swa(Technique):
    """Average the weights after every step of the last part of training.

    The paper averages once an epoch (algorithm 1, c); few rows make few epochs, and every step costs little more.
    Statistics of BatchNorm are taken anew from the training rows before each evaluation, as the paper asks, since
    no weights were ever trained with those of the mean. With validation rows the best evaluation is kept.
    """

    name = "swa"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1803.05407"

    fraction: float = Field(default=0.25, gt=0, le=1)  # of training, at its end; 1 averages from the first step on

    def callbacks(self) -> list[TrainerCallback]:
        """The one that averages."""
        return [Averaged(self.name, partial(share, self.fraction), renew=True)]

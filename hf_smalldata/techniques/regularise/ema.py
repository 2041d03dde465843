"""EMA: an exponential moving average of the weights is evaluated and kept instead of the last weights.

Helps when training on few rows is noisy from step to step: the average is calmer, better calibrated and less
misled by wrong labels. Costs a copy of what learns. Does little where the learning rate decays to nothing, since the
last weights stand still then, and hurts when training is shorter than the average is long.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field
from transformers import TrainerCallback

from hf_smalldata.technique import ALL_TASKS, Technique
from hf_smalldata.training.average import Averaged


def share(decay: float, count: int, progress: float) -> float:
    """Of the newest weights in the average: 1 - decay, and more while the average holds few of them."""
    return 1 - min(decay, (1 + count) / (10 + count))


class Ema(Technique):
    """Average the weights over about the last tenth of the steps so far, and the last 1 / (1 - decay) at most.

    With validation rows the best average is kept. The tenth is that of TensorFlow's moving averages, whose start is
    soon forgotten: few rows make few steps. Statistics of BatchNorm are averaged with the weights.
    """

    name = "ema"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/2411.18704"

    decay: float = Field(default=0.99, gt=0, lt=1)  # at most 100 steps; towards 1 always a tenth

    def callbacks(self) -> list[TrainerCallback]:
        """The one that averages."""
        return [Averaged(self.name, partial(share, self.decay))]

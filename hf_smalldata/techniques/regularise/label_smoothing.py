"""Label smoothing: targets of 1 - ε and ε shared over all classes instead of 1 and 0.

Helps when labels are noisy or the network grows over-confident on few rows. Does harm to calibration when ε is large,
and nothing to accuracy that more rows would not do better.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import ALL_TASKS, Context, Technique


def smooth(targets: Tensor, epsilon: float) -> Tensor:
    """(1 - ε) targets + ε / C. targets: (..., C) -> (..., C), the mass of a row is kept."""
    return (1 - epsilon) * targets + epsilon * targets.sum(-1, keepdim=True) / targets.shape[-1]  # section 7


class LabelSmoothing(Technique):
    """Smooth the targets of every training batch."""

    name = "label_smoothing"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1512.00567"
    keeps_inputs: ClassVar[bool] = True

    epsilon: float = Field(default=0.1, gt=0, lt=1)

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is; smoothing has a meaning only where the classes of a row exclude each other."""
        if ctx.problem_type not in ("single_label_classification", "token_classification"):
            raise UserError(f"label_smoothing: for single-label rows, and these are {ctx.problem_type}; leave it out")
        return model

    def batch(self, batch: Batch, model: nn.Module) -> Batch:
        """Targets (B, C) -> smoothed targets (B, C)."""
        return {**batch, "labels": smooth(batch["labels"], self.epsilon)}

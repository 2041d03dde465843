"""Focal loss: rows that the network is sure of count less, so that the hard ones lead.

Helps when one class is so common that its easy rows drown the others, as words without a name do among tokens. Hurts
when labels are noisy, since a wrong label looks like a hard row, and does little where classes are balanced.
"""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hf_smalldata.nn.losses import Terms, refuse_regression
from hf_smalldata.technique import ALL_TASKS, Context, Technique


def focal(cost: Tensor, gamma: float) -> Tensor:
    """(1 - p)^γ of the cost -log p, for each of any shape."""
    doubt = -torch.expm1(-cost)  # 1 - p
    tiny = torch.finfo(cost.dtype).tiny  # below γ = 1 the slope at a doubt of zero has no bound
    return doubt.clamp(min=tiny) ** gamma * cost  # eq. 4


class Focal(Technique):
    """Multiply what each row costs by how far the network is from its label.

    The paper's α (eq. 5) is `data.class_weights`, which hold for every loss. Soft targets share the loss out among
    classes, each with its own factor; each label of a multi-label row is a decision of its own, as in the paper.
    """

    name = "focal"
    tasks = ALL_TASKS
    paper = "https://arxiv.org/abs/1708.02002"

    gamma: PositiveFloat = 2.0  # towards 0 it is cross-entropy; at 2 a row of p = 0.9 counts a hundredth

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is; a number has no probability to be sure of."""
        refuse_regression(self.name, ctx.problem_type)
        return model

    def loss_terms(self, terms: Terms) -> Terms:
        """Cross-entropy -> focal loss."""
        return terms._replace(cost=focal(terms.cost, self.gamma))

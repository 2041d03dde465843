"""MCC: on unlabelled rows, no two classes may be taken for each other.

Helps when the model is unsure in the new domain about which of two classes it sees, with no second network and no
matching of distributions: it holds for any kind of shift, and as well for unlabelled rows of the same domain. Hurts
where the model is sure and wrong, which it makes surer, and does little where a class is missing from the unlabelled
rows.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, one_class_each, unlabelled_logits


def class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """Mean over classes of the probability of being taken for another one. logits (U, C) -> scalar in [0, 1].

    Rows are weighed by the sureness of their prediction, 1 + e^(-H), whose gradient does not count; each class's
    confusions add up to 1.
    """
    y = (logits / temperature).softmax(-1)  # eq. 1
    weights = 1 + torch.exp(-torch.special.entr(y.detach()).sum(-1))  # eq. 4
    weights = len(y) * weights / weights.sum()
    confusion = (y * weights[:, None]).T @ y  # eq. 5
    confusion = confusion / confusion.sum(1, keepdim=True)  # eq. 6
    return 1 - confusion.diagonal().mean()  # eq. 7


class Mcc(Technique):
    """A penalty on the predictions for unlabelled rows."""

    name = "mcc"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    keeps_inputs: ClassVar[bool] = True  # unlabelled rows are as cached as labelled ones
    paper = "https://arxiv.org/abs/1912.03699"

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    temperature: PositiveFloat = 2.5  # of the predictions: above 1, unsure ones say which classes are confused
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is, for rows of one class each."""
        one_class_each(self.name, ctx.problem_type)
        return model

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the confusion."""
        return self.weight * class_confusion(unlabelled_logits(model, batch), self.temperature)

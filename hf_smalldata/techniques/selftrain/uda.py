"""UDA: the prediction for an unlabelled row, sharpened, is what the strongly changed row must be predicted as.

Helps as FixMatch does, and where the augmentation is a good paraphrase: back-translation was the paper's for texts.
Soft targets teach from more rows than labels of sure ones alone. Costs about twice `per_row` times the training. Hurts
where unlabelled rows hold other classes, or changes turn one class into another.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Context, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, one_class_each, unlabelled_logits
from hf_smalldata.techniques.selftrain.views import Strong, strong_view


def sharpened_consistency(weak: Tensor, strong: Tensor, temperature: float, confidence: float) -> Tensor:
    """Mean over U rows of KL(sharpened weak || strong); rows below the confidence count 0. logits (U, C), (U, C).

    Sharpened is softmax(logits / temperature), the confidence that of the plain softmax; no gradient goes through it.
    """
    weak = weak.detach()
    target, said = (weak / temperature).softmax(-1), strong.log_softmax(-1)
    each = (torch.special.xlogy(target, target) - target * said).sum(-1)  # eq. 1
    sure = weak.softmax(-1).max(-1).values >= confidence
    loss: Tensor = (sure * each).mean()  # section 2.3: masking and sharpening
    return loss


class Uda(Technique):
    """A penalty on the strong views of unlabelled rows. The annealing of the labelled loss (TSA) is left out.

    TSA keeps a network from learning few labels by heart, which early stopping and smoothing do here.
    """

    name = "uda"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled"})
    paper = "https://arxiv.org/abs/1904.12848"

    temperature: float = Field(default=0.4, gt=0, le=1)  # of the targets: 1 leaves them as they are
    confidence: float = Field(default=0.8, ge=0, lt=1)  # least probability of a row that counts
    weight: PositiveFloat = 1.0  # beside the cross-entropy
    per_row: PositiveInt = 3  # unlabelled rows for each labelled one
    strong: Strong = None

    def beside(self, kind: Kind) -> Beside:
        """Two views of the unlabelled rows."""
        return Beside(self.per_row, strong_view(self.strong, kind))

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is, for rows of one class each."""
        one_class_each(self.name, ctx.problem_type)
        return model

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the consistency."""
        with torch.no_grad():
            weak = unlabelled_logits(model, batch)
        strong = unlabelled_logits(model, batch, "strong")
        return self.weight * sharpened_consistency(weak, strong, self.temperature, self.confidence)

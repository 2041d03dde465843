"""CDAN: DANN whose second network sees the class predictions too, so that like classes are brought together.

Helps where DANN would lay one class upon another: features and predictions are judged as one. Sure predictions count
more than unsure ones (CDAN+E). Costs a second network that is gone after training. Does little with a model that is
mostly wrong in the new domain, whose predictions mislead it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Context, Need, ParamGroups, Technique
from hf_smalldata.techniques.domain.adversary import Duel, adversary_of, at_its_own_rate, domain_loss
from hf_smalldata.techniques.domain.pooled import (
    POOLED_TASKS,
    Pooled,
    labelled_features,
    one_class_each,
    unlabelled_pass,
)

WIDEST = 4096  # products; above, as many random ones stand for them


def conditioned(features: Tensor, probabilities: Tensor) -> Tensor:
    """All products of a row's features and class probabilities. (N, d), (N, C) -> (N, C d), or (N, WIDEST).

    Above WIDEST of them it is ⊙ of random projections of both (eq. 7), the same in every call.
    """
    d, classes = features.shape[1], probabilities.shape[1]
    if d * classes <= WIDEST:
        return (probabilities[:, :, None] * features[:, None]).flatten(1)  # f ⊗ g
    generator = torch.Generator().manual_seed(d * classes)
    first, second = (torch.randn(width, WIDEST, generator=generator).to(features) for width in (d, classes))
    made: Tensor = (features @ first) * (probabilities @ second) / WIDEST**0.5
    return made


def width_of(d: int, classes: int) -> int:
    """Of `conditioned`."""
    return min(d * classes, WIDEST)


def sureness(probabilities: Tensor) -> Tensor:
    """1 + e^(-H) of each row's class probabilities: 2 for a sure one, 1 + 1 / C for an even one. (N, C) -> (N,)."""
    entropy = torch.special.entr(probabilities).sum(-1)
    return 1 + torch.exp(-entropy)  # eq. 8


class Cdan(Technique):
    """The adversary reads features times predictions; no gradient goes back through the predictions or the weights."""

    name = "cdan"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled", "features"})
    keeps_inputs: ClassVar[bool] = True  # unlabelled rows are as cached as labelled ones
    paper = "https://arxiv.org/abs/1705.10667"

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    entropy: bool = True  # whether sure rows count more: CDAN+E
    hidden: PositiveInt = 256  # features of the adversary's two hidden layers
    learning_rate: PositiveFloat = 1e-3  # of the adversary
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def model(self, model: nn.Module, ctx: Context) -> nn.Module:
        """The model as it is, for rows of one class each."""
        one_class_each(self.name, ctx.problem_type)
        return model

    def param_groups(self, groups: ParamGroups, model: nn.Module) -> ParamGroups:
        """The adversary's parameters in groups of their own."""
        return at_its_own_rate(groups, model, self.learning_rate)

    def callbacks(self) -> list[TrainerCallback]:
        """Those that note features, and bring the adversary."""
        return [Pooled(), Duel(self.hidden, width_of)]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the adversary's loss."""
        target, logits = unlabelled_pass(model, batch)
        sides = [(labelled_features(model), outputs.logits.float()), (target, logits)]
        adversary, said, sure = adversary_of(model), list[Tensor](), list[Tensor]()
        for features, each in sides:
            probabilities = each.detach().softmax(-1)
            said.append(adversary(conditioned(features, probabilities)))
            sure.append(sureness(probabilities) if self.entropy else torch.ones(len(each), device=each.device))
        return self.weight * domain_loss(said[0], said[1], (sure[0], sure[1]))

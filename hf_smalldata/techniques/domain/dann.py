"""DANN: a second network tries to tell labelled from unlabelled rows, and the features learn to leave it at a loss.

Helps when the two domains differ in ways that no mean or spread shows, and some hundred unlabelled rows are at hand.
Costs a second network that is gone after training. Does harm where classes are balanced differently in the domains, and
training is less steady than with CORAL: run more seeds.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Need, ParamGroups, Technique
from hf_smalldata.techniques.domain.adversary import Duel, adversary_of, at_its_own_rate, domain_loss
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, Pooled, labelled_features, unlabelled_pass


class Dann(Technique):
    """The adversary reads what the head's last layer reads; its gradient is reversed, and grows over training.

    The adversary itself learns at full strength from the start, as in the paper: only what goes back is ramped.
    """

    name = "dann"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled", "features"})
    keeps_inputs: ClassVar[bool] = True  # unlabelled rows are as cached as labelled ones
    paper = "https://arxiv.org/abs/1505.07818"

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    hidden: PositiveInt = 256  # features of the adversary's two hidden layers
    learning_rate: PositiveFloat = 1e-3  # of the adversary
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def param_groups(self, groups: ParamGroups, model: nn.Module) -> ParamGroups:
        """The adversary's parameters in groups of their own."""
        return at_its_own_rate(groups, model, self.learning_rate)

    def callbacks(self) -> list[TrainerCallback]:
        """Those that note features, and bring the adversary."""
        return [Pooled(), Duel(self.hidden)]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the adversary's loss."""
        source, (target, _) = labelled_features(model), unlabelled_pass(model, batch)
        adversary = adversary_of(model)
        return self.weight * domain_loss(adversary(source), adversary(target))

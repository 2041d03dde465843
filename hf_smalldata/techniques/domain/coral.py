"""CORAL: make the covariance of labelled and unlabelled features alike.

Helps when labels come from one domain and the model serves another, of which rows without labels are at hand, and as a
first thing to try: it has one number to set and no second network to train. Does little where batches are far smaller
than features are wide, since their covariances are noise, and hurts where classes are balanced differently in the two
domains.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from transformers import TrainerCallback

from hf_smalldata.data.modality import Kind
from hf_smalldata.tasks.task import Batch
from hf_smalldata.technique import Beside, Need, Technique
from hf_smalldata.techniques.domain.pooled import POOLED_TASKS, Pooled, labelled_features, unlabelled_pass


def covariance_gap(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of covariances over 4d². source: (N, d), target: (M, d); N, M >= 2."""
    d = source.shape[1]
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * d * d)  # eq. 1


class Coral(Technique):
    """A penalty on the features that the head's last layer reads.

    A batch with one row on either side, as the last of an epoch may be, teaches nothing of spread and is passed over.
    """

    name = "coral"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled", "features"})
    paper = "https://arxiv.org/abs/1607.01719"

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def callbacks(self) -> list[TrainerCallback]:
        """The one that notes features."""
        return [Pooled()]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the gap."""
        source, (target, _) = labelled_features(model), unlabelled_pass(model, batch)
        if min(len(source), len(target)) < 2:
            return source.sum() * 0
        return self.weight * covariance_gap(source, target)

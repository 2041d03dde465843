"""MMD: make the distributions of labelled and unlabelled features alike, as kernels of several widths see them.

Helps as CORAL does, and where domains differ in more than spread: means and shapes count too. Costs nothing to speak
of. Hurts where classes are balanced differently in the two domains, for it then moves rows of one class to another.
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

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, times the mean squared distance of a batch


def discrepancy(source: Tensor, target: Tensor, widths: tuple[float, ...] = WIDTHS) -> Tensor:
    """Squared maximum mean discrepancy, mean k(s, s') + mean k(t, t') - 2 mean k(s, t), at least 0.

    k is the mean of Gaussian kernels exp(-|x - y|² / (w σ²)), σ² the mean of |x - y|² over pairs of unlike rows, whose
    gradient does not count: the multi-kernel of DAN with equal shares. All pairs count, a row with itself too.

    Args:
        source: (N, d).
        target: (M, d).
        widths: w.
    """
    both = torch.cat([source, target])
    norms = both.square().sum(-1)
    squared = (norms[:, None] + norms[None] - 2 * both @ both.T).clamp(min=0)
    sigma = squared.detach().sum() / max(len(both) * (len(both) - 1), 1)
    kernel = torch.stack([torch.exp(-squared / (width * sigma).clamp(min=1e-12)) for width in widths]).mean(0)
    n = len(source)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()  # eq. 3


class Mmd(Technique):
    """A penalty on the features that the head's last layer reads."""

    name = "mmd"
    tasks = POOLED_TASKS
    needs: ClassVar[frozenset[Need]] = frozenset({"unlabelled", "features"})
    paper = "https://arxiv.org/abs/1502.02791"

    weight: PositiveFloat = 1.0  # beside the cross-entropy
    per_row: PositiveInt = 1  # unlabelled rows for each labelled one

    def beside(self, kind: Kind) -> Beside:
        """As many unlabelled rows as are asked for."""
        return Beside(self.per_row)

    def callbacks(self) -> list[TrainerCallback]:
        """The one that notes features."""
        return [Pooled()]

    def penalty(self, model: nn.Module, batch: Batch, outputs: Any) -> Tensor:
        """Weight times the discrepancy."""
        source, (target, _) = labelled_features(model), unlabelled_pass(model, batch)
        return self.weight * discrepancy(source, target)

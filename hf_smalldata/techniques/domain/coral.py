"""CORAL: make the covariance of labelled and unlabelled features alike.

Helps when labels come from one domain and the model serves another, of which rows without labels are at hand: it has
one number to set and no second network to train. Does little where batches are far smaller than features are wide,
since their covariances are noise, and hurts where classes are balanced differently in the two domains.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_smalldata.techniques.domain.pooled import Alignment


def covariance_gap(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of covariances over 4d². source: (N, d), target: (M, d); N, M >= 2."""
    d = source.shape[1]
    return (torch.cov(source.T) - torch.cov(target.T)).square().sum() / (4 * d * d)  # eq. 1


class Coral(Alignment):
    """The gap is that of covariances."""

    name = "coral"
    paper = "https://arxiv.org/abs/1607.01719"

    def gap(self, source: Tensor, target: Tensor) -> Tensor:
        """Of a batch."""
        return covariance_gap(source, target)

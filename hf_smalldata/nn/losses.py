"""Losses on soft targets: one for each problem type."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError


class Terms(NamedTuple):
    """A loss before its terms are added up: Σ mass * cost / Σ weight over N rows (for tokens, over all tokens).

    The K terms of a row are what may be true of it: one for each class, two (yes and no) for each of several labels.
    """

    cost: Tensor  # (N, K) of each, were it true: the negative log-likelihood, or a squared error
    mass: Tensor  # (N, K) by how much each is true, times its class weight; not negative
    weight: Tensor  # (N,) of a row in the mean; 0 where there is nothing to learn

    def mean(self) -> Tensor:
        """The loss, a scalar."""
        return self.over(self.weight.sum())

    def over(self, weight: Tensor) -> Tensor:
        """The sum of all terms over another weight (scalar): of several processes' rows together."""
        return (self.mass * self.cost).sum() / weight


def terms(logits: Tensor, targets: Tensor, problem_type: ProblemType, class_weights: Tensor | None = None) -> Terms:
    """What `loss` is the mean of; the same arguments."""
    logits, targets = logits.float().flatten(0, -2), targets.flatten(0, -2)  # (B, T, C) -> (N, C)
    if problem_type in ("single_label_classification", "token_classification"):
        mass = targets if class_weights is None else targets * class_weights
        return Terms(-functional.log_softmax(logits, dim=-1), mass, mass.sum(-1))
    each = logits.new_full((len(logits),), logits.shape[1])
    if problem_type == "multi_label_classification":
        yes = targets if class_weights is None else targets * class_weights
        cost = -functional.logsigmoid(torch.cat([logits, -logits], dim=-1))
        return Terms(cost, torch.cat([yes, 1 - targets], dim=-1), each)
    return Terms((logits - targets).square(), torch.ones_like(targets), each)


def soft_cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with probabilities as targets, the weighted mean over rows.

    Equals `torch.nn.functional.cross_entropy` with class indices (and its `weight`) when targets are one-hot.

    Args:
        logits: (B, C), or (B, T, C) for tokens.
        targets: of the same shape; they sum to 1 over classes, or to 0 where there is nothing to learn.
        class_weights: (C,), or None for 1 each.
    """
    return terms(logits, targets, "single_label_classification", class_weights).mean()


def loss(logits: Tensor, targets: Tensor, problem_type: ProblemType, class_weights: Tensor | None = None) -> Tensor:
    """The loss of a problem type; logits and targets (B, C), for regression (B, 1), for tokens (B, T, C)."""
    return terms(logits, targets, problem_type, class_weights).mean()


def refuse_regression(name: str, problem_type: ProblemType) -> None:
    """For techniques whose costs must be negative log-likelihoods.

    Raises:
        UserError: they are not.
    """
    if problem_type == "regression":
        raise UserError(f"{name}: expected rows with classes, and these are numbers (regression); leave it out")


def probabilities(logits: Tensor, problem_type: ProblemType) -> Tensor:
    """What a pipeline shows for logits (..., C): softmax, sigmoid, or the value itself for regression."""
    if problem_type in ("single_label_classification", "token_classification"):
        return logits.float().softmax(-1)
    if problem_type == "multi_label_classification":
        return logits.float().sigmoid()
    return logits.float()


def balanced_weights(counts: Tensor) -> Tensor:
    """N / (C * n_c), the usual balanced weights; classes without rows get 1. counts: (C,) -> (C,)."""
    weights = counts.sum() / (len(counts) * counts.clamp(min=1))
    return torch.where(counts > 0, weights, torch.ones_like(weights))

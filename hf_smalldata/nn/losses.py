"""Losses on soft targets: one for each problem type."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hf_smalldata.data.spec import ProblemType


def soft_cross_entropy(logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy with probabilities as targets, the weighted mean over rows.

    Equals `torch.nn.functional.cross_entropy` with class indices (and its `weight`) when targets are one-hot.

    Args:
        logits: (B, C), or (B, T, C) for tokens.
        targets: of the same shape; they sum to 1 over classes, or to 0 where there is nothing to learn.
        class_weights: (C,), or None for 1 each.
    """
    weighted = targets if class_weights is None else targets * class_weights
    return -(weighted * functional.log_softmax(logits, dim=-1)).sum() / weighted.sum()


def loss(logits: Tensor, targets: Tensor, problem_type: ProblemType, class_weights: Tensor | None = None) -> Tensor:
    """The loss of a problem type; logits and targets (B, C), for regression (B, 1), for tokens (B, T, C)."""
    logits = logits.float()
    if problem_type in ("single_label_classification", "token_classification"):
        return soft_cross_entropy(logits, targets, class_weights)
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=class_weights)
    return functional.mse_loss(logits, targets)


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

"""Gradient reversal: what lies above learns a task, and what lies below unlearns it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse(x: Tensor, strength: float) -> Tensor:
    """X as it is; its gradient times -strength (eq. 14 and 15 of https://arxiv.org/abs/1505.07818)."""
    made: Tensor = _Reverse.apply(x, strength)
    return made

"""Mixing the rows of a batch with each other: convex sums of inputs, of embeddings and of targets alike."""

from __future__ import annotations

import torch
from torch import Tensor


def mix(rows: Tensor, permutation: Tensor, weight: Tensor | float) -> Tensor:
    """A convex sum: weight · x_i + (1 - weight) · x_permutation(i). (B, ...) -> (B, ...).

    Args:
        rows: inputs, hidden states or targets (whose mass is kept), floating.
        permutation: (B,), the partner of each row.
        weight: in [0, 1]; one for all rows, or (B,).
    """
    share = torch.as_tensor(weight, dtype=rows.dtype, device=rows.device)
    if share.dim() == 1:
        share = share.reshape(-1, *[1] * (rows.dim() - 1))
    return rows[permutation].lerp(rows, share)  # eq. 1 and 2 of https://arxiv.org/abs/1710.09412


def partners(batch: Tensor) -> Tensor:
    """A random partner for each row of a batch (B, ...), from torch's global generator. -> (B,)."""
    return torch.randperm(len(batch)).to(batch.device)


def beta(alpha: float, shape: tuple[int, ...] = ()) -> Tensor:
    """Draws of Beta(alpha, alpha), from torch's global generator."""
    return torch.distributions.Beta(alpha, alpha).sample(shape)

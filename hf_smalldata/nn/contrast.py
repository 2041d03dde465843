"""Losses that pull rows of one class together and push classes apart, over all pairs of a batch at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize


def supervised_contrastive(z: Tensor, labels: Tensor, temperature: float = 0.1, hardness: float = 0.0) -> Tensor:
    """Khosla et al. 2020, eq. 2 (the sum outside of the logarithm), on rows of length 1.

    Args:
        z: embeddings (B, d).
        labels: classes (B,).
        temperature: small values look at the nearest rows only.
        hardness: above 0, rows of other classes count the more the nearer they are (Robinson et al. 2021, eq. 4): their
            weight is proportional to exp(hardness * cosine), and 1 on average.

    Returns:
        Mean over the rows that have another of their class in the batch; 0 if none has.
    """
    z = normalize(z, dim=1)
    cosine, others = z @ z.T, ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    same = (labels[:, None] == labels[None, :]) & others
    scores = (cosine / temperature).masked_fill(~others, -math.inf)
    if hardness > 0:
        unlike = labels[:, None] != labels[None, :]
        weight = (hardness * cosine.detach()).masked_fill(~unlike, -math.inf)
        weight = weight.log_softmax(1) + unlike.sum(1, keepdim=True).clamp(min=1).log()
        scores = torch.where(unlike, scores + weight, scores)
    of_all = torch.logsumexp(scores, dim=1, keepdim=True)
    mates = same.sum(1)
    each = ((of_all - cosine / temperature) * same).sum(1)[mates > 0] / mates[mates > 0]  # eq. 2
    return each.mean() if len(each) else z.sum() * 0


def least_contrastive(labels: Tensor) -> Tensor:
    """The lower bound of the loss above: the logarithm of a row's mates, for classes that have collapsed far apart."""
    mates = (labels[:, None] == labels[None, :]).sum(1) - 1
    return mates[mates > 0].float().log().mean() if bool((mates > 0).any()) else labels.new_zeros((), dtype=torch.float)


def cosine_similarity(z: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of each pair's cosine from 1 (one class) or 0 (two): SetFit's loss, over all pairs of the batch.

    Pairs of one class and of two weigh the same. z: (B, d), labels: (B,).
    """
    z = normalize(z, dim=1)
    others = ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    same = labels[:, None] == labels[None, :]
    error = (z @ z.T - same.float()).square()
    kinds = [error[pairs & others] for pairs in (same, ~same)]
    return torch.stack([kind.mean() for kind in kinds if len(kind)] or [z.sum() * 0]).mean()

"""Nearest class mean as a linear layer: a class is the mean of its rows, and a row belongs to the nearest one.

The least that can be learnt from rows, and so the least that can go wrong: with one or two rows a class it is as good
as any head. Distances are Euclidean, between directions (cosine), or relative to how rows scatter around the mean of
their class (Mahalanobis, that is linear discriminant analysis). All are linear in the row but for a term that all
classes share. No use where a class is several groups with little between them.

All maths is in float64. z: embeddings (N, d); targets: one-hot (N, C).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_smalldata.nn.linear_heads import Head, fit_scale, judging, over_all_classes, unit_scale

Metric = Literal["cosine", "euclidean", "mahalanobis"]
SHRINKAGES = (0.98, 0.95, 0.9, 0.8, 0.7, 0.5, 0.35, 0.2, 0.1)  # of the scatter, towards the same in all directions
PROBLEM: Literal["single_label_classification"] = "single_label_classification"
_LEAST = 1e-12  # of the mean squared feature: what float32 makes of equal rows


def prototypes(z: Tensor, targets: Tensor, metric: Metric = "mahalanobis") -> Head:
    """The layer whose highest logit is that of the nearest class mean.

    Logits are negative squared distances less what all classes share, or cosines times the length of the row over the
    mean length: the answer is exactly that of the cosine, its probability for a row of mean length. The scale, and the
    shrinkage of Mahalanobis, are those with the least log-loss where each row is left out of the mean and the scatter
    of its class, exactly and without refits. What a mean of one row less is worse by is taken off: it would speak for
    the other classes. A row whose class has no other row judges nothing.

    Args:
        z: (N, d).
        targets: (N, C), at least two classes of which occur.
        metric: of the distance. Mahalanobis is Euclidean where no class has two different rows.

    Returns:
        The head, and scale, shrinkage (of Mahalanobis), loo_loss and loo_accuracy.
    """
    z, targets = z.double(), targets.double()
    present = targets.any(0)
    targets = targets[:, present]
    judges = judging(targets)
    found = []
    for weight, bias, scores, chosen in _candidates(z, targets, metric):
        if not bool(judges.any()):
            found.append((0.0, Head(weight, bias, chosen), unit_scale(scores)))
            continue
        scale, loss = fit_scale(scores[judges], targets[judges], PROBLEM)
        right = (scores.argmax(1) == targets.argmax(1))[judges].double().mean()
        found.append((loss, Head(weight, bias, {**chosen, "loo_loss": loss, "loo_accuracy": float(right)}), scale))
    _, head, scale = min(found, key=lambda each: each[0])
    return over_all_classes(Head(scale * head.weight, scale * head.bias, {"scale": scale, **head.facts}), present)


class _Candidate(NamedTuple):
    weight: Tensor  # (C, d)
    bias: Tensor  # (C,)
    scores: Tensor  # (N, C), each by the means of all other rows
    chosen: dict[str, float]


def _candidates(z: Tensor, targets: Tensor, metric: Metric) -> list[_Candidate]:
    if metric == "cosine":
        return [_cosine(z, targets)]
    counts = targets.sum(0)
    residuals = z - targets @ ((targets.T @ z) / counts[:, None])
    if metric == "euclidean" or float(residuals.square().mean()) <= _LEAST * float(z.square().mean()):
        return [_nearest(z, targets, None)]
    _, s, vt = torch.linalg.svd(residuals, full_matrices=False)
    return [_nearest(z, targets, _Scatter(s, vt, len(z), shrinkage)) for shrinkage in SHRINKAGES]


def _cosine(z: Tensor, targets: Tensor) -> _Candidate:
    """Directions of the mean directions. Left out: the mean of the others, over the length of the mean of all."""
    counts, units = targets.sum(0), normalize(z)
    means = (targets.T @ units) / counts[:, None]
    lengths = means.norm(dim=1).clamp(min=_LEAST)
    own = (targets @ (targets.T @ units) - units).mul(units).sum(1) / (targets @ counts - 1).clamp(min=1)
    others = judging(targets)[:, None] & (targets > 0)
    scores = torch.where(others, (own / (targets @ lengths))[:, None], units @ (means / lengths[:, None]).T)
    weight = means / lengths[:, None] / z.norm(dim=1).mean().clamp(min=_LEAST)
    return _Candidate(weight, weight.new_zeros(len(weight)), scores, {})


class _Scatter(NamedTuple):
    """Rows around the mean of their class: covariance = (1 - shrinkage) v diag(s² / N) vt + shrinkage * mean variance.

    Without shrinkage it has no inverse where rows are fewer than features.
    """

    s: Tensor  # (K,)
    vt: Tensor  # (K, d)
    rows: int  # N
    shrinkage: float

    def whitened(self, x: Tensor) -> Tensor:
        """Rows (N, d), times the inverse root of the covariance: distances between them are Mahalanobis distances."""
        rest = self.shrinkage * float(self.s.square().sum()) / self.rows / x.shape[1]
        along = ((1 - self.shrinkage) * self.s.square() / self.rows + rest).rsqrt()
        return x / math.sqrt(rest) + ((x @ self.vt.T) * (along - 1 / math.sqrt(rest))) @ self.vt


def _nearest(z: Tensor, targets: Tensor, scatter: _Scatter | None) -> _Candidate:
    """Means, and the squared distance of each row to them as if it had not been there.

    Without row i, of residual r in a class of n, the mean moves by -r / (n - 1) and the scatter loses n / (n - 1) r r':
    a rank of one, which Sherman and Morrison's formula takes off the inverse.
    """
    x, share = (z, 0.0) if scatter is None else (scatter.whitened(z), (1 - scatter.shrinkage) / scatter.rows)
    counts = targets.sum(0)
    means = (targets.T @ x) / counts[:, None]
    n = targets @ counts
    grown = n / (n - 1).clamp(min=1)
    r = x - targets @ means
    squared, lost = r.square().sum(1), share * grown
    gain = lost / (1 - lost * squared)
    along = (x * r).sum(1, keepdim=True) - r @ means.T  # (x_i - mean_c)' r_i: (N, C)
    distances = torch.cdist(x, means).square() + gain[:, None] * along.square()
    own = grown.square() * squared * (1 + gain * squared)
    spread = (own / grown).sum() / (n > 1).sum().clamp(min=1)  # of a row around a mean that it is not in
    worse = spread * (1 / (n - 1).clamp(min=1) - 1 / n)  # variance of a mean of n - 1 rows, not n
    scores = -torch.where(targets > 0, (own - worse)[:, None], distances)
    weight, bias = 2 * means, -means.square().sum(1)
    if scatter is None:
        return _Candidate(weight, bias, scores, {})
    return _Candidate(scatter.whitened(weight), bias, scores, {"shrinkage": scatter.shrinkage})

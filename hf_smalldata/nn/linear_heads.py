"""Linear heads that are computed, not trained: ridge regression in closed form, and what all such heads share.

With a handful of rows a class the last layer is all that can be learnt well, and its one setting, how strongly it is
shrunk, decides how well. Leave-one-out reads that setting off the rows themselves, and here it costs no refit. No use
where the features are poor: a head cannot mend its body.

All maths is in float64. z: embeddings (N, d); targets (N, C): one-hot, multi-hot, or values for regression.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from hf_smalldata.data.made import Kin
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.nn.losses import balanced_weights

PENALTIES = tuple(np.logspace(2, -4, 13).tolist())  # times the mean squared singular value of the centred features
PRIOR_WEIGHT = 1.0  # of a penalty of 1: as if its logarithm were known to 1 before any row is seen
PENALTY = 1.0  # where leave-one-out can say nothing
SCALES = (1e-2, 1e3)  # standard deviations that logits may have
UNDECIDED = 2.0  # rows that belong to all classes alike, beside those that judge a scale
ABSENT = -20.0  # logit, beside a mean of 0, of a class without rows: a probability of 2e-9 at most
_LEAST = 1e-12  # of the mean squared feature: what float32 makes of equal rows


class Head(NamedTuple):
    """A linear layer, and what was chosen for it."""

    weight: Tensor  # (C, d)
    bias: Tensor  # (C,)
    facts: dict[str, float]  # JSON-ready


def ridge(
    z: Tensor, targets: Tensor, problem_type: ProblemType, balanced: bool = False, kin: Kin | None = None
) -> Head:
    """Least squares on the targets, with a penalty on the weights and none on the bias.

    The penalty has the least leave-one-out loss: of values the squared error, of classes the log-loss once the outputs
    are scaled, plus a weak prior. On real features, squared error and accuracy of classes chose worse penalties, and so
    did the log-loss without the prior. Outputs of classes are logits: they are multiplied by the scale with the least
    leave-one-out log-loss (see `fit_scale`). A row whose class has no other row judges nothing.

    Shares of classes count as known (see `_Solved.tilt`): else a row that is left out takes its share along, those that
    stay speak for the other classes, and with 8 rows a class that tilt drowns what the features say.

    Args:
        z: (N, d).
        targets: (N, C), at least two classes of which occur if rows have one class each.
        problem_type: of the rows.
        balanced: rows of all classes together weigh the same; for rows of one class each.
        kin: which rows are variants of which: they are left out together, and made rows judge nothing. Default: none.

    Returns:
        The head, and penalty (relative, see `PENALTIES`), scale, loo_loss and, for one class a row, loo_accuracy.
    """
    z, targets = z.double(), targets.double()
    single = problem_type == "single_label_classification"
    present = targets.any(0) if single else torch.ones(targets.shape[1], dtype=torch.bool)
    targets = targets[:, present]
    real = torch.ones(len(z), dtype=torch.bool) if kin is None else torch.from_numpy(kin.real)
    judges = judging(targets, real) if single else real
    weights = targets @ balanced_weights(targets.sum(0)) if balanced else torch.ones(len(z), dtype=torch.float64)
    solved = _Solved.of(z, targets, weights, None if kin is None else kin.leader)
    if bool(judges.any()):
        found = [_judged(solved, penalty, judges, problem_type) for penalty in PENALTIES]
        _, penalty, scale, facts = min(found, key=lambda each: each[0])
    else:
        penalty, facts = PENALTY, {}
        scale = unit_scale(solved.fitted(penalty))
    weight, bias = solved.layer(penalty)
    facts = {"penalty": penalty, "scale": scale, **facts}
    if problem_type == "regression":
        return Head(weight, bias, facts)
    head = Head(scale * weight, scale * (bias - _threshold(problem_type)), facts)
    return over_all_classes(head, present) if single else head


def loo_loss(z: Tensor, targets: Tensor, judges: Tensor) -> float:
    """The least mean squared leave-one-out error of a ridge head over all penalties: how good features are.

    Args:
        z: (N, d), N at least 2.
        targets: (N, C).
        judges: (N,) which rows are left out, at least one: of rows of one class each those that `judging` finds.
    """
    solved = _Solved.of(z.double(), targets.double(), torch.ones(len(z), dtype=torch.float64))
    errors = (solved.left_out(penalty) - solved.targets for penalty in PENALTIES)
    return min(float(error[judges].square().mean()) for error in errors)


def fit_scale(
    scores: Tensor, targets: Tensor, problem_type: ProblemType, weights: Tensor | None = None
) -> tuple[float, float]:
    """The factor that makes scores the most likely logits, and the mean log-loss with it, in nats.

    Some rows more, that belong to all classes alike, are shared out among the rows: without them the factor is infinite
    as soon as all rows are right (Platt 1999, section 2.2, for two classes and one row each).

    Args:
        scores: (N, C) of rows that the head has not learnt.
        targets: (N, C).
        problem_type: softmax for one class a row, sigmoid for several labels.
        weights: (N,) of rows.
    """
    count, classes = scores.shape
    even = 0.5 if problem_type == "multi_label_classification" else 1 / classes
    softened = (count * targets + UNDECIDED * even) / (count + UNDECIDED)
    shares = torch.ones(count, dtype=torch.float64) if weights is None else weights
    unit = unit_scale(scores)

    def loss(log_scale: float) -> float:
        each = log_losses(math.exp(log_scale) * scores, softened, problem_type)
        return float(shares @ each / shares.sum())  # convex in the scale: one minimum

    found = minimize_scalar(loss, bounds=tuple(math.log(each * unit) for each in SCALES), method="bounded")
    return math.exp(found.x), float(found.fun)


def unit_scale(scores: Tensor) -> float:
    """The factor that gives scores (N, C) a standard deviation of 1: a mild scale where no row can judge another."""
    return 1 / max(float(scores.std(correction=0)), 1e-12)


def judging(targets: Tensor, real: Tensor | None = None) -> Tensor:
    """Real rows (N,) whose class has another, so that leaving one out leaves an example. targets: one-hot (N, C)."""
    real = torch.ones(len(targets), dtype=torch.bool) if real is None else real
    return (targets @ targets[real].sum(0) > 1) & real


def over_all_classes(head: Head, present: Tensor) -> Head:
    """A head of classes that occur -> one of all classes: those without rows are never answered.

    The mean over classes is taken off, which softmax does not see: the highest logit is then 0 or more.

    Args:
        head: of the K classes that occur.
        present: which of the C classes these are (C,).
    """
    weight = head.weight.new_zeros(len(present), head.weight.shape[1])
    bias = head.bias.new_full((len(present),), ABSENT)
    weight[present] = head.weight - head.weight.mean(0)
    bias[present] = head.bias - head.bias.mean()
    return Head(weight, bias, head.facts)


class _Solved(NamedTuple):
    """Ridge regression for all penalties at once, by one thin decomposition: nothing here is larger than the features.

    sqrt(w) (z - mean) = u diag(s) vt, w being the rows' weights: Hastie et al., Elements of Statistical Learning,
    section 3.4.1; the bias, without a penalty, is what the means leave.
    """

    targets: Tensor  # (N, C)
    weights: Tensor  # (N,)
    mean: Tensor  # (d,)
    mean_target: Tensor  # (C,)
    u: Tensor  # (N, K), K = min(N, d)
    s: Tensor  # (K,)
    vt: Tensor  # (K, d)
    unit: float  # a penalty of 1
    groups: list[Tensor]  # (G, n) places of rows that are left out together; those of one number of rows lie together

    @classmethod
    def of(cls, z: Tensor, targets: Tensor, weights: Tensor, leader: np.ndarray[Any, Any] | None = None) -> _Solved:
        mean, mean_target = (weights @ values / weights.sum() for values in (z, targets))
        u, s, vt = torch.linalg.svd(weights.sqrt()[:, None] * (z - mean), full_matrices=False)
        unit = max(float(s.square().mean()), _LEAST * float(z.square().mean()), _LEAST)
        groups = _groups(np.arange(len(z)) if leader is None else leader)
        return cls(targets, weights, mean, mean_target, u, s, vt, unit, groups)

    def layer(self, penalty: float) -> tuple[Tensor, Tensor]:
        """Weight (C, d) and bias (C,)."""
        shrunk = self.s / (self.s.square() + penalty * self.unit)
        weight = (self._turned * shrunk[:, None]).T @ self.vt
        return weight, self.mean_target - weight @ self.mean

    def fitted(self, penalty: float) -> Tensor:
        """Predictions (N, C) of the rows learnt from."""
        kept = self.s.square() / (self.s.square() + penalty * self.unit)
        return self.mean_target + self.u @ (self._turned * kept[:, None]) / self.weights.sqrt()[:, None]

    def left_out(self, penalty: float) -> Tensor:
        """Predictions (N, C), each by the head of all rows that are not of its group: exact, by the hat matrix.

        Allen 1974 (PRESS): a row's error without it is its error with it over 1 - h. Of a group, with H the block of
        the hat matrix, the errors without it are (I - H)^-1 times those with it.
        """
        kept = self.s.square() / (self.s.square() + penalty * self.unit)
        roots, total = self.weights.sqrt(), self.weights.sum()
        errors, found = roots[:, None] * (self.targets - self.fitted(penalty)), torch.empty_like(self.targets)
        for rows in self.groups:
            u, w = self.u[rows], roots[rows]  # (G, n, K), (G, n)
            hat = (u * kept) @ u.mT + w[:, :, None] * w[:, None, :] / total
            without = torch.linalg.solve(torch.eye(rows.shape[1], dtype=hat.dtype) - hat, errors[rows])
            found[rows] = self.targets[rows] - without / w[:, :, None]
        return found

    @property
    def tilt(self) -> Tensor:
        """What leaving the group of each row out takes off the mean target (N, C)."""
        found, total = torch.empty_like(self.targets), self.weights.sum()
        for rows in self.groups:
            w = self.weights[rows]
            off = (w[:, :, None] * (self.targets[rows] - self.mean_target)).sum(1) / (total - w.sum(1))[:, None]
            found[rows] = off[:, None].expand(-1, rows.shape[1], -1)
        return found

    @property
    def _turned(self) -> Tensor:
        return self.u.T @ (self.weights.sqrt()[:, None] * (self.targets - self.mean_target))  # (K, C)


def _groups(leader: np.ndarray[Any, Any]) -> list[Tensor]:
    """Places of rows with one leader (G, n), for each number n of rows that a leader has."""
    order = np.argsort(leader, kind="stable")
    _, starts, counts = np.unique(leader[order], return_index=True, return_counts=True)
    return [torch.from_numpy(order[starts[counts == n][:, None] + np.arange(n)]) for n in np.unique(counts)]


def _judged(
    solved: _Solved, penalty: float, judges: Tensor, problem_type: ProblemType
) -> tuple[float, float, float, dict[str, float]]:
    """What a penalty costs, the penalty, the scale of its outputs, and what leave-one-out says of them."""
    predicted = solved.left_out(penalty) if problem_type == "regression" else solved.left_out(penalty) + solved.tilt
    predicted, targets, weights = predicted[judges], solved.targets[judges], solved.weights[judges]
    prior = PRIOR_WEIGHT * math.log(penalty / PENALTY) ** 2 / 2
    if problem_type == "regression":
        loss = float((predicted - targets).square().mean())
        return len(targets) / 2 * math.log(max(loss, _LEAST)) + prior, penalty, 1.0, {"loo_loss": loss}
    scale, loss = fit_scale(predicted - _threshold(problem_type), targets, problem_type, weights)
    facts = {"loo_loss": loss}
    if problem_type == "single_label_classification":
        facts["loo_accuracy"] = float((predicted.argmax(1) == targets.argmax(1)).double().mean())
    return len(targets) * loss + prior, penalty, scale, facts


def _threshold(problem_type: ProblemType) -> float:
    """The output at which a label is as likely as not; softmax sees differences only."""
    return 0.5 if problem_type == "multi_label_classification" else 0.0


def log_losses(logits: Tensor, targets: Tensor, problem_type: ProblemType) -> Tensor:
    """Cross-entropy of each row (N,), summed over its labels."""
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return -(targets * logits.log_softmax(1)).sum(1)

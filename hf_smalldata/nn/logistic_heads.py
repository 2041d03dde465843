"""Logistic regression as a linear head: convex, so that there is one best head and no training to get wrong.

On real features it is the best of the heads that need no training loop from some 8 rows a class on, at the price of
refits: seconds, where ridge regression takes none. No use for values.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from hf_smalldata.data.made import Kin
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.nn.linear_heads import (
    PRIOR_WEIGHT,
    UNDECIDED,
    Head,
    fit_scale,
    judging,
    over_all_classes,
    unit_scale,
)

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03)  # times the mean squared singular value of the centred features
PENALTY = 0.3  # the likeliest before any row is seen, and the one where no row can judge another
MOST_FOLDS = 10
MOST_STEPS = 10_000

Array = np.ndarray[Any, Any]


class Rows(NamedTuple):
    """What a head learns from: features (N, K), targets (N, C), and the weights of rows (N,) where they differ."""

    x: Array
    targets: Array
    weights: Array | None = None


def logistic(
    z: Tensor,
    targets: Tensor,
    problem_type: ProblemType,
    seed: int,
    balanced: bool = False,
    grow: Callable[[Array, Array], Rows] = Rows,
    kin: Kin | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> Head:
    """Multinomial logistic regression; for several labels a row one regression a label.

    Penalty and scale of the logits are those with the least log-loss in folds, plus a weak prior for the penalty. A
    fold leaves out one row of each class, more where classes have more rows than there may be folds. A single row left
    out would let those that stay speak for the other classes: with 8 rows a class that is what such a loss measures. A
    class of one row is never left out.

    Args:
        z: (N, d).
        targets: (N, C) one-hot, at least two classes of which occur, or multi-hot.
        problem_type: of the rows; no regression.
        seed: of the folds.
        balanced: rows of all classes together weigh the same.
        grow: features and targets of rows -> what is learnt from in their place, such as these and rows made of them.
            Within a fold it sees those that are not left out; left out and judged by are the given rows alone.
        kin: which rows are variants of which: they are left out together, and made rows judge nothing. Default: none.
        penalties: that are tried, as in `PENALTIES`.

    Returns:
        The head, and penalty (relative, see `PENALTIES`), scale, folds, cv_loss and, for one class a row, cv_accuracy.
    """
    z, targets = z.double(), targets.double()
    single = problem_type == "single_label_classification"
    present = targets.any(0) if single else torch.ones(targets.shape[1], dtype=torch.bool)
    targets = targets[:, present]
    mean = z.mean(0)
    u, s, vt = torch.linalg.svd(z - mean, full_matrices=False)
    unit = max(float(s.square().mean().sqrt()), 1e-6 * float(z.square().mean().sqrt()), 1e-12)
    x, wanted = (u * s / unit).numpy(), targets.numpy()  # turned: the same heads in fewer features (N, K)
    kin = Kin(np.arange(len(z)), np.ones(len(z), dtype=bool)) if kin is None else kin
    fold = np.full(len(z), -1)
    fold[kin.real] = folds(targets[torch.from_numpy(kin.real)], single, np.random.default_rng(seed))
    fold = fold[kin.leader]
    whole, parts = grow(x, wanted), [grow(x[fold != out], wanted[fold != out]) for out in range(fold.max() + 1)]
    found = []
    for penalty in penalties if fold.max() >= 0 else (PENALTY,):
        weight, bias = _solve(whole, penalty, single, balanced)
        facts = {"penalty": penalty, "folds": int(fold.max() + 1)}
        if fold.max() < 0:
            found.append((0.0, weight, bias, unit_scale(torch.from_numpy(x @ weight.T + bias)), facts))
            continue
        judges = (fold >= 0) & kin.real
        scores = torch.from_numpy(_left_out(x, fold, parts, penalty, single, balanced)[judges])
        scale, facts["cv_loss"] = fit_scale(scores, targets[judges], problem_type)
        if single:
            facts["cv_accuracy"] = float((scores.argmax(1) == targets[judges].argmax(1)).double().mean())
        prior = PRIOR_WEIGHT * math.log(penalty / PENALTY) ** 2 / 2
        found.append((judges.sum() * facts["cv_loss"] + prior, weight, bias, scale, facts))
    _, weight, bias, scale, facts = min(found, key=lambda each: each[0])
    turned = torch.from_numpy(weight) @ vt / unit
    head = Head(scale * turned, scale * (torch.from_numpy(bias) - turned @ mean), {**facts, "scale": scale})
    return over_all_classes(head, present) if single else head


def folds(targets: Tensor, single: bool, rng: np.random.Generator) -> np.ndarray:
    """The fold of each row (N,), -1 for one that is never left out: classes are dealt out one after the other.

    No fold holds two rows of a class unless it has more than `MOST_FOLDS`, and none holds all of them.
    """
    found = np.full(len(targets), -1)
    if not single:
        found[rng.permutation(len(targets))] = np.arange(len(targets)) % MOST_FOLDS
        return found
    labels, judges = targets.argmax(1).numpy(), judging(targets).numpy()
    count = min(MOST_FOLDS, int(targets.sum(0).max()))
    classes = [rng.permutation(np.flatnonzero(judges & (labels == label))) for label in range(targets.shape[1])]
    dealt = np.concatenate(classes)
    found[dealt] = np.arange(len(dealt)) % count
    return found


def _left_out(
    x: np.ndarray, fold: np.ndarray, parts: list[Rows], penalty: float, single: bool, balanced: bool
) -> np.ndarray:
    """Logits (N, C), each by a head that has not seen its fold; 0 for rows that are never left out."""
    scores = np.zeros((len(x), parts[0].targets.shape[1]))
    for out, part in enumerate(parts):
        weight, bias = _solve(part, penalty, single, balanced)
        scores[fold == out] = x[fold == out] @ weight.T + bias
    return scores


def _solve(rows: Rows, penalty: float, single: bool, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weight (C, K) and bias (C,)."""
    x, targets, weights = rows
    model = LogisticRegression(C=1 / penalty, max_iter=MOST_STEPS, class_weight="balanced" if balanced else None)
    if single:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "The number of unique classes is greater than 50%", UserWarning
            )  # few rows
            model.fit(x, targets.argmax(1), weights)
        if targets.shape[1] > 2:
            return model.coef_, model.intercept_
        halves = np.array([[-0.5], [0.5]])  # scikit-learn keeps the difference of the two
        return halves * model.coef_, halves[:, 0] * model.intercept_
    weight, bias = np.zeros((targets.shape[1], x.shape[1])), np.zeros(targets.shape[1])
    for label, wanted in enumerate(targets.T):
        if wanted.min() < wanted.max():
            model.fit(x, wanted, weights)
            weight[label], bias[label] = model.coef_[0], model.intercept_[0]
        else:  # all rows have the label, or none has: as likely as `UNDECIDED` rows more make it
            bias[label] = (1 if wanted[0] else -1) * math.log(2 * len(wanted) / UNDECIDED + 1)
    return weight, bias

"""Calibration: what a probability of 0.9 is worth, and sets of labels that hold the right one as often as promised.

A network fine-tuned on few rows says 0.99 and is right in 0.9. One number, the temperature, mends most of that; a
threshold turns probabilities into sets of labels with a promised coverage. Both come for free from predictions on rows
that the model has not learnt: out-of-fold predictions, or validation rows. Neither makes a model more accurate, and
below some 20 rows neither says much.

A row may have several predictions (repeats of cross-validation, seeds), told by `rows`. What is served is one model, so
each prediction counts as it is, and none are averaged: averages are better than a single model. But the evidence is
rows: the predictions of a row share its weight of 1, and every n here is the number of distinct rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

from hf_smalldata.evaluation import weighted
from hf_smalldata.evaluation.intervals import Array

TEMPERATURES = (0.05, 20.0)
PRIOR_WEIGHT = 4.0  # of T = 1: as if the logarithm of T were known to 0.5 before any row is seen
_LEAST = float(np.finfo(np.float32).tiny)  # a probability of 0 is one that float32 could not hold
_ROUNDING = 1e-9


def calibrate(
    probabilities: ArrayLike,
    references: ArrayLike,
    folds: ArrayLike,
    rows: ArrayLike | None = None,
    coverages: Sequence[float] = (0.8, 0.9, 0.95),
) -> dict[str, Any]:
    """Temperature and conformal thresholds from out-of-fold predictions, and what they are worth; JSON-ready.

    Every "after" and every measured figure is cross-fitted: temperature and threshold come from rows of other folds.
    Those returned come from all rows, and so serve a model trained on all rows.

    Args:
        probabilities: (N, C), each by a model that has not learnt its row.
        references: class indices (N,).
        folds: the fold of each prediction (N,); two or more, and those of other repeats have other values.
        rows: the row of each prediction (N,); each is its own when not given.
        coverages: shares of rows whose set of labels should hold the right one.

    Returns:
        temperature, ece_before, ece_after, log_loss_before, log_loss_after, rows (distinct), and conformal: for each of
        `coverages` a dict of coverage, threshold (of the scaled probabilities, see `prediction_sets`; None where there
        are too few rows, so that a set holds all labels), measured_coverage, mean_labels and single_label_share.
    """
    given, wanted = np.asarray(probabilities, dtype=np.float64), np.asarray(references, dtype=np.int64)
    row = _row_numbers(rows, len(wanted))
    weights = _row_weights(row)
    parts = _parts(given, wanted, np.asarray(folds), row)
    temperature, after = fit_temperature(given, wanted, row), _scaled(given, parts)
    final = with_temperature(given, temperature)
    return {
        "temperature": temperature,
        "ece_before": float(weighted.ece(given, wanted)(weights[None])[0]),
        "ece_after": float(weighted.ece(after, wanted)(weights[None])[0]),
        "log_loss_before": float(weighted.log_loss(given, wanted)(weights[None])[0]),
        "log_loss_after": float(weighted.log_loss(after, wanted)(weights[None])[0]),
        "rows": len(np.unique(row)),
        "conformal": [
            {
                "coverage": coverage,
                "threshold": _finite(conformal_threshold(final, wanted, coverage, row)),
                **_measured(given, wanted, parts, row, coverage),
            }
            for coverage in coverages
        ],
    }


def fit_temperature(probabilities: ArrayLike, references: ArrayLike, rows: ArrayLike | None = None) -> float:
    """The temperature T, between 0.05 and 20, that makes softmax(log p / T) most likely: above 1 for a model too sure.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2. With one addition: a prior (gamma for 1 / T, mode 1)
    worth a handful of rows. Without it T runs to its lower bound when all rows are right, and at 20 rows the scaled
    probabilities are often worse than the plain ones. It fades as rows
    grow. When all rows are right T falls below 1 only as far as the prior lets it.

    Args:
        probabilities: (N, C) on rows not learnt from.
        references: class indices (N,).
        rows: as in `calibrate`.
    """
    logs, wanted = _logs(probabilities), np.asarray(references, dtype=np.int64)
    weights = _row_weights(_row_numbers(rows, len(wanted)))
    reference_logs = logs[np.arange(len(wanted)), wanted]

    def loss(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        likelihood = weights @ (inverse * reference_logs - logsumexp(inverse * logs, axis=1))
        return float(PRIOR_WEIGHT * (inverse + log_temperature) - likelihood)  # convex in 1 / T: one minimum

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    return math.exp(found.x)


def with_temperature(probabilities: ArrayLike, temperature: float) -> Array:
    """Probabilities (N, C) as if the logits had been divided by `temperature`."""
    return np.asarray(softmax(_logs(probabilities) / temperature, axis=1))


def cross_fitted(
    probabilities: ArrayLike, references: ArrayLike, folds: ArrayLike, rows: ArrayLike | None = None
) -> Array:
    """Probabilities (N, C), each fold scaled by a temperature fitted without any prediction on its rows.

    Args: as in `calibrate`.
    """
    given, wanted = np.asarray(probabilities, dtype=np.float64), np.asarray(references, dtype=np.int64)
    return _scaled(given, _parts(given, wanted, np.asarray(folds), _row_numbers(rows, len(wanted))))


def conformal_threshold(
    probabilities: ArrayLike, references: ArrayLike, coverage: float, rows: ArrayLike | None = None
) -> float:
    """The score 1 - p up to which a label belongs in a set: the ceil((n + 1) coverage)-th smallest of the right labels.

    Sadinle et al. 2019 (LAC), https://arxiv.org/abs/1609.00451; infinite, for sets of all labels, where n is too small.

    What holds: if a model has learnt from none of the n rows, and they and a new row are exchangeable, the new row's
    set holds its label with a probability of at least `coverage` (split conformal prediction). It is an average over
    new rows and over draws of the n rows: not a promise for each class, nor for rows from elsewhere.

    What is only nearly so: for out-of-fold scores and a model refitted on all rows no such bound is proven. Sets that
    ask every fold's own model about the new row (CV+, cross-conformal prediction) hold the label with a probability of
    at least 1 - 2 alpha - sqrt(2 / n), alpha being 1 - coverage: Barber et al. 2021, https://arxiv.org/abs/1905.02928;
    Vovk 2015, https://doi.org/10.1007/s10472-013-9368-4. Both come close to `coverage` where a few rows more or less
    change a model little. A refitted model has seen more rows: it is more often right, and it can be surer than it
    should. Logistic regression on 40 to 300 made rows, refitted so, covered 87 to 93 % for 90 % asked.

    Args:
        probabilities: (N, C) on rows not learnt from, scaled as those that the threshold will be used on.
        references: class indices (N,).
        coverage: in (0, 1).
        rows: as in `calibrate`.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"expected a coverage between 0 and 1, e.g. 0.9, got {coverage}")
    given, wanted = np.asarray(probabilities, dtype=np.float64), np.asarray(references, dtype=np.int64)
    scores = 1 - given[np.arange(len(wanted)), wanted]
    row = _row_numbers(rows, len(wanted))
    count = len(np.unique(row))
    needed = math.ceil((count + 1) * coverage - _ROUNDING)
    if needed > count:
        return math.inf
    order = np.argsort(scores)
    reached = np.cumsum(_row_weights(row)[order]) >= needed - _ROUNDING
    return float(scores[order][reached.argmax()])


def prediction_sets(probabilities: ArrayLike, threshold: float) -> NDArray[np.bool_]:
    """Which labels (N, C) belong in the set of each row: those with 1 - p <= threshold, and the most probable always.

    Without the latter a model more often right than asked for would give empty sets; with it coverage can only rise.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    sets = 1 - given <= threshold
    sets[np.arange(len(given)), given.argmax(axis=1)] = True
    return np.asarray(sets)


class _Part(NamedTuple):
    """A fold, and the temperature of the others; masks (N,) over predictions."""

    inside: NDArray[np.bool_]
    others: NDArray[np.bool_]
    temperature: float


def _parts(given: Array, wanted: NDArray[np.int64], folds: NDArray[Any], row: NDArray[np.int64]) -> list[_Part]:
    parts = []
    for fold in np.unique(folds):
        inside = folds == fold
        others = ~np.isin(row, row[inside])  # in other repeats too: a row never has a say in its own calibration
        if not others.any():
            raise ValueError("expected two folds or more, those of other repeats under other values")
        parts.append(_Part(inside, others, fit_temperature(given[others], wanted[others], row[others])))
    return parts


def _scaled(given: Array, parts: Sequence[_Part]) -> Array:
    result = np.empty_like(given)
    for part in parts:
        result[part.inside] = with_temperature(given[part.inside], part.temperature)
    return result


def _measured(
    given: Array, wanted: NDArray[np.int64], parts: Sequence[_Part], row: NDArray[np.int64], coverage: float
) -> dict[str, float]:
    """Sets of each fold by the threshold of the others: how often they hold the label, and how large they are."""
    sets = np.empty(given.shape, dtype=np.bool_)
    for inside, others, temperature in parts:
        calibration = with_temperature(given[others], temperature)
        threshold = conformal_threshold(calibration, wanted[others], coverage, row[others])
        sets[inside] = prediction_sets(with_temperature(given[inside], temperature), threshold)
    sizes, weights = sets.sum(axis=1), _row_weights(row)
    return {
        "measured_coverage": float(np.average(sets[np.arange(len(wanted)), wanted], weights=weights)),
        "mean_labels": float(np.average(sizes, weights=weights)),
        "single_label_share": float(np.average(sizes == 1, weights=weights)),
    }


def _row_numbers(rows: ArrayLike | None, count: int) -> NDArray[np.int64]:
    return np.arange(count) if rows is None else np.unique(np.asarray(rows), return_inverse=True)[1]


def _row_weights(row: NDArray[np.int64]) -> Array:
    """A weight for each prediction (N,), so that those of a row sum to 1."""
    _, at, predictions = np.unique(row, return_inverse=True, return_counts=True)
    return np.asarray(1 / predictions[at])


def _logs(probabilities: ArrayLike) -> Array:
    """Logits but for a constant a row."""
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _LEAST))


def _finite(threshold: float) -> float | None:
    return threshold if math.isfinite(threshold) else None

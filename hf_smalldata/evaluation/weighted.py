"""The metrics as functions of row weights: one formula serves the value and all resamples of its bootstrap.

Each function reads predictions and references once and returns a `Statistic`, weights (R, N) -> values (R,). Weights of
1 give the metric itself; counts of how often a resample drew each row give that resample's metric, all of them by one
matrix product. Equal to scikit-learn's and scipy's numbers wherever those are defined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from hf_smalldata.evaluation.intervals import Array, Statistic

ECE_BINS = 15  # as in Guo et al. 2017
THRESHOLD = 0.5  # of a multi-label probability


def accuracy(probabilities: Array, references: NDArray[np.int64]) -> Statistic:
    """Share of rows (N, C) whose most probable class is the reference (N,); the first of equal classes counts."""
    return _mean_of((probabilities.argmax(axis=1) == references).astype(np.float64))


def log_loss(probabilities: Array, references: NDArray[np.int64]) -> Statistic:
    """Mean -log of the reference's probability, in nats. A probability of 0 counts as 2.2e-16, that is 36 nats."""
    given = probabilities[np.arange(len(references)), references]
    return _mean_of(-np.log(np.clip(given, np.finfo(np.float64).eps, 1.0)))


def ece(probabilities: Array, references: NDArray[np.int64]) -> Statistic:
    """Expected calibration error of the top class, 15 equal-width bins (low, high]: Guo et al. 2017.

    https://arxiv.org/abs/1706.04599, eq. 3. Noise only adds to it: with 100 rows a perfectly calibrated model scores
    some 0.05 to 0.1, and its bootstrap lies above the measured value. Compare models on the same rows only.
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == references) - confidence
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gaps = csr_array((gap, (np.arange(len(bins)), bins)), shape=(len(bins), ECE_BINS))

    def statistic(weights: Array) -> Array:
        return _array(np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1))  # |B| |acc - conf| is one sum of gaps

    return statistic


def macro_f1(probabilities: Array, references: NDArray[np.int64]) -> Statistic:
    """Mean F1 over the classes that occur in references or predictions; others have no F1 and are not averaged in."""
    predicted = probabilities.argmax(axis=1)
    hits, given, chosen = _class_counters(predicted, references, probabilities.shape[1])

    def statistic(weights: Array) -> Array:
        return _mean_f1(weights @ hits, weights @ given + weights @ chosen)

    return statistic


def mcc(probabilities: Array, references: NDArray[np.int64]) -> Statistic:
    """Matthews correlation of several classes, -1 to 1: Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006.

    0 by convention where it is undefined: all predictions, or all references, are one class.
    """
    predicted = probabilities.argmax(axis=1)
    correct = (predicted == references).astype(np.float64)
    _, given, chosen = _class_counters(predicted, references, probabilities.shape[1])

    def statistic(weights: Array) -> Array:
        total, t, p = weights.sum(axis=1), weights @ given, weights @ chosen  # (R,), (R, C), (R, C)
        covariance = (weights @ correct) * total - (t * p).sum(axis=1)
        variances = (total**2 - (t * t).sum(axis=1)) * (total**2 - (p * p).sum(axis=1))
        return _ratio(covariance, np.sqrt(variances))

    return statistic


def multi_label_micro_f1(probabilities: Array, references: Array) -> Statistic:
    """F1 over all cells of (N, C) together, at threshold 0.5: frequent labels weigh most. 0 if no cell is positive."""
    chosen = probabilities >= THRESHOLD
    hits = (chosen * references).sum(axis=1)
    positives = chosen.sum(axis=1) + references.sum(axis=1)
    return lambda weights: _ratio(2 * (weights @ hits), weights @ positives)


def multi_label_macro_f1(probabilities: Array, references: Array) -> Statistic:
    """Mean F1, at threshold 0.5, over the labels that occur in references or predictions (N, C)."""
    chosen = (probabilities >= THRESHOLD).astype(np.float64)
    hits, positives = chosen * references, chosen + references
    return lambda weights: _mean_f1(weights @ hits, weights @ positives)


def rmse(predictions: Array, references: Array) -> Statistic:
    """Root mean squared error, in the units of the label."""
    mean_square = _mean_of((predictions - references) ** 2)
    return lambda weights: np.sqrt(mean_square(weights))


def spearman(predictions: Array, references: Array) -> Statistic:
    """Rank correlation, equal values sharing their mean rank. 0 by convention where one side is constant.

    Exact in every resample: ranks are taken anew from its own weights, not kept from the full set of rows.
    """
    rank_a, rank_b = _mid_ranks(predictions), _mid_ranks(references)

    def statistic(weights: Array) -> Array:
        a, b = rank_a(weights), rank_b(weights)  # (R, N), centred
        covariance = np.einsum("rn,rn,rn->r", weights, a, b)
        variances = np.einsum("rn,rn,rn->r", weights, a, a) * np.einsum("rn,rn,rn->r", weights, b, b)
        return _ratio(covariance, np.sqrt(variances))

    return statistic


def _mean_of(scores: Array) -> Statistic:
    return lambda weights: _array(weights @ scores / weights.sum(axis=1))


def _class_counters(
    predicted: NDArray[np.int64], references: NDArray[np.int64], num_classes: int
) -> tuple[csr_array, csr_array, csr_array]:
    """One-hot (N, C) of: right and this class, reference is this class, prediction is this class.

    Sparse, so that a product with weights costs R x N whatever the number of classes.
    """
    rows, shape = np.arange(len(references)), (len(references), num_classes)
    ones = np.ones(len(references))
    right = (predicted == references).astype(np.float64)
    return (
        csr_array((right, (rows, references)), shape=shape),
        csr_array((ones, (rows, references)), shape=shape),
        csr_array((ones, (rows, predicted)), shape=shape),
    )


def _mean_f1(hits: Array, positives: Array) -> Array:
    """(R, C) hits and references + predictions -> (R,): F1 = 2 hits / positives, over classes with any positive."""
    occurs = (positives > 0).sum(axis=1).astype(np.float64)
    return _ratio(_ratio(2 * hits, positives).sum(axis=1), occurs)


def _mid_ranks(values: Array) -> Statistic:
    """Weights (R, N) -> ranks (R, N) within each resample, less their mean."""
    distinct, place = np.unique(values, return_inverse=True)
    shape = (len(values), len(distinct))
    counter = csr_array((np.ones(len(values)), (np.arange(len(values)), place)), shape=shape)

    def ranks(weights: Array) -> Array:
        mass = weights @ counter  # (R, distinct values)
        middle = np.cumsum(mass, axis=1) - mass / 2  # rank less 1/2
        return _array(middle[:, place] - weights.sum(axis=1, keepdims=True) / 2)

    return ranks


def _ratio(above: Array, below: Array) -> Array:
    """Above / below, 0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)


def _array(values: object) -> Array:
    return np.asarray(values, dtype=np.float64)

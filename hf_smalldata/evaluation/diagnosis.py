"""Diagnosis: where a model errs, beyond one number: which classes, how sure of it, and the rows to look at.

With a hundred test rows the ten errors can all be read, and they often show a wrong label, two classes that mean the
same, or a kind of input that the training rows lack. Cells of a confusion matrix with a handful of rows prove nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.strata import class_names
from hf_smalldata.evaluation.entities import per_type, worst_sentences
from hf_smalldata.evaluation.intervals import Array, wilson
from hf_smalldata.evaluation.weighted import THRESHOLD

ROWS_A_BIN = 10  # at least: an accuracy of fewer is known to no more than 30 points
_LEAST = np.finfo(np.float64).tiny


def diagnose(
    ids: Sequence[str],
    references: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    problem_type: ProblemType,
) -> dict[str, Any]:
    """Everything of this module for one prediction a row; JSON-ready.

    Args:
        ids: of the rows.
        references: class indices (N,), multi-hot rows (N, C) or values (N,).
        probabilities: (N, C), or values (N,) for regression.
        labels: C names; () for regression.
        problem_type: as in a transformers config.

    Returns:
        per_class (tokens: of each type of entity), confusion, reliability (None but for single-label problems), errors.
    """
    if problem_type == "token_classification":
        types, truth = class_names(labels, problem_type), list(np.asarray(references, dtype=object))
        tags = [each.argmax(-1) for each in np.asarray(probabilities, dtype=object)]
        found, errors = per_type(tags, truth, types), worst_sentences(ids, tags, truth, types)
        return {"per_class": found, "confusion": None, "reliability": None, "errors": errors}
    single = problem_type == "single_label_classification"
    predicted = np.asarray(probabilities).argmax(axis=-1)
    return {
        "per_class": per_class(predicted, references, labels) if single else None,
        "confusion": confusion(predicted, references, len(labels)) if single else None,
        "reliability": reliability(probabilities, references) if single else None,
        "errors": worst_errors(ids, references, probabilities, labels, problem_type),
    }


def per_class(predicted: ArrayLike, references: ArrayLike, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall and F1 of each class with 95 % intervals over rows, and its number of rows, by label.

    Wilson's intervals: of precision among the rows given the label, of recall among those that have it. F1 is
    2 J / (1 + J), J being the right ones among the rows that have the label or are given it: its bounds are those of
    J, so transformed. A class without such rows has the value 0 and no interval.

    Args:
        predicted: class indices (N,).
        references: class indices (N,).
        labels: C names.
    """
    counts = np.array(confusion(predicted, references, len(labels)))
    hits, support, given = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return {
        label: {
            "precision": _share(hits[at], given[at]),
            "recall": _share(hits[at], support[at]),
            "f1": {bound: 2 * j / (1 + j) if j is not None else None
                   for bound, j in _share(hits[at], support[at] + given[at] - hits[at]).items()},
            "support": int(support[at]),
        }
        for at, label in enumerate(labels)
    }  # fmt: skip


def _share(hits: int, rows: int) -> dict[str, float | None]:
    if rows == 0:
        return {"value": 0.0, "low": None, "high": None}
    return wilson(int(hits), int(rows))._asdict()


def confusion(predicted: ArrayLike, references: ArrayLike, num_classes: int) -> list[list[int]]:
    """Counts (C, C): of the rows of a class (first index) those predicted as each class (second index)."""
    cells = np.asarray(references, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    counts: list[list[int]] = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).tolist()
    return counts


def reliability(probabilities: ArrayLike, references: ArrayLike, bins: int = 10) -> list[dict[str, Any]]:
    """How often the top class is right, by how probable it was said to be: equal where a model is calibrated.

    Bins hold about equally many rows, some 10 at least, and rows of equal confidence share one: few rows, few bins.
    Bins of equal width, as in ECE, would put most rows of a good model into the last and one or two into each other:
    Nguyen and O'Connor 2015, https://arxiv.org/abs/1508.05154.

    Args:
        probabilities: (N, C).
        references: class indices (N,).
        bins: at most.

    Returns:
        For each bin, the least sure first: low and high (its bounds; high is the next one's low), confidence (mean),
        accuracy with its Wilson interval accuracy_low to accuracy_high, and count.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    confidence = given.max(axis=1)
    right = given.argmax(axis=1) == np.asarray(references)
    number = int(np.clip(len(confidence) // ROWS_A_BIN, 1, bins))
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, number + 1), method="inverted_cdf"))
    place = np.searchsorted(edges[1:-1], confidence, side="right")
    return [_bin(edges, at, confidence[place == at], right[place == at]) for at in range(max(1, len(edges) - 1))]


def worst_errors(
    ids: Sequence[str],
    references: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    problem_type: ProblemType,
    most: int = 20,
) -> list[dict[str, Any]]:
    """The rows that a model is most surely wrong about, or, for regression, most off; the worst first.

    Args:
        ids: of the rows.
        references: as in `diagnose`.
        probabilities: as in `diagnose`.
        labels: as in `diagnose`.
        problem_type: as in `diagnose`.
        most: rows at most.

    Returns:
        For each row id, label, prediction (names, lists of names for multi-label, or values), score (probability of the
        prediction) and score_of_label. Multi-label scores are geometric means over the C labels of the probability of
        its presence or absence, so the lowest score_of_label has the largest loss and comes first. Regression has none.
    """
    given, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(references)
    if problem_type == "regression":
        return _value_errors(ids, truth, given.reshape(len(truth)), most)
    rows = np.arange(len(given))
    if problem_type == "single_label_classification":
        predicted = given.argmax(axis=1)
        wrong, score, of_label = predicted != truth, given[rows, predicted], given[rows, truth]
        worst = np.lexsort((of_label, -score))

        def named(chosen: Any) -> Any:
            return labels[chosen]
    else:
        truth, predicted = truth >= THRESHOLD, given >= THRESHOLD
        wrong, score, of_label = (predicted != truth).any(axis=1), _joint(given, predicted), _joint(given, truth)
        worst = np.argsort(of_label, kind="stable")

        def named(chosen: Any) -> Any:
            return [label for label, on in zip(labels, chosen, strict=True) if on]

    return [
        {
            "id": ids[row],
            "label": named(truth[row]),
            "prediction": named(predicted[row]),
            "score": float(score[row]),
            "score_of_label": float(of_label[row]),
        }
        for row in worst[wrong[worst]][:most]
    ]


def _value_errors(ids: Sequence[str], truth: NDArray[Any], given: Array, most: int) -> list[dict[str, Any]]:
    worst = np.argsort(-np.abs(given - truth), kind="stable")[:most]
    return [
        {
            "id": ids[row],
            "label": float(truth[row]),
            "prediction": float(given[row]),
            "score": None,
            "score_of_label": None,
        }
        for row in worst
        if given[row] != truth[row]
    ]


def _joint(given: Array, states: NDArray[np.bool_]) -> Array:
    """Geometric mean (N,) over labels of the probability that each is as `states` (N, C) says."""
    probability = np.where(states, given, 1 - given)
    return np.asarray(np.exp(np.log(np.maximum(probability, _LEAST)).mean(axis=1)))


def _bin(edges: Array, at: int, confidence: Array, right: NDArray[np.bool_]) -> dict[str, Any]:
    accuracy = wilson(float(right.sum()), len(right))
    return {
        "low": float(edges[at]),
        "high": float(edges[min(at + 1, len(edges) - 1)]),
        "confidence": float(confidence.mean()),
        "accuracy": accuracy.value,
        "count": len(right),
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
    }

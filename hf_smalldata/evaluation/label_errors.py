"""Label errors: rows whose given label a model that has not learnt them surely disagrees with.

With few rows each wrong label costs twice, once learnt and once as a test row that can't be right, and a person can
look through the ten rows named here in minutes. They are candidates: hard rows and a weak model raise them too. On made
rows and a model right in 90 %, with 5 to 15 % of labels wrong, 8 to 10 of 10 candidates were wrong ones, and 7 to 9 of
10 wrong ones were found; with no label wrong, at most 1 row in 180 was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.evaluation.intervals import Array

LEAST_ROWS = 5  # of a class: its threshold is their mean probability, which fewer rows can't tell


def label_errors(
    ids: Sequence[str],
    references: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[str],
    problem_type: ProblemType,
) -> list[dict[str, Any]]:
    """Rows whose label is probably wrong, the most surely wrong first; JSON-ready.

    Confident learning: Northcutt et al. 2021, https://arxiv.org/abs/1911.00068, by cleanlab; rows count that pruning by
    class and by noise rate both name. For multi-label each label is judged alone, as given or not given. Classes with
    fewer than 5 rows (labels that fewer than 5 rows have, or lack) are not judged.

    Args:
        ids: of the rows; predictions of the same id are averaged.
        references: class indices (N,), or multi-hot rows (N, C).
        probabilities: (N, C), each by a model that has not learnt its row.
        labels: C names.
        problem_type: single-label or multi-label.

    Returns:
        For each row id, given, suggested (names, for multi-label lists of names) and self_confidence, the probability
        of the given label (multi-label: the lowest among the labels in doubt).

    Raises:
        ValueError: regression, which has no labels to be wrong in this sense.
    """
    if problem_type == "regression":
        raise ValueError("confident learning needs classes, not values")
    names, rows, times = np.unique(np.asarray(ids), return_inverse=True, return_counts=True)
    sums = np.zeros((len(names), len(labels)))
    np.add.at(sums, rows, np.asarray(probabilities, dtype=np.float64))
    given = sums / times[:, None]
    truth = np.asarray(references)[np.unique(rows, return_index=True)[1]]
    judge = _single_label if problem_type == "single_label_classification" else _multi_label
    found = judge(names, truth.astype(np.int64), given, labels)
    return sorted(found, key=lambda each: (each["self_confidence"], each["id"]))


def _single_label(
    ids: NDArray[np.str_], truth: NDArray[np.int64], given: Array, labels: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {
            "id": str(ids[row]),
            "given": labels[truth[row]],
            "suggested": labels[given[row].argmax()],
            "self_confidence": float(given[row, truth[row]]),
        }
        for row in np.flatnonzero(_doubtful(truth, given))
    ]


def _multi_label(
    ids: NDArray[np.str_], truth: NDArray[np.int64], given: Array, labels: Sequence[str]
) -> list[dict[str, Any]]:
    states = [np.stack([1 - column, column], axis=1) for column in given.T]  # C of (N, 2)
    doubt = np.stack([_doubtful(truth[:, at], states[at]) for at in range(len(labels))], axis=1)
    confidence = np.where(truth == 1, given, 1 - given)

    def chosen(row: NDArray[Any]) -> list[str]:
        return [label for label, on in zip(labels, row, strict=True) if on]

    return [
        {
            "id": str(ids[row]),
            "given": chosen(truth[row]),
            "suggested": chosen((truth[row] == 1) != doubt[row]),
            "self_confidence": float(confidence[row, doubt[row]].min()),
        }
        for row in np.flatnonzero(doubt.any(axis=1))
    ]


def _doubtful(truth: NDArray[np.int64], given: Array) -> NDArray[np.bool_]:
    """Mask (N,) of rows that confident learning doubts, among those of classes with enough rows."""
    enough = np.bincount(truth, minlength=given.shape[1]) >= LEAST_ROWS
    if enough.sum() < 2:
        return np.zeros(len(truth), dtype=np.bool_)
    from cleanlab.filter import find_label_issues as find

    doubtful = find(truth, given, filter_by="both", n_jobs=1)
    return np.asarray(doubtful & enough[truth])

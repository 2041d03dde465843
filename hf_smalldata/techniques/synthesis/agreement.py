"""How far a teacher gives made rows the labels that they have, and how sure it is of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_smalldata.data.spec import ProblemType

Array = np.ndarray[Any, Any]


def agreed(predicted: Array, labels: Sequence[Any], problem_type: ProblemType) -> tuple[Array, Array]:
    """How far a teacher gives rows their labels, and how sure it is of these, both (M,).

    One class a row: 1 or 0, and the class's probability. Several labels: of those that the row or the teacher gives,
    the share that both do; and the mean probability of each label's yes or no. Tags: of the words that either puts
    into an entity, the share with the same tag; and the mean probability of all tags.

    Args:
        predicted: probabilities (M, C), for tokens (M,) of (words, C).
        labels: of the rows, as in their `label` column.
        problem_type: no regression.
    """
    found = [_agreed(np.asarray(each, dtype=np.float64), label, problem_type)
             for each, label in zip(predicted, labels, strict=True)]  # fmt: skip
    shares, sure = np.array(found).T
    return shares, sure


def _agreed(values: Array, label: Any, problem_type: ProblemType) -> tuple[float, float]:
    if problem_type == "single_label_classification":
        return float(values.argmax() == label), float(values[label])
    given = np.asarray(label)
    if problem_type == "token_classification":
        said, sure = values.argmax(1), values[np.arange(len(given)), given]
    else:
        said, given = values > 0.5, given > 0.5
        sure = np.where(given, values, 1 - values)
    either = (said != 0) | (given != 0)
    return float((said == given)[either].mean()) if either.any() else 1.0, float(sure.mean())

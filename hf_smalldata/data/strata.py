"""Which classes a row carries, and how often: the one way in which draws, held-out rows and folds look at labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from hf_smalldata.data.spec import ProblemType


def carried(rows: Dataset, problem_type: ProblemType) -> list[Counter[int]]:
    """Classes of each row by index into `class_names`, with their number: one, any number of labels, or entities.

    Rows of a regression carry none.
    """
    labels = rows["label"][:]
    if problem_type == "regression":
        return [Counter() for _ in labels]
    if problem_type == "multi_label_classification":
        return [Counter({at: 1 for at, on in enumerate(label) if on}) for label in labels]
    if problem_type == "token_classification":  # an entity begins at each B-, and B- tags are the odd ones
        return [Counter(tag // 2 for tag in label if tag % 2) for label in labels]
    return [Counter({label: 1}) for label in labels]


def class_names(labels: Sequence[str], problem_type: ProblemType) -> tuple[str, ...]:
    """What a reader calls the classes: the labels, or the types of entities behind tags such as B-a and I-a."""
    if problem_type == "token_classification":
        return tuple(label.removeprefix("B-") for label in labels[1::2])
    return tuple(labels)


def named(label: Any, names: Sequence[str], problem_type: ProblemType) -> Any:
    """One label as `load` makes it, with names in place of numbers: a name, a list of names, a value, or tags."""
    if problem_type == "token_classification":
        return [names[tag] for tag in label]
    if problem_type == "multi_label_classification":
        return [name for name, on in zip(names, label, strict=True) if on]
    return names[label] if names else label


def class_counts(rows: Dataset | None, labels: Sequence[str], problem_type: ProblemType) -> dict[str, int]:
    """Rows of each class, of each label for multi-label rows, or entities of each type."""
    total = sum(carried(rows, problem_type), Counter()) if rows is not None else Counter[int]()
    return {name: total[at] for at, name in enumerate(class_names(labels, problem_type))}

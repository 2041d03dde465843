"""Predictions as arrays: a line a row, or for rows of many words an array a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

Array = np.ndarray[Any, Any]


def stacked(values: Sequence[Array]) -> Array:
    """Predictions (C,) of N rows -> (N, C); predictions (words, C) of N rows -> an array (N,) of arrays."""
    return np.stack(values) if values[0].ndim == 1 else ragged(values)


def ragged(values: Sequence[Any]) -> Array:
    """An array (N,) of objects, whatever their shapes."""
    found = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        found[at] = value
    return found


def references(rows: Dataset) -> Array:
    """Labels of rows: class indices (N,), multi-hot rows (N, C), values (N,), or (N,) of tag indices (words,)."""
    labels = rows["label"][:]
    feature = rows.features["label"]
    if getattr(getattr(feature, "feature", None), "dtype", "") == "int64":
        return ragged([np.asarray(tags, dtype=np.int64) for tags in labels])
    return np.asarray(labels)

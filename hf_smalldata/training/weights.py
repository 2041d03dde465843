"""Weights of classes in the loss, as a recipe asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.nn.losses import balanced_weights


def class_weights(
    rows: Dataset, chosen: str | Mapping[str, float], names: Sequence[str], problem_type: ProblemType
) -> Tensor | None:
    """A weight for each class (C,): those that are given, balanced ones for `auto`, None for `none`."""
    if chosen == "none":
        return None
    if not isinstance(chosen, str):
        return torch.tensor([chosen.get(name, 1.0) for name in names])
    if problem_type == "token_classification":
        tags = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows["label"][:]])
        return balanced_weights(torch.bincount(torch.from_numpy(tags), minlength=len(names)).float())
    labels = torch.as_tensor(rows["label"][:])
    if problem_type == "multi_label_classification":
        positives = labels.sum(0)
        return (len(labels) - positives) / positives.clamp(min=1)  # negatives for each positive
    return balanced_weights(torch.bincount(labels, minlength=len(names)).float())

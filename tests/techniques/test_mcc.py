"""MCC: the paper's class confusion, and turned moons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.domain.mcc import Mcc, class_confusion


def test_the_confusion_is_the_papers():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3))
    y = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum(1, keepdims=True)
    entropy = -(y * np.log(y)).sum(1)
    weights = 6 * (1 + np.exp(-entropy)) / (1 + np.exp(-entropy)).sum()
    pairs = np.array([[sum(w * row[j] * row[k] for w, row in zip(weights, y, strict=True)) for k in range(3)]
                      for j in range(3)])  # fmt: skip
    normal = pairs / pairs.sum(1, keepdims=True)
    expected = sum(normal[j, k] for j in range(3) for k in range(3) if j != k) / 3
    assert class_confusion(torch.tensor(logits), 2.5).item() == pytest.approx(expected)


def test_sure_predictions_confuse_nothing_and_even_ones_all():
    sure = 100 * torch.eye(4).repeat(3, 1)
    assert class_confusion(sure, 2.5).item() == pytest.approx(0, abs=1e-6)
    assert class_confusion(torch.zeros(8, 4), 2.5).item() == pytest.approx(0.75)


def test_rows_without_one_class_are_refused(text):
    with pytest.raises(UserError, match="mcc: for rows of one class each"):
        Mcc().model(text.network(), replace(text.context(), problem_type="multi_label_classification"))


@pytest.mark.parametrize("seeds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_turned_moons_are_told_apart_better_with_each_seed(turned_moons, seeds):
    assert turned_moons(Mcc(weight=10.0), seeds) == seeds

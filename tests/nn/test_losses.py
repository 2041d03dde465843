"""Losses on soft targets equal torch's own on hard ones."""

from __future__ import annotations

import pytest
import torch
from torch import tensor
from torch.nn import functional

from hf_smalldata.nn.losses import balanced_weights, loss, probabilities, soft_cross_entropy

LOGITS = tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0], [1.0, 2.0, 3.0]])
CLASSES = tensor([0, 2, 1, 1])
ONE_HOT = functional.one_hot(CLASSES, 3).float()


@pytest.mark.parametrize("weights", [None, tensor([1.0, 3.0, 0.5])])
def test_soft_cross_entropy_equals_torchs_on_one_hot_targets(weights):
    expected = functional.cross_entropy(LOGITS, CLASSES, weight=weights)
    torch.testing.assert_close(soft_cross_entropy(LOGITS, ONE_HOT, weights), expected)


def test_soft_cross_entropy_equals_torchs_on_soft_targets():
    targets = tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(soft_cross_entropy(LOGITS, targets), functional.cross_entropy(LOGITS, targets))


def test_cross_entropy_of_uniform_logits_is_log_c():
    assert soft_cross_entropy(torch.zeros(2, 3), ONE_HOT[:2]).item() == pytest.approx(torch.log(tensor(3.0)).item())


def test_multi_label_loss_is_binary_cross_entropy_with_positives_weighted():
    targets = tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    weights = tensor([1.0, 2.0, 4.0])
    p = LOGITS.sigmoid()
    expected = -(weights * targets * p.log() + (1 - targets) * (1 - p).log()).mean()
    torch.testing.assert_close(loss(LOGITS, targets, "multi_label_classification", weights), expected)


def test_regression_loss_is_the_mean_squared_error():
    assert loss(tensor([[1.0], [3.0]]), tensor([[2.0], [6.0]]), "regression").item() == (1 + 9) / 2


def test_single_label_loss_takes_class_weights():
    weights = tensor([1.0, 3.0, 0.5])
    expected = functional.cross_entropy(LOGITS, CLASSES, weight=weights)
    torch.testing.assert_close(loss(LOGITS, ONE_HOT, "single_label_classification", weights), expected)


def test_the_loss_of_half_precision_logits_is_computed_in_full():
    value = loss(LOGITS.bfloat16(), ONE_HOT, "single_label_classification")
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, functional.cross_entropy(LOGITS, CLASSES))


def test_probabilities_are_what_a_pipeline_shows():
    torch.testing.assert_close(probabilities(LOGITS, "single_label_classification").sum(-1), torch.ones(4))
    torch.testing.assert_close(probabilities(LOGITS, "single_label_classification"), LOGITS.softmax(-1))
    torch.testing.assert_close(probabilities(LOGITS, "multi_label_classification"), 1 / (1 + (-LOGITS).exp()))
    assert torch.equal(probabilities(LOGITS[:, :1], "regression"), LOGITS[:, :1])


def test_balanced_weights_are_rows_over_classes_times_count():
    torch.testing.assert_close(balanced_weights(tensor([6.0, 3.0, 1.0])), tensor([10 / 18, 10 / 9, 10 / 3]))


def test_a_class_without_rows_has_weight_one():
    torch.testing.assert_close(balanced_weights(tensor([4.0, 0.0])), tensor([0.5, 1.0]))


def test_balanced_weights_of_equal_counts_change_nothing():
    torch.testing.assert_close(balanced_weights(tensor([5.0, 5.0, 5.0])), torch.ones(3))

"""Label smoothing: softer targets of the same mass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hf_smalldata.errors import UserError
from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.techniques.regularise.label_smoothing import LabelSmoothing, smooth

ONE_HOT = functional.one_hot(torch.tensor([0, 2, 1, 2]), 3).float()


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 0.9])
def test_smoothing_keeps_target_mass_one(epsilon):
    torch.testing.assert_close(smooth(ONE_HOT, epsilon).sum(-1), torch.ones(4))


def test_targets_are_one_minus_epsilon_plus_a_share_for_each_class():
    expected = torch.tensor([[0.7 + 0.1, 0.1, 0.1]])
    torch.testing.assert_close(smooth(torch.tensor([[1.0, 0.0, 0.0]]), 0.3), expected)


def test_soft_targets_keep_their_order_and_mass():
    mixed = torch.tensor([[0.6, 0.3, 0.1]])
    torch.testing.assert_close(smooth(mixed, 0.3), 0.7 * mixed + 0.1)


@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_the_loss_equals_torchs_own_label_smoothing(epsilon):
    torch.manual_seed(0)
    logits = torch.randn(4, 3)
    expected = functional.cross_entropy(logits, ONE_HOT.argmax(-1), label_smoothing=epsilon)
    torch.testing.assert_close(soft_cross_entropy(logits, smooth(ONE_HOT, epsilon)), expected)


def test_the_batch_is_copied_and_only_its_targets_change():
    batch = {"labels": ONE_HOT, "input_ids": torch.arange(4)}
    made = LabelSmoothing(epsilon=0.2).batch(batch, torch.nn.Identity())
    assert batch["labels"] is ONE_HOT
    assert made["input_ids"] is batch["input_ids"]
    torch.testing.assert_close(made["labels"], smooth(ONE_HOT, 0.2))


def test_it_says_that_inputs_stay_so_that_cached_states_can_be_kept():
    assert LabelSmoothing.keeps_inputs


@pytest.mark.parametrize("epsilon", [0, 1, -0.1, float("nan")])
def test_epsilon_lies_strictly_between_zero_and_one(epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        LabelSmoothing(epsilon=epsilon)


@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification"])
def test_smoothing_is_refused_where_classes_do_not_exclude_each_other(text, problem_type):
    context = replace(text.context(), problem_type=problem_type)
    with pytest.raises(UserError, match="label_smoothing: for single-label rows"):
        LabelSmoothing().model(text.network(), context)

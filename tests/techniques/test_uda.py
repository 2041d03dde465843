"""UDA: sharpened targets, a mask, and moons with six labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.selftrain.uda import Uda, sharpened_consistency


def test_the_loss_is_the_divergence_from_sharpened_targets_of_sure_rows():
    torch.manual_seed(0)
    weak, strong = (3 * torch.randn(6, 3)).requires_grad_(), torch.randn(6, 3, requires_grad=True)
    sure = weak.softmax(-1).max(-1).values >= 0.8
    assert 0 < sure.sum() < 6
    target = (weak.detach() / 0.4).softmax(-1)
    each = functional.kl_div(strong.log_softmax(-1), target, reduction="none").sum(-1)
    found = sharpened_consistency(weak, strong, 0.4, 0.8)
    torch.testing.assert_close(found, each[sure].sum() / 6)
    found.backward()
    assert weak.grad is None
    assert strong.grad[sure].any()


def test_views_that_agree_cost_nothing_unless_targets_are_sharper():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert sharpened_consistency(logits, logits, 1.0, 0.0).item() == pytest.approx(0, abs=1e-6)
    assert sharpened_consistency(logits, logits, 0.4, 0.0).item() > 0.01


@pytest.mark.slow
def test_few_labels_and_many_rows_without_are_more_than_few_labels(few_moons):
    assert few_moons(Uda(), 4) > 0.03


def test_rows_without_one_class_are_refused(text):
    with pytest.raises(UserError, match="uda: for rows of one class each"):
        Uda().model(text.network(), replace(text.context(), problem_type="multi_label_classification"))

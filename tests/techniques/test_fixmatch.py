"""FixMatch: what counts as a label, thresholds, classes in their shares, and moons with six labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.augment.rand_augment import RandAugment
from hf_smalldata.techniques.selftrain.fixmatch import FixMatch, Memory, aligned, consistency, flexible


def test_rows_that_it_is_sure_of_teach_their_class_and_others_count_nothing():
    weak = torch.tensor([[0.96, 0.04], [0.5, 0.5], [0.03, 0.97]], requires_grad=True)
    strong = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = consistency(weak, strong, torch.tensor([0.95, 0.95]))
    each = functional.cross_entropy(strong, torch.tensor([0, 0, 1]), reduction="none")
    torch.testing.assert_close(found, (each[0] + each[2]) / 3)
    found.backward()
    assert weak.grad is None
    assert not strong.grad[1].any()


def test_a_class_may_have_a_threshold_of_its_own():
    weak, strong = torch.tensor([[0.6, 0.4], [0.4, 0.6]]), torch.zeros(2, 2)
    assert consistency(weak, strong, torch.tensor([0.5, 0.7])).item() == pytest.approx(
        0.5 * torch.log(torch.tensor(2.0))
    )


def test_predictions_are_aligned_with_the_shares_that_are_wanted():
    said = torch.tensor([[0.8, 0.2], [0.6, 0.4]])
    found = aligned(said, torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.3]))
    raw = said * torch.tensor([0.5 / 0.7, 0.5 / 0.3])
    torch.testing.assert_close(found, raw / raw.sum(1, keepdim=True))
    assert found.mean(0)[0] < said.mean(0)[0]


def test_thresholds_are_lower_for_classes_of_which_few_rows_are_sure():
    assert flexible(0.9, torch.zeros(3)).tolist() == [0, 0, 0]  # everything counts at first
    found = flexible(0.9, torch.tensor([0.6, 0.3, 0.0]))
    assert found.tolist() == pytest.approx([0.9, 0.9 * 0.5 / 1.5, 0])
    most_unsure = flexible(0.9, torch.tensor([0.1, 0.0, 0.0]))
    assert most_unsure[0].item() == pytest.approx(0.9 * (1 / 9) / (2 - 1 / 9))


def test_what_is_remembered_is_a_moving_average():
    memory = Memory()
    assert memory.take("said", torch.tensor([1.0])).item() == 1
    assert memory.take("said", torch.tensor([0.0])).item() == pytest.approx(0.9)


@pytest.mark.parametrize("technique", [
    FixMatch(threshold=0.8), *(pytest.param(each, marks=pytest.mark.slow)
                               for each in (FixMatch(flexible=True), FixMatch(align=True)))
], ids=repr)  # fmt: skip
def test_few_labels_and_many_rows_without_are_more_than_few_labels(few_moons, technique):
    assert few_moons(technique, 4) > 0.03


def test_the_strong_view_is_the_usual_one_of_the_modality_or_that_which_is_named():
    assert FixMatch().beside("image").strong == RandAugment(magnitude=0.5)
    assert FixMatch(strong={"rand_augment": {"magnitude": 1.0}}).beside("image").strong == RandAugment(magnitude=1.0)


@pytest.mark.parametrize(("strong", "said"), [
    ({"rand_augmen": {}}, "unknown technique; did you mean 'rand_augment'"),
    ({"lora": {}}, "lora changes no rows"),
    ({}, "expected one technique"),
    ({"rand_augment": {"magnitude": 7}}, "less than or equal to 1"),
])  # fmt: skip
def test_a_strong_view_that_is_none_is_refused(strong, said):
    with pytest.raises((Problems, ValueError), match=said):
        Recipe.parse({
            "task": "image-classification", "data": {"train": "a", "unlabelled": "b"}, "model": {"name": "x"},
            "techniques": [{"fixmatch": {"strong": strong}}],
        })  # fmt: skip


def test_rows_without_one_class_are_refused(text):
    with pytest.raises(UserError, match="fixmatch: for rows of one class each"):
        FixMatch().model(text.network(), replace(text.context(), problem_type="regression"))

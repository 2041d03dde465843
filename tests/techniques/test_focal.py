"""Focal loss: the paper's formula on terms of any kind, and hard rows lead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.nn import functional

from hf_smalldata.errors import UserError
from hf_smalldata.nn.losses import terms
from hf_smalldata.techniques.regularise.focal import Focal, focal

LOGITS = tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0]])
CLASSES = tensor([0, 2, 0])
ONE_HOT = functional.one_hot(CLASSES, 3).float()
SINGLE = "single_label_classification"


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_the_loss_is_the_papers(gamma):
    p = LOGITS.softmax(-1)[range(3), CLASSES]
    expected = (-((1 - p) ** gamma) * p.log()).mean()
    torch.testing.assert_close(Focal(gamma=gamma).loss_terms(terms(LOGITS, ONE_HOT, SINGLE)).mean(), expected)


def test_class_weights_are_the_papers_alpha():
    alpha, p = tensor([1.0, 3.0, 0.5]), LOGITS.softmax(-1)[range(3), CLASSES]
    of_row = alpha[CLASSES]
    expected = (-of_row * (1 - p) ** 2 * p.log()).sum() / of_row.sum()
    torch.testing.assert_close(Focal().loss_terms(terms(LOGITS, ONE_HOT, SINGLE, alpha)).mean(), expected)


def test_soft_targets_share_the_loss_out():
    soft = tensor([[0.7, 0.2, 0.1]])
    p = LOGITS[:1].softmax(-1)
    expected = (-soft * (1 - p) ** 2 * p.log()).sum()
    torch.testing.assert_close(Focal().loss_terms(terms(LOGITS[:1], soft, SINGLE)).mean(), expected)


def test_each_of_several_labels_is_a_decision_of_its_own():
    targets, p = tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), LOGITS.sigmoid()
    right = torch.where(targets == 1, p, 1 - p)
    expected = (-((1 - right) ** 2) * right.log()).mean()
    found = Focal().loss_terms(terms(LOGITS, targets, "multi_label_classification")).mean()
    torch.testing.assert_close(found, expected)


def test_tokens_without_a_word_count_for_nothing():
    logits, targets = LOGITS[None], ONE_HOT.clone()[None]
    targets[0, 1] = 0
    found = Focal().loss_terms(terms(logits, targets, "token_classification")).mean()
    torch.testing.assert_close(found, Focal().loss_terms(terms(LOGITS[::2], ONE_HOT[::2], SINGLE)).mean())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_gradient_is_a_number_where_the_network_is_quite_sure(gamma):
    cost = tensor([0.0, 1e-9, 90.0], requires_grad=True)
    focal(cost, gamma).sum().backward()
    assert torch.isfinite(cost.grad).all()


def test_hard_rows_have_a_larger_share_of_the_gradient_than_under_cross_entropy():
    def share_of_hard(gamma: float | None) -> float:
        logits = tensor([[4.0, 0.0], [0.0, 1.0]], requires_grad=True)  # the first is easy, the second is wrong
        parts = terms(logits, functional.one_hot(tensor([0, 0])).float(), SINGLE)
        (parts if gamma is None else Focal(gamma=gamma).loss_terms(parts)).mean().backward()
        easy, hard = logits.grad.abs().sum(-1).tolist()
        return hard / (easy + hard)

    assert share_of_hard(None) < share_of_hard(1) < share_of_hard(2)


@pytest.mark.parametrize("gamma", [0, -1])
def test_gamma_is_positive(gamma):
    with pytest.raises(ValueError, match="gamma"):
        Focal(gamma=gamma)


def test_numbers_are_refused(text):
    with pytest.raises(UserError, match=r"focal: expected rows with classes.*leave it out"):
        Focal().model(text.network(), replace(text.context(), problem_type="regression"))

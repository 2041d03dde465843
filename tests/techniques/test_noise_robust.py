"""Noise-robust loss: the paper's formula, rows that are kept, and an accuracy that wrong labels do not ruin."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn, tensor
from torch.nn import functional

from hf_smalldata.errors import UserError
from hf_smalldata.nn.losses import Terms, terms
from hf_smalldata.techniques.regularise.noise_robust import NoiseRobust, generalised_cross_entropy, smallest

LOGITS = tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0], [1.0, 2.0, 3.0]])
CLASSES = tensor([0, 2, 0, 2])
ONE_HOT = functional.one_hot(CLASSES, 3).float()
SINGLE = "single_label_classification"


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_the_loss_is_the_papers_with_class_weights(q):
    weights, p = tensor([1.0, 3.0, 0.5]), LOGITS.softmax(-1)[range(4), CLASSES]
    of_row = weights[CLASSES]
    expected = (of_row * (1 - p**q) / q).sum() / of_row.sum()
    torch.testing.assert_close(NoiseRobust(q=q).loss_terms(terms(LOGITS, ONE_HOT, SINGLE, weights)).mean(), expected)


def test_a_small_q_is_cross_entropy():
    cost = tensor([0.01, 1.0, 8.0])
    torch.testing.assert_close(generalised_cross_entropy(cost, 1e-5), cost, rtol=1e-3, atol=1e-3)


def test_no_row_costs_more_than_one_over_q():
    assert generalised_cross_entropy(tensor(1e4), 0.7).item() == pytest.approx(1 / 0.7)


@pytest.mark.parametrize(("keep", "rows"), [(0.5, [0, 3]), (0.6, [0, 1, 3]), (0.01, [0])])
def test_the_rows_that_cost_least_are_kept(keep, rows):
    found = smallest(terms(LOGITS, ONE_HOT, SINGLE), keep)
    torch.testing.assert_close(found.mean(), terms(LOGITS[rows], ONE_HOT[rows], SINGLE).mean())


def test_the_class_weight_of_a_row_does_not_decide_whether_it_is_kept():
    found = smallest(terms(LOGITS, ONE_HOT, SINGLE, tensor([1e-3, 1.0, 1.0])), 0.75)
    assert (found.weight > 0).tolist() == [True, True, False, True]


def test_tokens_without_a_word_are_not_among_those_to_choose_from():
    targets = ONE_HOT.clone()
    targets[3] = 0
    found = smallest(terms(LOGITS[None], targets[None], "token_classification"), 0.5)
    assert found.weight.tolist() == [1, 1, 0, 0]


def test_a_batch_in_which_nothing_counts_keeps_nothing():
    empty = Terms(torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2))
    assert smallest(empty, 0.5).weight.tolist() == [0, 0]


def learnt(technique: NoiseRobust | None, seed: int) -> float:
    """Accuracy on clean rows of a network that learns 120 of which 40 % have a wrong one of four labels."""
    torch.manual_seed(seed)
    centres = 3 * torch.randn(4, 8)
    labels = torch.arange(120) % 4
    rows, fresh = (centres[labels] + torch.randn(120, 8) for _ in range(2))
    wrong = torch.randperm(120)[:48]
    given = labels.clone()
    given[wrong] = (labels[wrong] + torch.randint(1, 4, (48,))) % 4
    network = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        parts = terms(network(rows), functional.one_hot(given, 4).float(), SINGLE)
        (parts if technique is None else technique.loss_terms(parts)).mean().backward()
        optimizer.step()
    return float((network(fresh).argmax(-1) == labels).float().mean())


@pytest.mark.parametrize("technique", [NoiseRobust(), NoiseRobust(q=0.01, keep=0.6)], ids=["q", "keep"])
def test_with_wrong_labels_accuracy_stays_higher_than_under_cross_entropy(technique):
    gains = [learnt(technique, seed) - learnt(None, seed) for seed in range(2)]
    assert min(gains) > 0.03


@pytest.mark.parametrize("field", [{"q": 0}, {"q": 1.1}, {"keep": 0}, {"keep": 1.5}], ids=str)
def test_q_and_keep_lie_above_zero_and_not_above_one(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        NoiseRobust(**field)


def test_numbers_are_refused(text):
    with pytest.raises(UserError, match=r"noise_robust: expected rows with classes.*leave it out"):
        NoiseRobust().model(text.network(), replace(text.context(), problem_type="regression"))

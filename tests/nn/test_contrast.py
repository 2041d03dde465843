"""Contrastive losses: their formulas, bounds and directions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from hf_smalldata.nn.contrast import cosine_similarity, least_contrastive, supervised_contrastive

LABELS = torch.tensor([0, 0, 1, 1, 1, 2])


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


def by_pairs(z: torch.Tensor, temperature: float, hardness: float = 0.0) -> float:
    """The sums of the papers, pair by pair."""
    z, rows = normalize(z, dim=1), range(len(z))
    losses = []
    for i in rows:
        mates = [j for j in rows if j != i and LABELS[j] == LABELS[i]]
        if not mates:
            continue
        unlike = [j for j in rows if LABELS[j] != LABELS[i]]
        weights = torch.stack([torch.exp(hardness * (z[i] @ z[j])) for j in unlike])
        weights = weights / weights.mean()
        of_all = sum(torch.exp(z[i] @ z[j] / temperature) for j in mates)
        of_all = of_all + sum(w * torch.exp(z[i] @ z[j] / temperature) for w, j in zip(weights, unlike, strict=True))
        losses.append(-sum(z[i] @ z[j] / temperature - torch.log(of_all) for j in mates) / len(mates))
    return float(sum(losses) / len(losses))


@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_the_loss_is_that_of_the_paper(z, temperature):
    assert float(supervised_contrastive(z, LABELS, temperature)) == pytest.approx(by_pairs(z, temperature), rel=1e-5)


def test_hard_rows_of_other_classes_weigh_more(z):
    assert float(supervised_contrastive(z, LABELS, 0.1, 2.0)) == pytest.approx(by_pairs(z, 0.1, 2.0), rel=1e-5)
    assert supervised_contrastive(z, LABELS, 0.1, 2.0) > supervised_contrastive(z, LABELS, 0.1)


def test_classes_that_have_collapsed_far_apart_reach_the_least_loss():
    z = torch.eye(3)[LABELS] - 1 / 3
    assert float(supervised_contrastive(z, LABELS, 0.01)) == pytest.approx(float(least_contrastive(LABELS)), abs=1e-4)
    assert float(least_contrastive(LABELS)) == pytest.approx((2 * math.log(1) + 3 * math.log(2)) / 5)


def test_the_length_of_rows_does_not_matter(z):
    for loss in (supervised_contrastive, cosine_similarity):
        torch.testing.assert_close(loss(z, LABELS), loss(z * torch.rand(6, 1), LABELS))


def test_cosine_is_the_mean_error_of_each_kind_of_pair(z):
    cosine = normalize(z, dim=1) @ normalize(z, dim=1).T
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    same = [float((cosine[i, j] - 1) ** 2) for i, j in pairs if LABELS[i] == LABELS[j]]
    other = [float(cosine[i, j] ** 2) for i, j in pairs if LABELS[i] != LABELS[j]]
    expected = (sum(same) / len(same) + sum(other) / len(other)) / 2
    assert float(cosine_similarity(z, LABELS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]])
@pytest.mark.parametrize("loss", [supervised_contrastive, cosine_similarity])
def test_a_batch_of_one_kind_of_pair_has_a_finite_gradient(z, labels, loss):
    z.requires_grad_(True)
    loss(z, torch.tensor(labels)).backward()
    assert torch.isfinite(z.grad).all()

"""MMD: the paper's estimate, and turned moons that are told apart better."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_smalldata.techniques.domain.mmd import Mmd, discrepancy


def test_the_discrepancy_is_that_of_mean_kernels_over_all_pairs():
    rng = np.random.default_rng(0)
    source, target, widths = rng.normal(size=(5, 3)), 1 + rng.normal(size=(7, 3)), (0.5, 2.0)
    both = np.concatenate([source, target])
    squared = np.array([[np.square(x - y).sum() for y in both] for x in both])
    sigma = squared.sum() / (12 * 11)

    def kernel(x, y):
        return np.mean([np.exp(-np.square(x - y).sum() / (width * sigma)) for width in widths])

    def mean(some, others):
        return np.mean([kernel(x, y) for x in some for y in others])

    expected = mean(source, source) + mean(target, target) - 2 * mean(source, target)
    found = discrepancy(torch.tensor(source), torch.tensor(target), widths)
    assert found.item() == pytest.approx(expected)


def test_equal_rows_differ_in_nothing_and_shifted_ones_the_more_the_further():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    near, far = discrepancy(x, x + 0.5), discrepancy(x, x + 2)
    assert discrepancy(x, x).item() == pytest.approx(0, abs=1e-6)
    assert 0 < near < far


def test_rows_that_are_all_equal_have_a_gradient():
    x = torch.zeros(4, 3, requires_grad=True)
    discrepancy(x, torch.zeros(4, 3)).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(("seeds", "least"), [(1, 1), pytest.param(20, 15, marks=pytest.mark.slow)])
def test_turned_moons_are_told_apart_better_with_most_seeds(turned_moons, seeds, least):
    assert turned_moons(Mmd(weight=10.0), seeds) >= least

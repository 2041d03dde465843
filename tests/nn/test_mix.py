"""Mixing rows of a batch: convex sums that keep the mass of targets."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.nn.mix import beta, mix, partners

ROWS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
PARTNERS = torch.tensor([1, 2, 0])


def test_a_weight_for_all_rows_is_the_share_of_the_row_itself():
    torch.testing.assert_close(mix(ROWS, PARTNERS, 0.75), 0.75 * ROWS + 0.25 * ROWS[PARTNERS])


def test_each_row_may_have_its_own_weight_whatever_its_shape():
    weight = torch.tensor([1.0, 0.0, 0.5])
    images = torch.randn(3, 2, 4, 4)
    mixed = mix(images, PARTNERS, weight)
    torch.testing.assert_close(mixed[0], images[0])
    torch.testing.assert_close(mixed[1], images[2])
    torch.testing.assert_close(mixed[2], (images[2] + images[0]) / 2)


def test_targets_keep_their_mass():
    torch.manual_seed(0)
    torch.testing.assert_close(mix(ROWS, partners(ROWS), beta(0.3, (3,))).sum(-1), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_of_numbers_stays(dtype):
    assert mix(ROWS.to(dtype), PARTNERS, torch.tensor([0.1, 0.2, 0.3])).dtype == dtype


def test_draws_come_from_torchs_seeded_generator():
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append((partners(ROWS).tolist(), beta(0.2, (3,)).tolist()))
    assert drawn[0] == drawn[1]
    assert sorted(drawn[0][0]) == [0, 1, 2]

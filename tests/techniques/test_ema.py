"""EMA: the share of the newest weights, and an average that is calmer than the weights."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.techniques.regularise.ema import Ema, share
from hf_smalldata.training.average import take_in


def test_the_share_falls_from_nine_tenths_to_one_minus_the_decay():
    assert [share(0.9, count, 0.0) for count in (0, 10, 1000)] == [
        pytest.approx(0.9), pytest.approx(9 / 20), pytest.approx(0.1)
    ]  # fmt: skip


def test_weights_of_late_steps_make_up_the_average():
    averages = {"w": torch.zeros(1)}
    for count in range(1, 500):
        take_in(averages, {"w": torch.tensor([float(count)])}, share(0.9, count, 0.0))
    assert averages["w"].item() == pytest.approx(499 - 0.9 / 0.1, abs=0.01)


def distances(seed: int) -> tuple[float, float]:
    """From the minimum of w² with noisy gradients: of the last weights, and of their average."""
    torch.manual_seed(seed)
    w, averages = torch.ones(50), {"w": torch.ones(50)}
    for count in range(1, 300):
        w = w - 0.1 * (2 * w + torch.randn(50))
        take_in(averages, {"w": w}, share(Ema().decay, count, 0.0))
    return float(w.norm()), float(averages["w"].norm())


def test_the_average_is_nearer_to_the_minimum_than_the_last_weights():
    for last, averaged in map(distances, range(5)):
        assert averaged < 0.6 * last


@pytest.mark.parametrize("decay", [0, 1, -0.5])
def test_decay_lies_strictly_between_zero_and_one(decay):
    with pytest.raises(ValueError, match="decay"):
        Ema(decay=decay)

"""SWA: a plain mean over the end of training, flatter than the weights that it is of."""

from __future__ import annotations

import pytest
import torch

from hf_smalldata.techniques.regularise.swa import Swa, share
from hf_smalldata.training.average import take_in


def mean_of(values: list[float], fraction: float) -> float:
    averages, count = {"w": torch.zeros(1)}, 0
    for step, value in enumerate(values, 1):
        part = share(fraction, count, step / len(values))
        if part is not None:
            take_in(averages, {"w": torch.tensor([value])}, part)
            count += 1
    return averages["w"].item()


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, 4.5), (0.5, 7.0), (0.25, 8.0), (0.01, 9.0)])
def test_it_is_the_mean_over_the_last_fraction(fraction, expected):
    assert mean_of([float(value) for value in range(10)], fraction) == pytest.approx(expected)


def losses(seed: int) -> tuple[float, float]:
    """Of 60 fresh rows after noisy training at a constant rate: mean of the last weights' own, and of their mean."""
    torch.manual_seed(seed)
    truth = torch.randn(10)
    fresh = torch.randn(60, 10)
    w, averages, own = torch.zeros(10), {"w": torch.zeros(10)}, []
    for count in range(200):
        rows = torch.randn(4, 10)
        w = w - 0.05 * rows.T @ (rows @ w - rows @ truth - torch.randn(4))
        if count >= 100:
            take_in(averages, {"w": w}, share(1.0, count - 100, 1.0))
            own.append(float((fresh @ (w - truth)).square().mean()))
    return sum(own) / len(own), float((fresh @ (averages["w"] - truth)).square().mean())


def test_the_mean_of_the_weights_is_better_on_fresh_rows_than_they_are():
    for of_each, of_mean in map(losses, range(5)):
        assert of_mean < 0.5 * of_each


@pytest.mark.parametrize("fraction", [0, 1.1])
def test_the_fraction_lies_above_zero_and_not_above_one(fraction):
    with pytest.raises(ValueError, match="fraction"):
        Swa(fraction=fraction)

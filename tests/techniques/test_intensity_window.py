"""Intensity window: values through random windows about the image's own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_pixels import window
from hf_smalldata.techniques.augment.intensity_window import IntensityWindow

RAMP = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def curve(seed: int, **ranges: float) -> np.ndarray:
    """What each value of 0 to 255 becomes, over 255."""
    nothing = {"center": 0.0, "width": 0.0, "gamma": 0.0}
    return np.asarray(window(RAMP, np.random.default_rng(seed), **{**nothing, **ranges})).ravel() / 255


def test_values_keep_their_order_and_their_range():
    for seed in range(20):
        values = curve(seed, center=0.3, width=1, gamma=1)
        assert (np.diff(values) >= 0).all()
        assert (values.min(), values.max()) >= (0, 0.3)


def test_a_width_of_w_gives_slopes_of_one_over_to_one_plus_w():
    slopes = [(values[160] - values[96]) * 255 / 64 for values in (curve(seed, width=1) for seed in range(60))]
    assert 0.5 <= min(slopes) + 0.02 < 0.6
    assert 1.8 < max(slopes) <= 2.02
    assert all(values[127:129].mean() == pytest.approx(0.5, abs=0.01) for values in (curve(9, width=1),))


def test_the_centre_moves_all_values_alike():
    moves = np.array([(curve(seed, center=0.2) - np.arange(256) / 255)[100:156] for seed in range(60)])
    assert moves.std(1).max() < 0.01
    assert np.abs(moves).max() == pytest.approx(0.2, abs=0.02)


def test_gamma_keeps_black_and_white():
    middle = []
    for seed in range(60):
        values = curve(seed, gamma=1)
        assert (values[0], values[-1]) == (0, 1)
        middle.append(values[128])
    assert min(middle) == pytest.approx(0.5**2, abs=0.04)
    assert max(middle) == pytest.approx(0.5**0.5, abs=0.04)


@pytest.mark.parametrize(("field", "value"), [("center", 0.6), ("width", -0.1), ("gamma", 4)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        IntensityWindow(**{field: value})

"""Colour: factors within their ranges; grey stays grey."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_pixels import colour
from hf_smalldata.techniques.augment.colour import Colour

IMAGE = Image.fromarray(np.random.default_rng(0).integers(60, 160, (8, 9, 3), dtype=np.uint8))


def made(seed: int, image: Image.Image = IMAGE, **ranges: float) -> np.ndarray:
    nothing = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    return np.asarray(colour(image, np.random.default_rng(seed), **{**nothing, **ranges})).astype(float)


def test_brightness_is_a_factor_on_every_value():
    factors = []
    for seed in range(60):
        ratio = made(seed, brightness=0.5) / np.asarray(IMAGE)
        assert ratio.std() < 0.01
        factors.append(ratio.mean())
    assert 0.5 <= min(factors) + 0.01 < 0.6
    assert 1.4 < max(factors) <= 1.51


def test_contrast_is_a_factor_on_differences_and_keeps_the_mean():
    spreads = []
    for seed in range(60):
        pixels = made(seed, contrast=0.5)
        assert pixels.mean() == pytest.approx(np.mean(IMAGE), abs=3)
        spreads.append(pixels.std() / np.std(IMAGE))
    assert min(spreads) < 0.6
    assert max(spreads) > 1.4


def test_saturation_is_a_factor_on_the_distance_from_grey():
    def distance(pixels: np.ndarray) -> float:
        return float(np.ptp(pixels, axis=-1).mean())

    ratios = [distance(made(seed, saturation=0.5)) / distance(np.asarray(IMAGE)) for seed in range(60)]
    assert min(ratios) < 0.6
    assert max(ratios) > 1.35


def test_hue_keeps_the_largest_channel_value():
    for seed in range(10):
        pixels = made(seed, hue=0.5)
        np.testing.assert_allclose(pixels.max(-1), np.asarray(IMAGE).max(-1), atol=2)
    assert not np.array_equal(made(0, hue=0.5), np.asarray(IMAGE))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_saturation_and_hue_leave_a_grey_image_alone(mode):
    grey = IMAGE.convert("L").convert(mode)
    for seed in range(5):
        np.testing.assert_array_equal(made(seed, grey, saturation=1, hue=0.5), np.asarray(grey))


@pytest.mark.parametrize(("field", "value"), [("brightness", 1.1), ("contrast", -1), ("saturation", 2), ("hue", 0.6)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Colour(**{field: value})

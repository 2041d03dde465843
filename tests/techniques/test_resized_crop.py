"""Resized crop: parts of the right area and proportions, as large as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_geometry import resized_crop
from hf_smalldata.techniques.augment.resized_crop import ResizedCrop

WIDTH, HEIGHT = 200, 100


def ramps() -> Image.Image:
    """Red tells the column, green the row."""
    down, right = np.indices((HEIGHT, WIDTH))
    return Image.fromarray(np.stack([right, down * 2, right * 0], -1).astype(np.uint8))


def shares(least: float, stretch: float) -> np.ndarray:
    """Width and height of the parts drawn, as shares of the image's."""
    found = []
    for seed in range(100):
        pixels = np.asarray(resized_crop(ramps(), np.random.default_rng(seed), least, stretch)).astype(int)
        found.append([np.ptp(pixels[..., 0]) / (WIDTH - 1), np.ptp(pixels[..., 1]) / (2 * HEIGHT - 2)])
    return np.array(found)


def test_areas_are_between_the_least_and_all():
    areas = shares(0.25, 1).prod(1)
    assert 0.2 < areas.min() < 0.3
    assert 0.95 < areas.max() <= 1
    assert areas.mean() == pytest.approx(0.625, abs=0.06)


def test_proportions_stay_without_stretch_and_within_it():
    width, height = shares(0.25, 1).T
    np.testing.assert_allclose(width, height, atol=0.04)
    width, height = shares(0.25, 2).T
    ratios = width / height
    assert 0.47 < ratios.min() < 0.6
    assert 1.6 < ratios.max() < 2.1


def test_parts_come_from_everywhere():
    lefts = [np.asarray(resized_crop(ramps(), np.random.default_rng(seed), 0.25, 1))[0, 0, 0] for seed in range(60)]
    assert min(lefts) < 10
    assert max(lefts) > 60


@pytest.mark.parametrize(("field", "value"), [("least", 0), ("least", 1.1), ("stretch", 0.9)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        ResizedCrop(**{field: value})

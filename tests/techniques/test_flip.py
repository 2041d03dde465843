"""Flip: mirror images with the probabilities asked for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_geometry import flip
from hf_smalldata.techniques.augment.flip import Flip

IMAGE = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("horizontal", "vertical", "axes"), [(1, 0, (1,)), (0, 1, (0,)), (1, 1, (0, 1))])
def test_certain_flips_are_those_of_the_pixels(horizontal, vertical, axes):
    np.testing.assert_array_equal(np.asarray(flip(IMAGE, rng(), horizontal, vertical)), np.flip(IMAGE, axes))


def test_each_way_comes_as_often_as_its_probability_says():
    made = [np.asarray(flip(IMAGE, rng(seed), 0.5, 0.2)) for seed in range(1000)]
    assert np.mean([image[0, 0] in (3, 11) for image in made]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([image[0, 0] in (8, 11) for image in made]) == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("field", ["horizontal", "vertical"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_probabilities_lie_between_zero_and_one(field, value):
    with pytest.raises(ValueError, match=field):
        Flip(**{field: value})

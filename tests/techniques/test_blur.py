"""Blur: out of focus in all directions, or smeared in one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_pixels import gaussian_blur, motion_blur
from hf_smalldata.techniques.augment.blur import Blur

POINT = np.zeros((41, 41), np.uint8)
POINT[20, 20] = 255
FLAT = Image.new("RGB", (20, 30), (10, 100, 200))


def spread(image: Image.Image) -> np.ndarray:
    """Standard deviations of the light along its two main axes, larger first."""
    light = np.asarray(image, dtype=float)
    places = np.argwhere(light > 0) - 20.0
    covariance = np.cov(places.T, aweights=light[light > 0], ddof=0)
    return np.sqrt(np.linalg.eigvalsh(np.atleast_2d(covariance)).clip(0))[::-1]


def test_out_of_focus_a_point_becomes_a_round_spot_of_at_most_sigma():
    found = [spread(gaussian_blur(Image.fromarray(POINT), np.random.default_rng(seed), 3 / 41)) for seed in range(40)]
    assert max(large for large, _ in found) == pytest.approx(3, abs=0.4)
    assert all(large - small < 0.3 for large, small in found)


def test_motion_draws_a_point_out_into_a_line_in_any_direction():
    smeared = [motion_blur(Image.fromarray(POINT), np.random.default_rng(seed), 0.5) for seed in range(40)]
    lengths, widths = np.array([spread(image) for image in smeared]).T
    assert lengths.max() == pytest.approx(0.5 * 41 / 12**0.5, rel=0.15)  # of a uniform distribution
    assert widths.max() < 0.6
    ends = np.array([np.argwhere(np.asarray(image) > 0)[0] - 20 for image in smeared])
    assert (ends[:, 1] < -5).any()
    assert (ends[:, 1] > 5).any()


def test_light_is_kept_and_edges_do_not_darken():
    for seed in range(10):
        np.testing.assert_array_equal(np.asarray(motion_blur(FLAT, np.random.default_rng(seed), 0.5)), FLAT)
        np.testing.assert_array_equal(np.asarray(gaussian_blur(FLAT, np.random.default_rng(seed), 0.2)), FLAT)


def test_some_images_stay_sharp_as_the_probability_says():
    image = Image.fromarray(POINT)

    def sharp(probability: float) -> float:
        technique = Blur(probability=probability, gaussian=0.1, motion=0)
        rows = ({"image": image, "rng": np.random.default_rng(seed)} for seed in range(300))
        return float(np.mean([technique.example(row)["image"] is image for row in rows]))

    assert sharp(0) == 1
    assert sharp(0.3) == pytest.approx(0.7, abs=0.08)


@pytest.mark.parametrize(("field", "value"), [("probability", 1.5), ("gaussian", -0.1), ("motion", 0.6)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Blur(**{field: value})

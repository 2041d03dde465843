"""Elastic: smooth shifts of the strength asked for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_geometry import elastic
from hf_smalldata.techniques.augment.elastic import Elastic


def shifts(seed: int, shift: float = 0.03, knots: int = 4) -> np.ndarray:
    """How far each pixel of a horizontal ramp comes from, in pixels along it, away from the edges."""
    ramp = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1)))
    bent = np.asarray(elastic(ramp, np.random.default_rng(seed), shift, knots)).astype(float)
    return (bent - np.asarray(ramp))[20:-20, 20:-20]


def test_shifts_are_about_their_share_of_the_shorter_side_and_go_both_ways():
    drawn = np.array([shifts(seed) for seed in range(30)])
    assert 0.5 * 3 < drawn.std() < 1.1 * 3  # cubic in between: less than at the knots
    assert abs(drawn.mean()) < 1


def test_shifts_are_smooth_and_more_knots_bend_at_a_smaller_scale():
    def roughness(knots: int) -> float:
        return float(np.mean([np.abs(np.diff(shifts(seed, knots=knots), axis=0)).mean() for seed in range(10)]))

    assert roughness(4) < 0.2
    assert roughness(4) < 0.6 * roughness(12)


def test_edges_go_on_outside_the_image():
    white = Image.new("RGB", (40, 30), (255, 255, 255))
    np.testing.assert_array_equal(np.asarray(elastic(white, np.random.default_rng(0), 0.2, 3)), white)


@pytest.mark.parametrize(("field", "value"), [("shift", -0.1), ("shift", 0.3), ("knots", 1)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Elastic(**{field: value})

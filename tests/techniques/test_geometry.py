"""Geometry: one affine map, within its ranges; what comes in has the border's colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_geometry import affine, border_colour, perspective
from hf_smalldata.techniques.augment.geometry import Geometry


def dot(side: int = 41) -> Image.Image:
    """A white square in the middle of the right half, on black."""
    pixels = np.zeros((side, side), np.uint8)
    pixels[19:22, 29:32] = 255
    return Image.fromarray(pixels)


def centre(image: Image.Image) -> np.ndarray:
    """Of the light: right and down, from the middle."""
    light = np.asarray(image, dtype=float)
    down, right = (np.indices(light.shape) * light).sum((1, 2)) / light.sum() - 20
    return np.array([right, down])


def made(seed: int, **ranges: float) -> Image.Image:
    nothing = {"degrees": 0.0, "scale": 0.0, "shift": 0.0, "shear": 0.0}
    return affine(dot(), np.random.default_rng(seed), **{**nothing, **ranges})


def test_turning_keeps_the_distance_from_the_centre_and_stays_within_degrees():
    places = np.array([centre(made(seed, degrees=30)) for seed in range(60)])
    np.testing.assert_allclose(np.hypot(*places.T), 10, atol=0.3)
    angles = np.degrees(np.arctan2(places[:, 1], places[:, 0]))
    assert 25 < np.abs(angles).max() < 31
    assert angles.min() < 0 < angles.max()


def test_scaling_goes_both_ways_by_the_same_factor():
    distances = [np.hypot(*centre(made(seed, scale=0.5))) for seed in range(60)]
    assert 10 / 1.5 - 0.3 < min(distances) < 7.2
    assert 13.8 < max(distances) < 15.3
    assert np.median(distances) == pytest.approx(10, abs=0.8)


def test_shifts_are_shares_of_the_sides():
    moves = np.array([centre(made(seed, shift=0.1)) - (10, 0) for seed in range(60)])
    assert np.abs(moves).max() == pytest.approx(4, abs=0.2)
    assert (np.abs(moves).max(0) > 3).all()


@pytest.mark.parametrize("shade", [0, 255, 77])
def test_corners_have_the_colour_of_the_border(shade):
    plain = Image.new("RGB", (20, 30), (shade, shade, 9))
    turned = affine(plain, np.random.default_rng(0), degrees=180, scale=0.5, shift=0.2, shear=30)
    assert border_colour(plain) == [shade, shade, 9]
    assert np.abs(np.asarray(turned).astype(int) - (shade, shade, 9)).max() <= 1


def test_perspective_moves_corners_inwards_and_no_farther_than_the_distortion():
    white = Image.new("L", (100, 100), 255)
    framed = Image.new("L", (102, 102), 0)
    framed.paste(white, (1, 1))
    for seed in range(20):
        seen = np.asarray(perspective(framed, np.random.default_rng(seed), 0.2))
        assert (seen[12:-12, 12:-12] == 255).all()
        assert seen[:2, :2].max() < 255


@pytest.mark.parametrize(("field", "value"), [("degrees", 181), ("scale", -0.1), ("shift", 0.6), ("shear", 46)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        Geometry(**{field: value})

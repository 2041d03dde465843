"""Image noise: the right spread for each kind, at each brightness."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_pixels import noise
from hf_smalldata.techniques.augment.image_noise import ImageNoise

SHADES = (40, 160)


def spreads(kind: str, level: float = 0.1) -> np.ndarray:
    """Mean over draws of the standard deviation at each shade, over the range of values."""
    found = []
    for seed in range(40):
        drawn = []
        for shade in SHADES:
            flat = Image.new("L", (40, 40), shade)
            pixels = np.asarray(noise(flat, np.random.default_rng(seed), kind, level), dtype=float)
            assert pixels.mean() == pytest.approx(shade, abs=3)
            drawn.append(pixels.std() / 255)
        found.append(drawn)
    return np.mean(found, axis=0)


def test_gaussian_noise_is_alike_everywhere_and_half_its_strength_on_average():
    np.testing.assert_allclose(spreads("gaussian"), [0.05, 0.05], rtol=0.15)


def test_speckle_grows_with_brightness():
    np.testing.assert_allclose(spreads("speckle"), 0.05 * np.array(SHADES) / 255, rtol=0.15)


def test_photon_noise_grows_with_the_root_of_brightness():
    np.testing.assert_allclose(spreads("poisson"), 0.05 * np.sqrt(np.array(SHADES) / 255), rtol=0.15)


def test_colours_get_noise_of_their_own_and_grey_the_same_in_all_channels():
    for kind in ("gaussian", "speckle", "poisson"):
        for fill, same in (((90, 90, 90), True), ((90, 91, 90), False)):
            image = Image.new("RGB", (20, 20), fill)
            pixels = np.asarray(noise(image, np.random.default_rng(0), kind, 0.3))
            assert (pixels[..., 0] == pixels[..., 2]).all() == same


def test_only_kinds_with_a_strength_are_drawn():
    black = Image.new("L", (8, 8), 0)

    def changed(**strengths: float) -> int:
        technique = ImageNoise(**{"gaussian": 0, "speckle": 0, "poisson": 0, **strengths})
        rows = ({"image": black, "rng": np.random.default_rng(seed)} for seed in range(50))
        return sum(np.any(np.asarray(technique.example(row)["image"])) for row in rows)

    assert changed(speckle=0.5, poisson=0.5) == 0  # nothing falls on black
    assert changed(gaussian=0.5) > 45


@pytest.mark.parametrize("field", ["gaussian", "speckle", "poisson"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        ImageNoise(**{field: value})

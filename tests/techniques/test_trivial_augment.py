"""TrivialAugment: one operation of any magnitude, on wide ranges."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_policies import STANDARD, WIDE, apply, trivial_augment
from hf_smalldata.techniques.augment.trivial_augment import TrivialAugment

IMAGE = Image.fromarray(np.random.default_rng(0).integers(20, 200, (24, 20, 3), dtype=np.uint8))


def test_ranges_are_wider_than_those_of_rand_augment_but_for_translation_which_is_in_pixels_of_small_images():
    assert WIDE.keys() == STANDARD.keys()
    narrower = {name for name in WIDE if WIDE[name] < STANDARD[name]}
    assert narrower == {"translate_x", "translate_y"}


def test_one_operation_is_applied_and_all_come_equally_often(monkeypatch):
    drawn: list[tuple[str, float]] = []

    def note(image, rng, name, magnitude, most):
        drawn.append((name, magnitude))
        return image

    monkeypatch.setattr("hf_smalldata.data.image_policies.apply", note)
    for seed in range(2800):
        trivial_augment(IMAGE, np.random.default_rng(seed), 0.5)
    names, magnitudes = zip(*drawn, strict=True)
    assert len(drawn) == 2800
    assert {names.count(name) // 100 for name in WIDE} <= {1, 2}
    assert np.mean(magnitudes) == pytest.approx(0.25, abs=0.01)
    assert max(magnitudes) <= 0.5


def test_posterising_at_full_magnitude_keeps_two_bits():
    made = apply(IMAGE, np.random.default_rng(0), "posterise", 1.0, WIDE)
    np.testing.assert_array_equal(np.asarray(made), np.asarray(IMAGE) & 0xC0)


@pytest.mark.parametrize("strength", [-0.1, 1.5])
def test_the_strength_is_checked(strength):
    with pytest.raises(ValueError, match="strength"):
        TrivialAugment(strength=strength)

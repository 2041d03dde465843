"""RandAugment: operations with equal chances and one magnitude."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_policies import STANDARD, apply, rand_augment
from hf_smalldata.techniques.augment.rand_augment import RandAugment

IMAGE = Image.fromarray(np.random.default_rng(0).integers(20, 200, (24, 20, 3), dtype=np.uint8))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def amounts(name: str, magnitude: float) -> list[np.ndarray]:
    return [np.asarray(apply(IMAGE, rng(seed), name, magnitude, STANDARD)).astype(int) for seed in range(8)]


def test_there_are_the_papers_fourteen_operations():
    assert len(STANDARD) == 14


@pytest.mark.parametrize("name", STANDARD)
def test_each_operation_changes_an_image_and_changes_none_at_magnitude_zero(name):
    assert all((variant == np.asarray(IMAGE)).all() for variant in amounts(name, 0.0))
    unchanged = all((variant == np.asarray(IMAGE)).all() for variant in amounts(name, 0.7))
    assert unchanged == (name == "identity")


@pytest.mark.parametrize("name", ["rotate", "shear_x", "translate_y", "brightness", "contrast", "colour", "sharpness"])
def test_operations_that_go_two_ways_go_both(name):
    assert len({variant.tobytes() for variant in amounts(name, 0.5)}) == 2


def test_solarising_at_full_magnitude_inverts_all_and_posterising_keeps_four_bits():
    (inverted,) = {variant.tobytes() for variant in amounts("solarise", 1.0)}
    np.testing.assert_array_equal(np.frombuffer(inverted, int).reshape(24, 20, 3), 255 - np.asarray(IMAGE).astype(int))
    np.testing.assert_array_equal(amounts("posterise", 1.0)[0], np.asarray(IMAGE) & 0xF0)


def test_brightness_at_full_magnitude_is_a_tenth_or_nearly_twice():
    ratios = {round(float(variant.mean() / np.mean(IMAGE)), 1) for variant in amounts("brightness", 1.0)}
    assert min(ratios) == pytest.approx(0.1, abs=0.05)
    assert max(ratios) > 1.5  # some values are at their limit


def test_more_operations_and_a_larger_magnitude_change_more():
    def change(operations: int, magnitude: float) -> float:
        made = [np.asarray(rand_augment(IMAGE, rng(seed), operations, magnitude)).astype(int) for seed in range(60)]
        return float(np.mean([np.abs(variant - np.asarray(IMAGE)).mean() for variant in made]))

    assert change(1, 0.2) < change(3, 0.2)
    assert change(2, 0.1) < change(2, 0.8)


@pytest.mark.parametrize(("field", "value"), [("operations", 0), ("magnitude", 1.1), ("magnitude", -0.1)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        RandAugment(**{field: value})

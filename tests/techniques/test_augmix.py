"""AugMix: convex sums of an image and chains of operations on it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_policies import STANDARD, UNCORRUPTED, augmix
from hf_smalldata.techniques.augment.augmix import AugMix

IMAGE = Image.fromarray(np.random.default_rng(0).integers(20, 200, (24, 20, 3), dtype=np.uint8))


def distance(**more: float) -> float:
    """Mean change of a value."""
    given = {"chains": 3, "depth": 3, "severity": 0.5, "alpha": 1.0, **more}
    made = [np.asarray(augmix(IMAGE, np.random.default_rng(seed), **given)).astype(int) for seed in range(40)]
    return float(np.mean([np.abs(variant - np.asarray(IMAGE)).mean() for variant in made]))


def test_operations_that_imitate_corruptions_are_left_out():
    left_out = {"brightness", "colour", "contrast", "sharpness", "identity"}
    assert set(STANDARD) - set(UNCORRUPTED) == left_out


def test_the_result_is_the_convex_sum_of_the_image_and_its_chains(monkeypatch):
    monkeypatch.setattr("hf_smalldata.data.image_policies.apply", lambda image, *_: image.point(lambda _: 255))
    rng = np.random.default_rng(5)
    own = rng.beta(2.0, 2.0)
    expected = own * np.asarray(IMAGE) + (1 - own) * 255
    made = augmix(IMAGE, np.random.default_rng(5), chains=3, depth=2, severity=0.3, alpha=2.0)
    np.testing.assert_allclose(np.asarray(made), expected, atol=0.51)


def test_a_larger_severity_and_longer_chains_change_more():
    assert distance(severity=0.1) < distance(severity=0.9)
    assert distance(depth=1) < distance(depth=6)


def test_chains_mixed_change_less_than_one_alone():
    assert distance(chains=6, alpha=100.0) < distance(chains=1, alpha=100.0)


@pytest.mark.parametrize(("field", "value"), [("chains", 0), ("depth", 0), ("severity", 1.1), ("alpha", 0)])
def test_ranges_are_checked(field, value):
    with pytest.raises(ValueError, match=field):
        AugMix(**{field: value})

"""Cutout: patches of the right size, anywhere, of the mean colour or of noise."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.data.image_pixels import cutout
from hf_smalldata.techniques.augment.cutout import Cutout

IMAGE = Image.fromarray(np.tile(np.array([[0, 200]], np.uint8), (30, 20)))  # mean 100, and no pixel has it


def hidden(seed: int, patches: int = 1, size: float = 0.5) -> np.ndarray:
    return np.asarray(cutout(IMAGE, np.random.default_rng(seed), patches, size, "mean")) == 100


def test_a_patch_inside_has_the_size_asked_for_and_at_the_edge_sticks_out():
    areas = [hidden(seed).sum() for seed in range(100)]
    assert max(areas) == 15 * 20
    assert min(areas) < 15 * 20 / 2
    assert all(area >= 7 * 10 for area in areas)  # its centre is in the image


def test_patches_are_whole_rectangles_about_any_place():
    centres = []
    for seed in range(200):
        places = np.argwhere(hidden(seed, size=0.2))
        assert len(places) == np.prod(np.ptp(places, axis=0) + 1)
        centres.append(places.mean(0))
    assert (np.min(centres, axis=0) < 3).all()
    assert (np.max(centres, axis=0) > (26, 36)).all()


def test_several_patches_hide_more_and_no_patch_hides_nothing():
    assert np.mean([hidden(seed, 4, 0.2).mean() for seed in range(50)]) > 0.08
    assert not hidden(0, patches=0).any()


def test_noise_takes_any_value_and_is_grey_in_a_grey_image():
    for mode, grey in (("L", True), ("RGB", True)):
        pixels = np.asarray(cutout(IMAGE.convert(mode), np.random.default_rng(1), 1, 1.0, "noise"))
        assert len(np.unique(pixels)) > 100
        assert (pixels.reshape(30, 40, -1) == pixels.reshape(30, 40, -1)[..., :1]).all() == grey
    coloured = np.asarray(cutout(Image.new("RGB", (40, 30), (1, 2, 3)), np.random.default_rng(1), 1, 1.0, "noise"))
    assert (coloured[..., 0] != coloured[..., 1]).mean() > 0.2


@pytest.mark.parametrize(("field", "value"), [("patches", -1), ("size", 1.1), ("fill", "black")])
def test_bad_values_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        Cutout(**{field: value})

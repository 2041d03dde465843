"""Image preset: only changes that keep the label of its kind of image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hf_smalldata.techniques.augment.image_preset import PRESETS, ImagePreset, preset

SIDE = 48


def two_dots() -> Image.Image:
    """Bright red at the top left, green at the bottom left, on grey."""
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    pixels[10:18, 8:16] = (230, 40, 40)
    pixels[30:38, 8:16] = (40, 230, 40)
    return Image.fromarray(pixels)


def made(kind: str, strength: float = 1.0, image: Image.Image | None = None) -> list[np.ndarray]:
    shown = two_dots() if image is None else image
    return [np.asarray(preset(shown, np.random.default_rng(seed), kind, strength)).astype(int) for seed in range(30)]


def places(pixels: np.ndarray) -> list[np.ndarray]:
    """Where the most of red and of green is, row and column."""
    red = pixels[..., 0] - pixels[..., 1]
    return [np.argwhere(each >= each.max() / 2).mean(0) for each in (red, -red)]


def test_only_photos_are_mirrored_and_nothing_stands_upside_down():
    for kind in ("medical", "document"):
        for pixels in made(kind):
            red, green = places(pixels)
            assert red[1] < SIDE / 2 > green[1]
            assert red[0] < green[0]
    shown = [pixels for pixels in made("natural", 0.5) if (pixels[..., 0] - pixels[..., 1]).max() > 50]
    assert 0.2 < np.mean([places(pixels)[0][1] > SIDE / 2 for pixels in shown]) < 0.8


def test_scans_and_documents_keep_their_hues():
    tinted = Image.new("RGB", (SIDE, SIDE), (150, 100, 60))
    for kind in ("medical", "document"):
        for pixels in made(kind, image=tinted):
            mean = pixels.mean((0, 1))
            assert mean[0] > mean[1] > mean[2]


def test_nothing_of_a_scan_or_a_document_is_hidden():
    light = Image.new("L", (SIDE, SIDE), 200)
    light.paste(20, (20, 20, 28, 28))  # the mean would be 195
    for kind in ("medical", "document"):
        assert all(pixels[14:34, 14:34].min() < 120 for pixels in made(kind, image=light))


def test_a_larger_strength_changes_more():
    for kind in PRESETS:
        weak, strong = (
            np.mean([np.abs(pixels - np.asarray(two_dots())).mean() for pixels in made(kind, strength)])
            for strength in (0.2, 1.0)
        )
        assert weak < strong


@pytest.mark.parametrize(("field", "value"), [("kind", "photo"), ("strength", 1.1), ("strength", -0.1)])
def test_bad_values_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        ImagePreset(**{field: value})

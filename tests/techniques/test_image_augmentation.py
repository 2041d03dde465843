"""What holds for every technique that changes training images one by one, and that each helps where it should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image, ImageFilter, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader

from hf_smalldata.techniques import REGISTRY, get_technique
from hf_smalldata.techniques.augment.image_preset import PRESETS
from hf_smalldata.training.batching import EncodedRows, LikeLengths

NAMES = [name for name in REGISTRY if get_technique(name).tasks == {"image-classification"}
         and "example" in get_technique(name).model_construct().hooks()]  # fmt: skip
each = pytest.mark.parametrize("name", NAMES)


def changed(technique: Any, image: Image.Image, seed: Any = 0) -> Image.Image:
    row = technique.example({"id": "a", "label": 1, "image": image, "rng": np.random.default_rng(seed)})
    assert (row["id"], row["label"]) == ("a", 1)
    return row["image"]


def scene(height: int = 30, width: int = 40) -> Image.Image:
    """A gradient with noise on it, so that every change shows."""
    ramp = np.linspace(30, 200, width)[None, :, None] * np.array([1.0, 0.8, 0.6])
    grain = np.random.default_rng(0).normal(0, 15, (height, width, 3))
    return Image.fromarray((ramp + grain).clip(0, 255).astype(np.uint8))


@each
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_size_and_mode_stay_and_the_row_is_copied(name, mode):
    image = scene().convert(mode)
    before = np.array(image)
    made = [changed(get_technique(name)(), image, seed) for seed in range(8)]
    assert {(variant.size, variant.mode) for variant in made} == {(image.size, mode)}
    assert any(not np.array_equal(variant, before) for variant in made)
    np.testing.assert_array_equal(np.asarray(image), before)


@each
def test_a_grey_image_stays_grey(name):
    grey = scene().convert("L").convert("RGB")
    for seed in range(8):
        pixels = np.asarray(changed(get_technique(name)(), grey, seed))
        assert (pixels == pixels[..., :1]).all()


@each
def test_the_generator_of_the_row_decides_and_no_other(name):
    image, technique = scene(), get_technique(name)()
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = [np.asarray(changed(technique, image, seed)) for seed in range(6)]
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    torch.manual_seed(1)
    np.random.seed(1)
    np.testing.assert_array_equal(first, [np.asarray(changed(technique, image, seed)) for seed in range(6)])
    assert len({variant.tobytes() for variant in first}) > 1


@each
def test_images_of_one_pixel_survive(name):
    for size in ((1, 1), (1, 7), (3, 1)):
        for seed in range(6):
            assert changed(get_technique(name)(), Image.new("RGB", size, (9, 90, 200)), seed).size == size


def test_variants_are_the_same_in_a_worker_process_and_differ_by_epoch(image):
    techniques = [get_technique(name)() for name in ("geometry", "image_noise", "rand_augment")]
    rows = EncodedRows(image.rows, image.task, image.processor, techniques, seed=3)

    def epoch(number: int, workers: int) -> dict[int, bytes]:
        sampler = LikeLengths(rows, 4, seed=0)
        sampler.set_epoch(number)
        order = list(sampler)
        loader = DataLoader(rows, batch_size=4, sampler=order, num_workers=workers, collate_fn=list)
        drawn = [item["pixel_values"].tobytes() for batch in loader for item in batch]
        return dict(zip(order, drawn, strict=True))

    alone = [epoch(number, 0) for number in (0, 1)]
    assert alone == [epoch(number, 1) for number in (0, 1)]
    assert all(alone[0][at] != alone[1][at] for at in range(len(rows)))


def test_files_of_16_bits_are_augmented_and_stay_grey(image, tmp_path):
    wide = np.linspace(0, 65535, 40 * 40).reshape(40, 40).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "scan.png")
    rows = Dataset.from_list([{"id": "a", "image": {"path": str(tmp_path / "scan.png"), "bytes": None}, "label": 0}])
    techniques = [get_technique(name)() for name in NAMES]
    pixels = EncodedRows(rows, image.task, image.processor, techniques)[0]["pixel_values"]
    assert pixels.dtype == np.uint8
    assert np.ptp(pixels) > 50
    assert (pixels == pixels[:1]).all()


# Effects: two classes, a dozen rows to learn from, and other images to tell apart, which differ as the card says.

SIDE = 24
Draw = Callable[[int, np.random.Generator], np.ndarray]
BLUR_3 = ImageFilter.GaussianBlur(2)


def canvas(rng: np.random.Generator, grain: float = 8) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), 90.0) + rng.normal(0, grain, (SIDE, SIDE, 3))


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def letter(label: int, rng: np.random.Generator) -> np.ndarray:
    """A stroke down with one across, at its foot or at its top."""
    pixels = canvas(rng)
    right, down = 5 + rng.integers(0, 3, 2)
    across = down if label else down + 9
    pixels[down : down + 11, right : right + 2] += 120
    pixels[across : across + 2, right : right + 8] += 120
    return pixels


def beside(label: int, rng: np.random.Generator) -> np.ndarray:
    """A box at the left, above or below."""
    pixels = canvas(rng)
    pixels[(2 if label else 14) : (10 if label else 22), 2:8] += 100
    return pixels


def chequered(label: int, rng: np.random.Generator) -> np.ndarray:
    """The class in a strong pattern of single pixels, and faintly in a large area."""
    sign, pixels = 2 * label - 1, canvas(rng, 20)
    pixels[8:16, :12] += 6 * sign
    return pixels + 60 * sign * (2 * (np.indices((SIDE, SIDE)).sum(0) % 2) - 1)[..., None]


def two_parts(label: int, rng: np.random.Generator) -> np.ndarray:
    """The class strongly at the left, weakly at the right."""
    sign, pixels = 2 * label - 1, canvas(rng, 20)
    pixels[6:18, 2:8] += 60 * sign
    pixels[6:18, 14:22] += 12 * sign
    return pixels


def without_left(label: int, rng: np.random.Generator) -> np.ndarray:
    pixels = two_parts(label, rng)
    pixels[:, :11] = 90
    return pixels


def bright_and_dark(label: int, rng: np.random.Generator) -> np.ndarray:
    """The class in two by two bright pixels by 50, and as many dark ones by 15; black elsewhere."""
    pixels = np.zeros((SIDE, SIDE, 3))
    pixels[4:6, 4:6] = 180 + 50 * label
    pixels[14:16, 14:16] = 20 + 15 * label
    return pixels


def speckled(label: int, rng: np.random.Generator) -> np.ndarray:
    return bright_and_dark(label, rng) * (1 + 0.4 * rng.standard_normal((SIDE, SIDE, 1)))


def in_its_light(label: int, rng: np.random.Generator) -> np.ndarray:
    """As luck will have it in few rows: one class was photographed in more light."""
    return letter(label, rng) * (1.2 - 0.4 * label)


def in_the_other_light(label: int, rng: np.random.Generator) -> np.ndarray:
    return letter(label, rng) * (0.8 + 0.4 * label)


def turned(label: int, rng: np.random.Generator) -> Image.Image:
    shift = tuple(int(pixels) for pixels in rng.integers(-3, 4, 2))
    return picture(letter(label, rng)).rotate(rng.uniform(-20, 20), translate=shift)


def skewed(label: int, rng: np.random.Generator) -> Image.Image:
    corners = np.array([0, 0, 0, SIDE, SIDE, SIDE, SIDE, 0]) + rng.uniform(-4, 4, 8)
    return picture(letter(label, rng)).transform((SIDE, SIDE), Image.Transform.QUAD, tuple(corners))


NEAREST, LINEAR = KNeighborsClassifier(1), LogisticRegression(C=1000, max_iter=500)
EFFECTS: list[tuple[str, dict[str, Any], Draw, Callable[..., Any], Any]] = [
    ("flip", {}, beside, lambda *row: ImageOps.mirror(picture(beside(*row))), NEAREST),
    ("geometry", {"degrees": 25, "shift": 0.2}, letter, turned, NEAREST),
    ("resized_crop", {}, letter, lambda *row: picture(letter(*row)).resize((SIDE, SIDE), box=(1, 1, 19, 19)), NEAREST),
    ("colour", {"brightness": 0.5, "contrast": 0.5}, in_its_light, in_the_other_light, NEAREST),
    ("blur", {"probability": 0.8, "gaussian": 0.15, "motion": 0}, chequered,
     lambda *row: picture(chequered(*row)).filter(BLUR_3), NEAREST),
    ("blur", {"probability": 0.8, "gaussian": 0, "motion": 0.4}, chequered,
     lambda *row: picture(chequered(*row)).filter(BLUR_3), NEAREST),
    ("image_noise", {"gaussian": 0, "speckle": 0.8, "poisson": 0}, bright_and_dark, speckled, LINEAR),
    ("cutout", {"size": 0.7}, two_parts, without_left, LINEAR),
    ("elastic", {"shift": 0.06}, letter, skewed, NEAREST),
    ("intensity_window", {"center": 0.3, "gamma": 1}, in_its_light, in_the_other_light, NEAREST),
    ("rand_augment", {"magnitude": 0.6}, in_its_light, in_the_other_light, NEAREST),
    ("trivial_augment", {}, in_its_light, in_the_other_light, NEAREST),
    ("augmix", {"severity": 0.6}, in_its_light, in_the_other_light, NEAREST),
    *(("image_preset", {"kind": kind, "strength": 1}, in_its_light, in_the_other_light, NEAREST) for kind in PRESETS),
]  # fmt: skip


def features(images: Sequence[Any]) -> np.ndarray:
    shown = [image if isinstance(image, Image.Image) else picture(image) for image in images]
    return np.stack([np.asarray(image).ravel() for image in shown]) / 255


@pytest.mark.parametrize(("name", "fields", "draw", "draw_other", "classifier"), EFFECTS)
def test_variants_teach_a_classifier_images_that_differ_in_just_this_way(name, fields, draw, draw_other, classifier):
    technique, rng = get_technique(name)(**fields), np.random.default_rng(0)
    rows, truth = [picture(draw(at % 2, rng)) for at in range(12)], np.arange(12) % 2
    tested, answers = features([draw_other(at % 2, rng) for at in range(100)]), np.arange(100) % 2
    plain = classifier.fit(features(rows), truth).score(tested, answers)
    variants = [changed(technique, row, [epoch, at]) for epoch in range(20) for at, row in enumerate(rows)]
    assert classifier.fit(features(variants), np.tile(truth, 20)).score(tested, answers) > plain + 0.05

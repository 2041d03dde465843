"""The operations of RandAugment, TrivialAugment and AugMix, and how each of these puts them together.

Each operation has a magnitude of 0 to 1: 0 leaves the image as it is, 1 is the most that the method uses. Those that go
two ways (turning, brighter or darker) go either way with probability a half; `autocontrast` and `equalise` are the same
at any magnitude above 0. Random numbers come from the generator that is given; images are of mode L or RGB and keep
their size and mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from hf_smalldata.data.image_geometry import border_colour
from hf_smalldata.errors import require

# the most of each operation: degrees, tangents of shear, shares of the side, factors off 1, bits off 8, values inverted
STANDARD = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 0.45, "translate_y": 0.45,
            "brightness": 0.9, "colour": 0.9, "contrast": 0.9, "sharpness": 0.9, "posterise": 4.0, "solarise": 1.0,
            "autocontrast": 1.0, "equalise": 1.0, "identity": 0.0}  # fmt: skip
WIDE = STANDARD | {"rotate": 135.0, "shear_x": 0.99, "shear_y": 0.99, "translate_x": 0.14, "translate_y": 0.14,
                   "brightness": 0.99, "colour": 0.99, "contrast": 0.99, "sharpness": 0.99,
                   "posterise": 6.0}  # fmt: skip
# AugMix leaves out what its test of robustness, ImageNet-C, changes: brightness, colour, contrast, sharpness
UNCORRUPTED = {name: STANDARD[name] for name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y",
                                                 "posterise", "solarise", "autocontrast", "equalise")}  # fmt: skip
UNCORRUPTED |= {"translate_x": 0.33, "translate_y": 0.33}
ONE_WAY = frozenset({"posterise", "solarise", "autocontrast", "equalise", "identity"})


def rand_augment(image: Image.Image, rng: np.random.Generator, operations: int, magnitude: float) -> Image.Image:
    """Several operations drawn with equal chances, one after the other, all with one magnitude."""
    for name in rng.choice(list(STANDARD), operations):
        image = apply(image, rng, str(name), magnitude, STANDARD)
    return image


def trivial_augment(image: Image.Image, rng: np.random.Generator, strength: float) -> Image.Image:
    """One operation drawn with equal chances, with a magnitude between 0 and `strength`, on ranges that are wide."""
    return apply(image, rng, str(rng.choice(list(WIDE))), rng.uniform(0, strength), WIDE)


def augmix(
    image: Image.Image, rng: np.random.Generator, chains: int, depth: int, severity: float, alpha: float
) -> Image.Image:
    """Chains of operations, mixed with each other and with the image itself (algorithm 1 of the paper).

    Args:
        image: any.
        rng: draws all.
        chains: how many are mixed.
        depth: the most operations of a chain.
        severity: the largest magnitude.
        alpha: of Dirichlet(alpha), the chains' shares, and of Beta(alpha, alpha), the image's own.
    """
    if severity == 0:
        return image
    own = rng.beta(alpha, alpha)
    mixed = own * np.asarray(image, dtype=np.float32)
    for share in rng.dirichlet([alpha] * chains):
        changed = image
        for name in rng.choice(list(UNCORRUPTED), rng.integers(1, depth + 1)):
            changed = apply(changed, rng, str(name), rng.uniform(0, severity), UNCORRUPTED)
        mixed += (1 - own) * share * np.asarray(changed, dtype=np.float32)
    return Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8))


def apply(
    image: Image.Image, rng: np.random.Generator, name: str, magnitude: float, most: Mapping[str, float]
) -> Image.Image:
    """One operation by its name; the generator decides which way it goes."""
    sign = 1.0 if name in ONE_WAY else float(rng.choice([-1.0, 1.0]))
    amount = sign * magnitude * most[name]
    if amount == 0:
        return image
    changed: Image.Image = _operations(image)[name](amount)
    return changed


def _operations(image: Image.Image) -> dict[str, Callable[[float], Any]]:
    v2 = require("torchvision.transforms.v2.functional", extra="image")

    def affine(degrees: float = 0, right: float = 0, down: float = 0, shear: tuple[float, float] = (0, 0)) -> Any:
        shift = [round(right * image.width), round(down * image.height)]
        angles = [float(np.degrees(np.arctan(tangent))) for tangent in shear]
        return v2.affine(image, degrees, shift, 1.0, angles, fill=border_colour(image))

    return {
        "rotate": affine,
        "shear_x": lambda amount: affine(shear=(amount, 0)),
        "shear_y": lambda amount: affine(shear=(0, amount)),
        "translate_x": lambda amount: affine(right=amount),
        "translate_y": lambda amount: affine(down=amount),
        "brightness": lambda amount: v2.adjust_brightness(image, 1 + amount),
        "colour": lambda amount: v2.adjust_saturation(image, 1 + amount),
        "contrast": lambda amount: v2.adjust_contrast(image, 1 + amount),
        "sharpness": lambda amount: v2.adjust_sharpness(image, 1 + amount),
        "posterise": lambda amount: v2.posterize(image, 8 - round(amount)),
        "solarise": lambda amount: v2.solarize(image, 256 * (1 - amount)),
        "autocontrast": lambda _: v2.autocontrast(image),
        "equalise": lambda _: v2.equalize(image),
    }

"""Images in another light: colours, blur, noise, hidden patches, windows of grey values.

Every function takes an image of mode L or RGB, draws from the generator it is given within ranges that it is given, and
keeps size and mode; ranges of nothing leave the image as it is. A grey image stays grey, also in mode RGB with three
equal channels, as files of 16 bits and of grey are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageFilter, ImageStat

from hf_smalldata.errors import require

LARGEST = 255
LEAST_NOISE = 1e-4  # of the range: Poisson counts stay numbers that can be drawn

Noise = Literal["gaussian", "speckle", "poisson"]
Fill = Literal["mean", "noise"]


def colour(
    image: Image.Image, rng: np.random.Generator, brightness: float, contrast: float, saturation: float, hue: float
) -> Image.Image:
    """Brightness, contrast, saturation by factors of 1 ± range and hue by ± range of the circle, in random order."""
    adjust = require("torchvision.transforms.v2.functional", extra="image")
    changes: list[tuple[Callable[..., Any], float, float]] = [
        (adjust.adjust_brightness, 1, brightness),
        (adjust.adjust_contrast, 1, contrast),
        (adjust.adjust_saturation, 1, saturation),
        (adjust.adjust_hue, 0, hue),
    ]
    amounts = rng.uniform(-1, 1, len(changes))
    for at in rng.permutation(len(changes)):
        change, middle, extent = changes[at]
        if extent > 0:
            image = change(image, middle + float(amounts[at]) * extent)
    return image


def gaussian_blur(image: Image.Image, rng: np.random.Generator, sigma: float) -> Image.Image:
    """Out of focus; `sigma` is the largest standard deviation, a share of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, sigma) * min(image.size))) if sigma > 0 else image


def motion_blur(image: Image.Image, rng: np.random.Generator, length: float) -> Image.Image:
    """Moved straight on while the shutter was open, in any direction.

    Args:
        image: any.
        rng: draws length and direction.
        length: of the longest streak, a share of the shorter side.
    """
    streak, angle = rng.uniform(0, length) * min(image.size), rng.uniform(0, math.pi)
    reach = streak / 2
    ends = np.linspace(-reach, reach, 2 * math.ceil(reach) + 1)  # a pixel apart at most
    steps = {(round(at * math.sin(angle)), round(at * math.cos(angle))) for at in ends}
    if len(steps) == 1:
        return image
    pixels, margin = _pixels(image), math.ceil(reach)
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    total = np.zeros(pixels.shape, np.uint32)
    for down, right in steps:
        total += wide[margin + down :, margin + right :][: image.height, : image.width]
    return _image(total / len(steps), image)


def noise(image: Image.Image, rng: np.random.Generator, kind: Noise, level: float) -> Image.Image:
    """The grain of a sensor; the same in all channels of a grey image.

    Args:
        image: any.
        rng: draws the level and the noise.
        kind: `gaussian` adds, `speckle` multiplies (ultrasound, radar), `poisson` counts photons (X-rays, low light).
        level: the largest standard deviation, a share of the range of values: everywhere, or of white.
    """
    if level == 0:
        return image
    drawn = max(rng.uniform(0, level), LEAST_NOISE)
    grey = is_grey(image)
    light = _pixels(image)[..., : 1 if grey else None].astype(np.float32) / LARGEST  # (H, W, 1 or 3)
    if kind == "poisson":
        photons = 1 / drawn**2  # of white
        grainy = rng.poisson(light * photons) / photons
    else:
        grain = drawn * rng.standard_normal(light.shape, dtype=np.float32)
        grainy = light + (grain if kind == "gaussian" else grain * light)
    return _image(grainy * LARGEST, image)


def cutout(image: Image.Image, rng: np.random.Generator, patches: int, size: float, fill: Fill) -> Image.Image:
    """Patches hidden, each about a random pixel, so that it may stick out of the image.

    Args:
        image: any.
        rng: draws places and noise.
        patches: how many.
        size: a patch's sides, a share of the image's.
        fill: the image's mean colour, or noise of any value.
    """
    tall, wide = round(size * image.height), round(size * image.width)
    if patches == 0 or tall * wide == 0:
        return image
    hidden = _pixels(image).copy()
    mean = np.rint(ImageStat.Stat(image).mean)
    channels = 1 if fill == "noise" and is_grey(image) else hidden.shape[2]
    for _ in range(patches):
        top, left = int(rng.integers(image.height)) - tall // 2, int(rng.integers(image.width)) - wide // 2
        place = hidden[max(top, 0) : max(top + tall, 0), max(left, 0) : max(left + wide, 0)]
        place[...] = mean if fill == "mean" else rng.integers(0, LARGEST + 1, (*place.shape[:2], channels))
    return _image(hidden, image)


def window(image: Image.Image, rng: np.random.Generator, center: float, width: float, gamma: float) -> Image.Image:
    """Shown through another window of grey values, as a reader of CT or MRI would set it, then with another gamma.

    The window that the image was decoded with is 0 to 1; what lies outside the new one is black or white.

    Args:
        image: any; its channels change alike.
        rng: draws within ± each range.
        center: shift of the window's centre, from 0.5.
        width: w, the window is between 1 / (1 + w) and 1 + w wide.
        gamma: g, the exponent is between 1 / (1 + g) and 1 + g.
    """
    if not any((center, width, gamma)):
        return image
    shift, wider, power = rng.uniform(-1, 1, 3)
    extent = (1 + width) ** wider
    lowest = 0.5 + shift * center - extent / 2
    light = ((np.arange(LARGEST + 1) / LARGEST - lowest) / extent).clip(0, 1) ** ((1 + gamma) ** power)
    table = (light * LARGEST).round().astype(int).tolist()
    return image.point(table * len(image.getbands()))


def is_grey(image: Image.Image) -> bool:
    """Whether all channels are equal."""
    pixels = _pixels(image)
    return all(np.array_equal(pixels[..., 0], pixels[..., at]) for at in range(1, pixels.shape[2]))


def _pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    """(H, W, channels), uint8."""
    return np.asarray(image).reshape(image.height, image.width, -1)


def _image(values: np.ndarray[Any, Any], like: Image.Image) -> Image.Image:
    """Values of 0 to 255 (H, W, channels or 1), rounded, in the mode of another image."""
    pixels = values if values.dtype == np.uint8 else np.rint(values).clip(0, LARGEST).astype(np.uint8)
    if pixels.shape[2] == 1:
        return Image.fromarray(pixels[..., 0]).convert(like.mode)
    return Image.fromarray(pixels)

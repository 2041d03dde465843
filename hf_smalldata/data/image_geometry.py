"""Images moved about: mirrored, turned, cropped, seen from aside, bent.

Every function takes an image of mode L or RGB, draws from the generator it is given within ranges that it is given, and
keeps size and mode; ranges of nothing leave the image as it is.
Lengths are shares of the image's sides, so that they mean the same at any resolution. What comes in from outside has
the colour of the border: black beside a scan, white beside a page, so that corners give nothing away.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from hf_smalldata.errors import require


def flip(image: Image.Image, rng: np.random.Generator, horizontal: float, vertical: float) -> Image.Image:
    """Mirrored left to right and upside down, each with its probability."""
    across, over = rng.random(2) < (horizontal, vertical)
    if across:
        image = _v2().horizontal_flip(image)
    return _v2().vertical_flip(image) if over else image


def affine(
    image: Image.Image, rng: np.random.Generator, degrees: float, scale: float, shift: float, shear: float
) -> Image.Image:
    """Turned, scaled, sheared about the centre and shifted, all in one resampling.

    Args:
        image: any.
        rng: draws every amount within ± its range.
        degrees: of rotation.
        scale: s, a factor between 1 / (1 + s) and 1 + s, small and large alike likely.
        shift: a share of the width and of the height.
        shear: degrees, along x and along y.
    """
    if not any((degrees, scale, shift, shear)):
        return image
    angle, zoom, right, down, along_x, along_y = rng.uniform(-1, 1, 6)
    moved: Image.Image = _v2().affine(
        image,
        angle=float(angle * degrees),
        translate=[round(right * shift * image.width), round(down * shift * image.height)],
        scale=float((1 + scale) ** zoom),
        shear=[float(along_x * shear), float(along_y * shear)],
        interpolation=_v2().InterpolationMode.BILINEAR,
        fill=border_colour(image),
    )
    return moved


def resized_crop(image: Image.Image, rng: np.random.Generator, least: float, stretch: float) -> Image.Image:
    """A part of the image, enlarged to the size of the whole.

    Args:
        image: any.
        rng: draws the part.
        least: the smallest share of the area, in (0, 1]; every share up to 1 is alike likely.
        stretch: at least 1, how far the proportions may be from those of the image, either way.
    """
    if least == 1 and stretch == 1:
        return image
    area, skew = rng.uniform(least, 1), stretch ** rng.uniform(-1, 1)
    width = max(round(image.width * min(math.sqrt(area * skew), 1)), 1)
    height = max(round(image.height * min(math.sqrt(area / skew), 1)), 1)
    left, top = (int(rng.integers(0, most + 1)) for most in (image.width - width, image.height - height))
    cropped: Image.Image = _v2().resized_crop(image, top, left, height, width, [image.height, image.width])
    return cropped


def perspective(image: Image.Image, rng: np.random.Generator, distortion: float) -> Image.Image:
    """As a camera sees a plane that is not quite across its line of sight: each corner moves inwards by itself.

    Args:
        image: any.
        rng: draws the corners.
        distortion: the farthest a corner moves, a share of half the side, in [0, 1).
    """
    if distortion == 0:
        return image
    right, bottom = image.width - 1, image.height - 1
    corners = np.array([(0, 0), (right, 0), (right, bottom), (0, bottom)], dtype=float)
    inwards = np.sign(np.array([right, bottom]) / 2 - corners) * np.array([right, bottom]) / 2
    moved = corners + rng.uniform(0, distortion, (4, 2)) * inwards
    seen: Image.Image = _v2().perspective(
        image, corners.round().astype(int).tolist(), moved.round().astype(int).tolist(), fill=border_colour(image)
    )
    return seen


def elastic(image: Image.Image, rng: np.random.Generator, shift: float, knots: int) -> Image.Image:
    """Bent as soft tissue or a pen stroke is: a coarse grid of random shifts, cubic in between.

    As U-Net does it (https://arxiv.org/abs/1505.04597, section 3.1). Edges go on outside; torchvision's own `elastic`
    darkens the pixels where its fill begins.

    Args:
        image: any.
        rng: draws the shifts.
        shift: standard deviation of a knot's shift, a share of the shorter side.
        knots: of the grid a side, at least 2; more bend it at a smaller scale.
    """
    if shift == 0:
        return image
    drawn = torch.from_numpy(rng.normal(0, shift, (1, 2, knots, knots)).astype(np.float32))
    size, channels = (image.height, image.width), len(image.getbands())
    field = functional.interpolate(drawn, size=size, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    per_side = 2 * min(size) / torch.tensor([image.width, image.height])  # in a sampling grid a side is 2 long
    straight = functional.affine_grid(torch.eye(2, 3)[None], [1, channels, *size], align_corners=False)
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).reshape(1, *size, channels).permute(0, 3, 1, 2)
    bent = functional.grid_sample(pixels, straight + field * per_side, padding_mode="border", align_corners=False)
    values = bent[0].permute(1, 2, 0).round().to(torch.uint8).numpy()  # (H, W, channels)
    return Image.fromarray(values[..., 0] if channels == 1 else np.ascontiguousarray(values))


def border_colour(image: Image.Image) -> list[int]:
    """The median of the outermost pixels, by channel."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])  # (pixels, channels)
    return [int(value) for value in np.median(border, axis=0)]


def _v2() -> Any:
    return require("torchvision.transforms.v2.functional", extra="image")

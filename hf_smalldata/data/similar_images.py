"""Images that are nearly the same: copies of another size, encoding or brightness, and neighbours in a burst of photos.

Each image becomes 256 bits, the signs of the lowest frequencies of its grey values against their median (pHash, Zauner
2010, https://www.phash.org/docs/pubs/thesis_zauner.pdf, with 16 x 16 frequencies for 8 x 8: among cells, sketches and
digits, 64 bits call many different images the same). Crops of more than a few per cent, turns and mirror images are not
found; drawings of a few strokes can be called the same though another hand drew them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from hf_smalldata.data.similar import Pair, similar_hashes

MOST_BITS = 48  # of 256
_SIDE = 32  # pixels of the thumbnail
_FREQUENCIES = 16
_FLAT = 1.0  # standard deviation of the thumbnail's values (of 0 to 255) below which there is nothing to compare


def similar_images(images: Iterable[Image.Image], most_bits: int = MOST_BITS) -> list[Pair]:
    """Pairs of images whose hashes differ in `most_bits` of 256 bits or fewer; only one image is needed at a time.

    Different photos differ in 90 bits and more, copies in 20 at most (a quarter brighter: 36), a photo moved by a
    hundredth of its width and height in 25 to 60. Drawings of single strokes (handwritten digits) need `most_bits` of
    20 to be told apart. Equal hashes are paired with the first of them only.
    """
    return similar_hashes([image_hash(image) for image in images], most_bits)


def image_hash(image: Image.Image) -> NDArray[np.uint8]:
    """256 bits, packed (32,); of an image of one colour they are drawn at random from that colour.

    So a flat image has the hash of those of the same mean colour, to 4 of 255, and is far from all others.
    """
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(small, dtype=np.float64)  # (H, W, 3)
    if pixels.std(axis=(0, 1)).max() < _FLAT:
        colour = (pixels.mean(axis=(0, 1)) / 4).round().astype(int).tolist()
        return np.frombuffer(np.random.default_rng(colour).bytes(_FREQUENCIES**2 // 8), dtype=np.uint8)
    grey = pixels @ (0.299, 0.587, 0.114)  # as ITU-R 601 weighs them
    waves = dctn(grey)[:_FREQUENCIES, :_FREQUENCIES].ravel()
    return np.packbits(waves > np.median(waves))

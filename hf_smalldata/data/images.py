"""Images as rows hold them (a path or bytes, undecoded), and their decoding to RGB, one rule for every mode.

Rows stay undecoded so that a set fits in memory and a damaged file is named before training, not an hour into it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hf_smalldata.data import dicom
from hf_smalldata.data.table import refusal
from hf_smalldata.errors import UserError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", *dicom.SUFFIXES}
)
NEARLY_BLACK, MOST_BLACK = 8, 0.99  # of 255, and of the pixels
TWELVE_BITS = 4095

_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)  # as PIL says it


def open_image(value: Any, window: Sequence[float] | None = None) -> Image.Image:
    """Decode one image to RGB, the way a person sees it.

    EXIF rotation is applied; transparency is laid over white; greyscale, palette and CMYK are converted. Integer images
    of more than 8 bits are read as 16-bit whatever they hold: 0..65535 becomes 0..255, and values outside are clipped.
    The rule looks at no pixel, so all images of a set are treated alike; 12-bit data comes out dark and needs `window`.
    Floating-point images have no agreed range and are refused without it. Of an animation, the first frame. DICOM files
    are read by `dicom.open_dicom`.

    Args:
        value: `{"bytes": ..., "path": ...}` as a row holds it, a path, bytes, or an opened image.
        window: centre and width of the grey values to show. Images of 8 bits ignore it, as a set may hold both.

    Raises:
        UserError: no image, a damaged one, one of many pages, or one larger than PIL allows; it names the file.
    """
    name = _name(value)
    source = _source(value)
    if _is_dicom(source):
        return dicom.open_dicom(source, window, name).convert("RGB")
    return _to_rgb(_decode(source, name), window, name)


def check_images(values: Iterable[Any], names: Iterable[str], where: str) -> None:
    """Open every image (its header and checksums, not its pixels).

    Raises:
        UserError: some cannot be opened; the first 20 are named, each with the reason.
    """
    broken, count = [], 0
    for value, name in zip(values, names, strict=True):
        count += 1
        if reason := _problem(value):
            broken.append(f"{_name(value, name)}: {reason}")
    if broken:
        raise refusal(where, broken, count, "images can't be opened")


def image_problems(value: Any, window: Sequence[float] | None = None) -> str | None:
    """What a model could not see anything in: an image of one colour, a nearly black one; None if it looks sound.

    Raises:
        UserError: as `open_image`, of which it takes the arguments.
    """
    source = _source(value)
    raw = None if _is_dicom(source) else _decode(source, _name(value))
    if raw is not None and window is None and raw.mode.startswith("I"):
        largest = np.asarray(raw).max()
        if 255 < largest <= TWELVE_BITS:
            return "12-bit data in a 16-bit file comes out dark: set data.window: {center: 2048, width: 4096}"
    shown = np.asarray(open_image(value if raw is None else raw, window))
    if (shown == shown[0, 0]).all():
        return "all pixels have one colour"
    if (shown.max(axis=2) < NEARLY_BLACK).mean() >= MOST_BLACK:
        return "nearly black: 99 % of its pixels are below 8 of 255"
    return None


def accepts(path: Path) -> bool:
    """Whether a file of a folder is an image: by its suffix, or a DICOM file of any name (IM0001, 1.2.840.113619.2)."""
    return path.suffix.lower() in SUFFIXES or (path.name != "DICOMDIR" and dicom.is_dicom(dicom.read_head(path)))


def _decode(source: Any, name: str) -> Image.Image:
    """Upright, in the file's own mode."""
    try:
        with _open(source) as image:
            if pages := _pages(image):
                raise UserError(f"{name}: {pages}")
            return ImageOps.exif_transpose(image)  # a copy, so decoded here
    except _DAMAGED as error:
        raise UserError(
            f"{name}: expected an image, could not decode it ({_reason(error)}); mend or remove it"
        ) from error


def _problem(value: Any) -> str | None:
    """Why `open_image` would refuse a file, without decoding its pixels."""
    try:
        source = _source(value)
        if _is_dicom(source):
            return dicom.dicom_problem(source)
        with _open(source) as image:
            pages = _pages(image)
            image.verify()
            return pages
    except _DAMAGED as error:
        return _reason(error)


def _pages(image: Image.Image) -> str | None:
    if image.format == "TIFF" and (count := getattr(image, "n_frames", 1)) > 1:
        return f"holds {count} pages, expected one image; save the pages you need as files of their own"
    return None


def _source(value: Any) -> Any:
    """A path, bytes, an opened image, or None out of what a row holds."""
    if isinstance(value, Mapping):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    return bytes(value) if isinstance(value, bytearray) else value


def _is_dicom(source: Any) -> bool:
    if isinstance(source, bytes):
        return dicom.is_dicom(source)
    if not isinstance(source, (str, Path)) or not Path(source).is_file():
        return False
    return Path(source).suffix.lower() in dicom.SUFFIXES or dicom.is_dicom(dicom.read_head(source))


def _open(source: Any) -> Image.Image:
    """An image object over path or bytes; the caller turns what PIL raises into words."""
    if isinstance(source, Image.Image):
        return source
    if source is None:
        raise ValueError("neither bytes nor a path")
    if isinstance(source, bytes):
        if not source:
            raise ValueError("no bytes")
        return _of_bearable_size(Image.open(BytesIO(source)))
    path = Path(source)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    return _of_bearable_size(Image.open(path))


def _of_bearable_size(image: Image.Image) -> Image.Image:
    """The image, of which only the header was read; PIL itself warns at this size and refuses at twice as much."""
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


def _name(value: Any, otherwise: str = "an image without a file name") -> str:
    path = value.get("path") if isinstance(value, Mapping) else value
    return str(path) if isinstance(path, (str, Path)) else otherwise


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a kind that PIL knows"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
    return str(error) or type(error).__name__


def _to_rgb(image: Image.Image, window: Sequence[float] | None, name: str) -> Image.Image:
    if image.mode == "F":
        if window is None:
            raise UserError(
                f"{name}: floating-point images have no agreed range; set data.window: {{center: …, width: …}} to the "
                "values to show, or save it with 8 or 16 bits a pixel"
            )
        return Image.fromarray(dicom.exact_window(np.asarray(image), window[0], window[1])).convert("RGB")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if window is not None:
            return Image.fromarray(dicom.linear_window(wide, window[0], window[1])).convert("RGB")
        return Image.fromarray((wide.clip(0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")

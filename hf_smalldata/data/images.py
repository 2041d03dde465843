"""Images as rows hold them (a path or bytes, undecoded), and their decoding to RGB, one rule for every mode.

Rows stay undecoded so that a set fits in memory and a damaged file is named before training, not an hour into it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hf_smalldata.data.table import Table, first_of, split_of
from hf_smalldata.errors import UserError, listed

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)  # as PIL says it


def open_image(value: Any) -> Image.Image:
    """Decode one image to RGB, the way a person sees it.

    EXIF rotation is applied; transparency is laid over white; greyscale, palette and CMYK are converted. Integer images
    of more than 8 bits are read as 16-bit whatever they hold: 0..65535 becomes 0..255, and values outside are clipped.
    The rule looks at no pixel, so all images of a set are treated alike; 12-bit data comes out dark and should be
    rescaled before. Floating-point images have no agreed range and are refused. Of an animation, the first frame.

    Args:
        value: `{"bytes": ..., "path": ...}` as a row holds it, a path, bytes, or an opened image.

    Raises:
        UserError: no image, a damaged one, or one larger than PIL allows; it names the file.
    """
    name = _name(value)
    try:
        with _open(value) as image:
            upright = ImageOps.exif_transpose(image)  # a copy, so decoded here
    except _DAMAGED as error:
        raise UserError(
            f"{name}: expected an image, could not decode it ({_reason(error)}); mend or remove it"
        ) from error
    if upright.mode == "F":
        raise UserError(f"{name}: floating-point images have no agreed range; save it with 8 or 16 bits a pixel")
    return _to_rgb(upright)


def check_images(values: Iterable[Any], names: Iterable[str], where: str) -> None:
    """Open every image (its header and checksums, not its pixels).

    Raises:
        UserError: some cannot be opened; the first 20 are named, each with the reason.
    """
    broken, count = [], 0
    for value, name in zip(values, names, strict=True):
        count += 1
        try:
            with _open(value) as image:
                image.verify()
        except _DAMAGED as error:
            broken.append(f"{_name(value, name)}: {_reason(error)}")
    if broken:
        shown = "\n  ".join(first_of(broken))
        raise UserError(
            f"{where}: {len(broken)} of {count} images can't be opened; mend them or take them out:\n  {shown}"
        )


def read_bytes(value: Mapping[str, Any]) -> bytes:
    """The file's own bytes of one row's image: what makes two images identical."""
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def read_folder(folder: Path) -> dict[str, Table]:
    """Class folders of images, with or without split folders (train, validation / valid / val / dev, test) above them.

    A folder of its own name is a split only if it holds folders of images and no images itself, so a class may be
    called `train`. Ids are paths below `folder`: `train/ants/x.jpg`.

    Raises:
        UserError: no class folders of images.
    """
    splits = {split: path for path in _folders(folder) if (split := split_of(path.name)) and _holds_classes(path)}
    if splits:
        return {split: read_classes(path, folder) for split, path in splits.items()}
    return {"train": read_classes(folder, folder)}


def read_classes(folder: Path, root: Path) -> Table:
    """One split: each direct subfolder that holds images is a class. Ids are paths below `root`."""
    ids: list[str] = []
    columns: dict[str, list[Any]] = {"image": [], "label": []}
    empty, strange = [], []
    for class_folder in _folders(folder):
        files = sorted(path for path in class_folder.iterdir() if path.is_file() and not path.name.startswith("."))
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not images:
            empty.append(class_folder.name)
        strange += [path.relative_to(root).as_posix() for path in files if path.suffix.lower() not in SUFFIXES]
        ids += [path.relative_to(root).as_posix() for path in images]
        columns["image"] += [str(path) for path in images]
        columns["label"] += [class_folder.name] * len(images)
    if not ids:
        raise UserError(_no_classes(folder))
    warnings = []
    if empty:
        warnings.append(f"{folder}: folders without images are no classes here: {listed(empty)}")
    if strange:
        warnings.append(f"{folder}: {len(strange)} files are no images and were left out: {listed(strange)}")
    return Table(str(folder), ids, columns, origin=folder.resolve(), warnings=tuple(warnings))


def _no_classes(folder: Path) -> str:
    found = listed(sorted(path.name for path in folder.iterdir())) or "nothing"
    inner = [path for path in _folders(folder) if _holds_classes(path)]
    advice = f"; did you mean one of its folders, such as {inner[0]}?" if inner else ""
    return f"{folder}: expected a folder of images for each class (cat/1.jpg, dog/1.jpg), found {found}{advice}"


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _holds_classes(folder: Path) -> bool:
    return not _holds_images(folder) and any(_holds_images(inner) for inner in _folders(folder))


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir())


def _open(value: Any) -> Image.Image:
    """An image object over path or bytes; the caller turns what PIL raises into words."""
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, Mapping):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise ValueError("neither bytes nor a path")
    if isinstance(value, (bytes, bytearray)):
        if not value:
            raise ValueError("no bytes")
        return Image.open(BytesIO(value))
    path = Path(value)
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    return Image.open(path)


def _name(value: Any, otherwise: str = "an image without a file name") -> str:
    path = value.get("path") if isinstance(value, Mapping) else value
    return str(path) if isinstance(path, (str, Path)) else otherwise


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a kind that PIL knows"
    return str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((wide / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    return image.convert("RGB")

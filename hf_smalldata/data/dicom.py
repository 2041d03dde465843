"""DICOM files to 8-bit images: the grey values that a viewer would show, and the patient they are of.

Many images of one patient are no independent rows: with few patients, a split that has the same ones on both sides
measures memory. So the patient's id is read as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from hf_smalldata.errors import UserError, require

SUFFIXES = (".dcm", ".dicom")
HEAD_BYTES = 132  # how much of a file tells whether it is DICOM

_DEFLATED = "1.2.840.10008.1.2.1.99"  # the transfer syntax whose header is compressed too
_META_GROUP = 2  # of the elements that stand before the header
_MOST_BYTES = 6  # of a pixel: three colours of 16 bits
_PIECE = 2**20  # bytes that are inflated at once
_HEADER_ONLY = 1024  # bytes; longer elements, the pixels above all, are skipped
_NOBODY = frozenset({"", "0", "anon", "anonymous", "anonymized", "anonymised", "deidentified", "none", "unknown"})
_PIXEL_DATA = 0x7FE00010
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, by its first `HEAD_BYTES`."""
    return head[128:HEAD_BYTES] == b"DICM"


def open_dicom(source: str | Path | bytes, window: Sequence[float] | None, name: str | None = None) -> Image.Image:
    """One DICOM image in mode L or RGB.

    Grey values go through the file's modality transform (Hounsfield units for CT), then through a window: `window`,
    else the file's first, else all that its bits can store becomes 0..255. This last rule looks at no pixel, so that
    one value is one grey in all files alike; where only part of the bits is used the image comes out dark, and `window`
    is the cure. Images of 8 bits ignore `window`, as pictures do. MONOCHROME1 is inverted; colour becomes RGB.

    Args:
        source: a path, or the file's bytes.
        window: centre and width of the grey values shown, after the modality transform (PS3.3 C.11.2.1.2.1).
        name: what messages call it; the path by default.

    Raises:
        UserError: not DICOM, damaged, too large, of many frames, without pixels, or in a compression not read here.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "a DICOM file without a name")
    pixels = require("pydicom.pixels", extra="medical")
    if reason := dicom_problem(source):
        raise UserError(f"{name}: {reason}")
    with _quietly():
        try:
            dataset = _read(source)
            values = pixels.pixel_array(dataset)
            if dataset.PhotometricInterpretation in _GREY:
                return Image.fromarray(_grey(dataset, values, window, pixels))
            return Image.fromarray(_colour(dataset, values, pixels))
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        except Exception as error:  # pydicom and its decoders raise whatever a damaged file leads them to
            raise UserError(
                f"{name}: expected a DICOM image, could not decode it ({error}); mend or remove it"
            ) from error


def dicom_problem(source: str | Path | bytes) -> str | None:
    """Why `open_dicom` would refuse a file, by its header alone; None if it would not.

    Raises:
        UserError: pydicom is not installed.
    """
    require("pydicom", extra="medical")
    with _quietly():
        try:
            dataset = _read(source, defer_size=_HEADER_ONLY)
            return _why_not(dataset, len(source) if isinstance(source, bytes) else os.path.getsize(source))
        except FileNotFoundError:
            return "no such file"
        except UserError as error:
            return str(error)
        except Exception as error:  # see open_dicom
            return f"expected a DICOM file, could not read its header ({error}); mend or remove it"


def patient_id(source: str | Path | bytes) -> str | None:
    """The patient's id as the file has it; None where it has none, or one that stands for anybody ('ANONYMOUS').

    Raises:
        UserError: pydicom is not installed, or this is no DICOM file.
    """
    require("pydicom", extra="medical")
    with _quietly():
        try:
            dataset = _read(source, stop_before_pixels=True, specific_tags=["PatientID"])
            found = str(dataset.get("PatientID") or "").strip()
        except Exception as error:  # see open_dicom
            raise UserError(f"expected a DICOM file, could not read its header ({error})") from error
    return None if found.lower() in _NOBODY else found


def patient_groups(values: Iterable[Mapping[str, Any]]) -> list[str] | None:
    """The patient of each row ({"bytes", "path"}); a row that tells of none stands alone. None if no row tells."""
    groups, told = [], False
    for value in values:
        source = value["bytes"] if value["bytes"] is not None else value["path"]
        patient = patient_id(source) if is_dicom(read_head(source)) else None
        told = told or patient is not None
        groups.append(patient or _own_name(source))
    return groups if told else None


def read_head(source: str | Path | bytes) -> bytes:
    """The first `HEAD_BYTES` of a file."""
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with open(source, "rb") as file:
        return file.read(HEAD_BYTES)


def linear_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Whole grey values to 0..255 (uint8) by DICOM's linear function: `width` values are shown, those outside clipped.

    Raises:
        UserError: a width below 1, for which the function is not defined.
    """
    if width < 1:
        raise UserError(
            f"expected a window width of at least 1 for whole grey values, found {width:g}; set data.window"
        )
    if width == 1:
        return np.where(values > center - 0.5, 255, 0).astype(np.uint8)
    return _bytes((values - (center - 0.5)) / (width - 1) + 0.5)  # PS3.3 C.11.2.1.2.1


def exact_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Real values to 0..255 (uint8): `center` - `width` / 2 becomes 0, `center` + `width` / 2 255. NaN becomes 0."""
    return _bytes((np.nan_to_num(values, nan=-np.inf) - center) / width + 0.5)  # PS3.3 C.11.2.1.3.2


def _read(source: str | Path | bytes, **how: Any) -> Any:
    pydicom = require("pydicom", extra="medical")
    with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
        _check_deflated(file)
    return pydicom.dcmread(BytesIO(source) if isinstance(source, bytes) else source, **how)


def _check_deflated(file: BinaryIO) -> None:
    """Refuse what inflates, header and pixels at once, to more than the largest image holds."""
    reader = require("pydicom.filereader", extra="medical")
    reader.read_preamble(file, False)
    meta = reader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != _META_GROUP)
    if Image.MAX_IMAGE_PIXELS is None or meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    left, stream, data = Image.MAX_IMAGE_PIXELS * _MOST_BYTES, zlib.decompressobj(-zlib.MAX_WBITS), file.read()
    while data and not stream.eof:
        left -= len(stream.decompress(data, _PIECE))
        data = stream.unconsumed_tail
        if left < 0:
            raise UserError(f"inflates to more than {Image.MAX_IMAGE_PIXELS:,} pixels hold; save it smaller")


def _why_not(dataset: Any, size: int) -> str | None:
    """What a header says against decoding its file of `size` bytes."""
    if "PixelData" not in dataset or "Rows" not in dataset:
        return f"holds no image (modality {dataset.get('Modality') or 'unknown'}), as reports and plans do; take it out"
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        return f"holds {frames} frames, expected one image; export the frames you need as files of their own"
    limit = Image.MAX_IMAGE_PIXELS  # as for pictures of other kinds
    if limit and dataset.Rows * dataset.Columns > limit:
        return f"holds {dataset.Columns:,} x {dataset.Rows:,} pixels, more than {limit:,}; save it smaller"
    if dataset.PhotometricInterpretation not in (*_GREY, *_COLOURS):
        return f"expected grey, RGB, YBR or palette colour, found {dataset.PhotometricInterpretation}; export it as PNG"
    raw = dict(dataset.items())[_PIXEL_DATA]  # not read yet, as it would be by any other access
    missing = raw.value_tell + raw.length - size if raw.length != 0xFFFFFFFF else 0
    if missing > 0:
        return f"is cut off: {missing} of its {raw.length} bytes of pixels are missing; copy it again"
    return _no_decoder(dataset.file_meta.TransferSyntaxUID)


def _no_decoder(syntax: Any) -> str | None:
    pixels = require("pydicom.pixels", extra="medical")
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        return f"its transfer syntax, {syntax.name}, holds no still image that pydicom reads; export it as PNG"
    if decoder.is_available:
        return None
    return f"is compressed as {syntax.name}, which no installed library decodes; run: pip install 'pylibjpeg[all]'"


def _grey(dataset: Any, stored: np.ndarray, window: Sequence[float] | None, pixels: Any) -> np.ndarray:
    """Stored values (H, W) -> uint8 (H, W)."""
    values = pixels.apply_modality_lut(stored.astype(np.int64), dataset)
    if window is not None and dataset.BitsStored > 8:
        grey = linear_window(values, window[0], window[1])
    elif dataset.get("VOILUTSequence"):
        grey = _looked_up(dataset, values, pixels)
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        grey = _own_window(dataset, values)
    else:
        bits, signed = dataset.BitsStored, dataset.PixelRepresentation == 1
        stored_ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
        ends = pixels.apply_modality_lut(stored_ends, dataset)
        grey = _bytes((values - ends.min()) / max(ends.max() - ends.min(), 1e-12))
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def _looked_up(dataset: Any, values: np.ndarray, pixels: Any) -> np.ndarray:
    """Through the first of the file's tables of grey values."""
    table = dataset.VOILUTSequence[0]
    count, first, bits = table.LUTDescriptor
    table.LUTDescriptor = [count, first, 16]  # pydicom counts entries in the type of the values, too small at 8 bits
    return _bytes(pixels.apply_voi(values, dataset) / (2**bits - 1))


def _own_window(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Through the first of the windows that the file brings."""
    center, width = (float(np.ravel(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return _bytes(1 / (1 + np.exp(-4 * (values - center) / width)))  # PS3.3 C.11.2.1.3.1
    return (exact_window if function == "LINEAR_EXACT" else linear_window)(values, center, width)


def _colour(dataset: Any, values: np.ndarray, pixels: Any) -> np.ndarray:
    """Decoded RGB (H, W, 3) or palette indices (H, W) -> uint8 RGB (H, W, 3)."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)[..., :3]
        largest = np.iinfo(values.dtype).max
    else:
        largest = 2**dataset.BitsStored - 1
    return values if largest == 255 else _bytes(values / largest)


def _bytes(fraction: np.ndarray) -> np.ndarray:
    """0..1 -> 0..255, rounded; what lies outside is clipped."""
    return (fraction.clip(0, 1) * 255).round().astype(np.uint8)


def _own_name(source: str | Path | bytes) -> str:
    """What no other row is called."""
    return hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else str(source)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without pydicom's warnings: nearly every scanner breaks some rule of the standard that no pixel depends on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

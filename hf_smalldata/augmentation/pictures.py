"""Variants of images as a contact sheet, and of sounds as files to listen to, beside their spectrograms.

A row a training row: the original first, then its variants, all on one scale, so that a crop looks like one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_smalldata.augmentation.family import Family, Row
from hf_smalldata.data import audio
from hf_smalldata.data.images import open_image
from hf_smalldata.report.colours import LIGHT
from hf_smalldata.report.svg import png

CELL_INCHES, HEAD_INCHES, EDGE_INCHES = 1.7, 0.34, 0.12
SHORT_FFT_S, FLOOR_DB = 0.032, -80.0
MOST_LETTERS = 24  # of a caption line

Named = Callable[[Row], str]  # the label of a row
Draw = Callable[[Axes, Row, Family], None]


def contact_sheet(families: Sequence[Family], named: Named, file: Path) -> None:
    """A png of images; each fills its cell, whatever its size."""
    png(lambda: _grid(families, named, _draw_image, aspect=1.0), file)


def listening_folder(families: Sequence[Family], named: Named, folder: Path) -> list[list[Path]]:
    """Wav files such as `1-original.wav` and `1-variant-1.wav`, and spectrograms.png -> the files of each family."""
    folder.mkdir()
    files = []
    for number, family in enumerate(families, start=1):
        names = [*([f"{number}-original.wav"] if family.original else []),
                 *(f"{number}-variant-{at}.wav" for at in range(1, len(family.variants) + 1))]  # fmt: skip
        for name, row in zip(names, family.rows, strict=True):
            (folder / name).write_bytes(audio.as_file(row["audio"])["bytes"])
        files.append([folder / name for name in names])
    longest = max(len(row["audio"]["array"]) / row["audio"]["sampling_rate"] for each in families for row in each.rows)
    png(lambda: _grid(families, named, partial(_draw_sound, longest_s=longest), aspect=0.55),
        folder / "spectrograms.png")  # fmt: skip
    return files


def _grid(families: Sequence[Family], named: Named, draw: Draw, aspect: float) -> Figure:
    columns = max(1 + len(family.variants) for family in families)
    width, height = CELL_INCHES, CELL_INCHES * aspect
    size = columns * (width + EDGE_INCHES) + EDGE_INCHES, len(families) * (height + HEAD_INCHES + EDGE_INCHES)
    figure = Figure(figsize=size)
    for down, family in enumerate(families):
        first = [(family.original, named(family.original), Path(family.original["id"]).name)] if family.original else []
        cells = [*first, *((each.row, *each.caption) for each in family.variants)]
        for across, (row, title, detail) in enumerate(cells, start=1 - len(first)):
            left = EDGE_INCHES + across * (width + EDGE_INCHES)
            top = size[1] - down * (height + HEAD_INCHES + EDGE_INCHES) - HEAD_INCHES
            axes = figure.add_axes((left / size[0], (top - height) / size[1], width / size[0], height / size[1]))
            original = bool(first) and across == 0
            _head(axes, title, detail, original)
            draw(axes, row, family)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=LIGHT["accent" if original else "rule"], linewidth=1.0)
    return figure


def _head(axes: Axes, title: str, detail: str, original: bool) -> None:
    """Two lines above a cell."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    for line, up, colour, size in ((title, 11, "accent" if original else "ink", 7.5), (detail, 3, "muted", 6.5)):
        axes.annotate(_short(line), (0, 1), (0, up), color=LIGHT[colour], fontsize=size, va="bottom", **place)


def _short(text: str) -> str:
    half = MOST_LETTERS // 2
    plain = text.replace("$", r"\$")
    return plain if len(text) <= MOST_LETTERS else f"{plain[: half - 1]}…{plain[-half:]}"


def _draw_image(axes: Axes, row: Row, family: Family) -> None:
    pixels = np.asarray(open_image(row["image"]))
    small = max(pixels.shape[:2]) < 200
    axes.imshow(pixels, aspect="equal", interpolation="nearest" if small else "antialiased")
    side = max(pixels.shape[:2])
    height, width = pixels.shape[:2]
    axes.set(xlim=((width - side) / 2 - 0.5, (width + side) / 2 - 0.5),
             ylim=((height + side) / 2 - 0.5, (height - side) / 2 - 0.5))  # fmt: skip


def _draw_sound(axes: Axes, row: Row, family: Family, longest_s: float) -> None:
    """Power by time and frequency in dB below the loudest of the original, with the axis of the longest clip."""
    power, loudest = _power(row), _power(family.rows[0]).max()
    decibels = 10 * np.log10(np.maximum(power / max(loudest, 1e-12), 10 ** (FLOOR_DB / 10)))
    samples, rate = row["audio"]["array"], row["audio"]["sampling_rate"]
    axes.imshow(decibels, aspect="auto", origin="lower", cmap="magma", vmin=FLOOR_DB, vmax=0,
                extent=(0, len(samples) / rate, 0, rate / 2000))  # fmt: skip
    axes.set(xlim=(0, longest_s))


def _power(row: Row) -> np.ndarray[Any, Any]:
    """(frequencies, frames), of overlapping windows."""
    samples, rate = np.asarray(row["audio"]["array"], np.float64), row["audio"]["sampling_rate"]
    window = max(int(SHORT_FFT_S * rate), 16)
    padded = np.pad(samples, (0, max(window - len(samples), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
    found: np.ndarray[Any, Any] = np.abs(np.fft.rfft(frames * np.hanning(window))).T ** 2
    return found

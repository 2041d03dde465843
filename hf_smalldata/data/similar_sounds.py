"""Sounds that are nearly the same: copies at another loudness, with silence around, slight noise, or encoded anew.

Each sound becomes 256 bits that say where its energy rises or falls, over 17 bands of frequency and 17 stretches of
time (Haitsma & Kalker 2002, https://ismir2002.ismir.net/proceedings/02-FP04-2.pdf, section 4.2, for whole clips). Two
recordings of the same word by the same speaker are different sounds. Parts of a longer recording are not found.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_smalldata.data.similar import Pair, similar_hashes

Waveform = NDArray[Any]

MOST_BITS = 44  # of 256
_CELLS = 17  # bands, and stretches: their differences are 16 x 16
_WINDOW_SECONDS = 0.032
_FRAMES = (4, 256)  # fewest and most a stretch
_CUT = 0.02  # of the energy, at either end: where the sound starts and ends, whatever silence is around it
_FLOOR = 1e-3  # of the loudest cell's energy: what is quieter counts as silence
_SILENT = 1e-9  # of full scale
_STRETCH = 0.1  # in the logarithm of the duration


def similar_sounds(waveforms: Iterable[Waveform], rate_hz: int, most_bits: int = MOST_BITS) -> list[Pair]:
    """Pairs of sounds whose hashes differ in `most_bits` of 256 bits or fewer and whose durations differ by a tenth.

    Only one waveform (T,) is needed at a time. Different recordings of one digit by one speaker differ in 53 bits and
    more. Equal hashes are paired with the first of them only; silent clips with those of the same length.

    Args:
        waveforms: of one channel each.
        rate_hz: samples a second, of all of them.
        most_bits: 256 - 256 * the least similarity.
    """
    hashes, samples = [], []
    for waveform in waveforms:
        sound = _trimmed(waveform)
        hashes.append(_hash(sound, rate_hz))
        samples.append(max(len(sound), 1))
    pairs = similar_hashes(hashes, most_bits)
    return [pair for pair in pairs if abs(math.log(samples[pair.first] / samples[pair.second])) <= _STRETCH]


def sound_hash(waveform: Waveform, rate_hz: int) -> NDArray[np.uint8]:
    """256 bits, packed (32,), of a waveform (T,); of a silent one they are drawn at random from its length."""
    return _hash(_trimmed(waveform), rate_hz)


def _trimmed(waveform: Waveform) -> NDArray[np.float64]:
    """The waveform about its mean from where a 50th of its energy has passed to where a 50th is left; silence whole."""
    sound: NDArray[np.float64] = np.asarray(waveform, dtype=np.float64)
    sound = sound - sound.sum() / max(len(sound), 1)
    if _silent(sound):
        return sound
    passed = np.cumsum(sound**2)
    start, stop = np.searchsorted(passed, [_CUT * passed[-1], (1 - _CUT) * passed[-1]])
    cut: NDArray[np.float64] = sound[start : stop + 1]
    return cut


def _silent(sound: NDArray[np.float64]) -> bool:
    return not np.any(np.abs(sound) > _SILENT)


def _hash(sound: NDArray[np.float64], rate_hz: int) -> NDArray[np.uint8]:
    if _silent(sound):
        return np.frombuffer(np.random.default_rng(len(sound)).bytes(32), dtype=np.uint8)
    window = int(_WINDOW_SECONDS * rate_hz)
    each = int(np.clip(2 * len(sound) / window / _CELLS, *_FRAMES))  # frames a stretch, overlapping by half
    last = max(len(sound) - window, 0)
    starts = np.linspace(0, last, _CELLS * each).round().astype(np.int64)
    frames = np.pad(sound, (0, max(window - len(sound), 0)))[starts[:, None] + np.arange(window)]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), 2 * window)) ** 2  # (frames, window + 1)
    energy = (power @ _filters(rate_hz, window)).reshape(_CELLS, each, _CELLS).mean(axis=1)  # (stretches, bands)
    level = np.log(energy + _FLOOR * energy.max())
    rises: NDArray[np.uint8] = np.packbits(np.diff(np.diff(level, axis=0), axis=1) > 0)  # eq. 1
    return rises


@functools.cache
def _filters(rate_hz: int, window: int) -> NDArray[np.float64]:
    """Triangular mel filters (window + 1, bands) from 100 Hz to just below what the rate can carry, 8000 Hz at most."""
    from transformers.audio_utils import mel_filter_bank  # a second to import

    filters: NDArray[np.float64] = mel_filter_bank(
        window + 1, _CELLS, 100, min(8000.0, 0.45 * rate_hz), rate_hz, norm=None, mel_scale="htk"
    )
    return filters

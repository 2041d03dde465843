"""Sounds as rows hold them (a path or bytes, undecoded), and their decoding to one channel at the model's rate.

Rows stay undecoded so that a set fits in memory and a damaged file is named before training, not an hour into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hf_smalldata.data.table import refusal
from hf_smalldata.errors import UserError, require

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif", ".au", ".caf"})
SHORTEST_S = 0.05  # one frame of the speech encoders takes 0.025 s
MOST_CHANNELS = 16
LOWEST_RATE_HZ = 8000  # of a telephone
MARGIN_S = 0.25  # read beyond a cut, so that the resampling filter sees there what it would see in the whole file
SILENT = 1e-4  # largest absolute sample: -80 dB
FULL_SCALE = 0.999
CLIPPED_FRACTION = 0.01
PLAYER_RATE_HZ, PLAYER_SECONDS = 16_000, 10.0

Waveform = np.ndarray[Any, np.dtype[np.float32]]


class SoundFacts(NamedTuple):
    """What the header of a sound file says."""

    seconds: float
    rate_hz: int
    channels: int


def open_audio(value: Any, rate_hz: int, seconds: float | None = None) -> Waveform:
    """Decode one sound to the mean of its channels at `rate_hz`: float32 (samples,), full scale is ±1.

    Args:
        value: `{"bytes": ..., "path": ...}` as a row holds it, a path, bytes, or `{"array": ..., "sampling_rate": ...}`
            with an array (samples,).
        rate_hz: the rate that the model expects.
        seconds: what lies beyond is not read; None for all of it.

    Raises:
        UserError: no sound, a damaged one, or samples that are no numbers; it names the file.
    """
    name = _name(value)
    if isinstance(value, Mapping) and "array" in value:
        samples, rate = np.asarray(value["array"], np.float32), int(value["sampling_rate"])
    else:
        samples, rate = _read(value, name, seconds)
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: expected finite samples, found NaN or infinity; mend or remove it")
    if rate != rate_hz:
        samples = require("soxr", extra="audio").resample(samples, rate, rate_hz)
    return samples if seconds is None else samples[: round(seconds * rate_hz)]


def as_file(value: Any) -> dict[str, Any]:
    """What a row holds of a sound: {"bytes", "path"}, one of them None.

    Args:
        value: as `open_audio` takes it; samples become the bytes of a wav file of 32-bit floats.

    Raises:
        UserError: samples without their rate, or something else.
    """
    if isinstance(value, Mapping) and "array" in value:
        stream = BytesIO()
        samples = np.asarray(value["array"], np.float32)
        require("soundfile", extra="audio").write(
            stream, samples, int(value["sampling_rate"]), format="WAV", subtype="FLOAT"
        )
        return {"bytes": stream.getvalue(), "path": None}
    if isinstance(value, Mapping):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, (str, Path)):
        return {"bytes": None, "path": str(value)}
    raise UserError(
        f'expected a sound: a path, bytes of a file, or {{"array": samples, "sampling_rate": rate}}, '
        f"found {type(value).__name__}"
    )


def for_player(value: Any) -> bytes:
    """A wav file for a report: one channel of 16 bits at 16 kHz, the first 10 seconds (320 kB at most)."""
    stream = BytesIO()
    samples = open_audio(value, PLAYER_RATE_HZ, PLAYER_SECONDS)
    require("soundfile", extra="audio").write(stream, samples, PLAYER_RATE_HZ, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def sound_facts(value: Any) -> SoundFacts:
    """Length, rate and channels by the header alone; nothing is decoded.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        return _facts(value)
    except _damaged() as error:
        raise UserError(
            f"{_name(value)}: expected a sound, could not open it ({_reason(error, value)}); mend or remove it"
        ) from error


def check_sounds(values: Iterable[Any], names: Iterable[str], where: str) -> list[str]:
    """Open every sound (its header, not its samples).

    Returns:
        Warnings: sampling rates that are low, or that differ.

    Raises:
        UserError: some cannot be used; the first 20 are named, each with the reason.
    """
    broken, rates = [], Counter[int]()
    count = 0
    for value, name in zip(values, names, strict=True):
        count += 1
        try:
            facts = _facts(value)
        except _damaged() as error:
            broken.append(f"{_name(value, name)}: {_reason(error, value)}")
            continue
        rates[facts.rate_hz] += 1
        if problem := _unusable(facts):
            broken.append(f"{_name(value, name)}: {problem}")
    if broken:
        raise refusal(where, broken, count, "sounds can't be used")
    return _doubts(rates, where)


def sound_problems(waveform: np.ndarray[Any, Any]) -> str | None:
    """What is wrong with decoded samples (any shape, full scale is ±1): not finite, silent or clipped; None if nothing.

    Clipping is seen at the file's own rate only: resampling rounds it off.
    """
    if not np.isfinite(waveform).all():
        return "holds samples that are NaN or infinite"
    loudness = np.abs(waveform)
    if loudness.max(initial=0) < SILENT:
        return "is silent"
    clipped = float((loudness >= FULL_SCALE).mean())
    if clipped > CLIPPED_FRACTION:
        return f"is clipped: {clipped:.1%} of its samples are at full scale"
    return None


def _unusable(facts: SoundFacts) -> str | None:
    if facts.channels > MOST_CHANNELS:
        return f"looks like something else: expected at most {MOST_CHANNELS} channels, found {facts.channels}"
    if facts.seconds < SHORTEST_S:
        return f"expected at least {SHORTEST_S} seconds, found {facts.seconds:.3g}"
    return None


def _doubts(rates: Counter[int], where: str) -> list[str]:
    total = rates.total()
    warnings = [
        f"{where}: {count:,} of {total:,} clips were recorded at {rate:,} Hz: nothing above {rate // 2:,} Hz is in "
        "them, and most pretrained models heard more; use recordings of 16,000 Hz if there are any"
        for rate, count in sorted(rates.items())
        if rate < LOWEST_RATE_HZ
    ]
    if len(rates) > 1:
        shown = ", ".join(f"{count:,} at {rate:,} Hz" for rate, count in rates.most_common(5))
        warnings.append(
            f"{where}: clips differ in sampling rate ({shown}): all are resampled, but where rates and classes go "
            "together, a model may learn the rate in place of the sound"
        )
    return warnings


def _read(value: Any, name: str, seconds: float | None) -> tuple[Waveform, int]:
    """Samples at the file's own rate, at least `seconds` of them if it has them."""
    try:
        with _open(value) as file:
            frames = -1 if seconds is None else round((seconds + MARGIN_S) * file.samplerate)
            channels = file.read(frames, dtype="float32", always_2d=True)  # (samples, channels)
            return channels.mean(axis=1), file.samplerate
    except _damaged() as error:
        raise UserError(
            f"{name}: expected a sound, could not decode it ({_reason(error, value)}); mend or remove it"
        ) from error


def _facts(value: Any) -> SoundFacts:
    with _open(value) as file:
        return SoundFacts(file.frames / file.samplerate, file.samplerate, file.channels)


def _open(value: Any) -> Any:
    """An opened `soundfile.SoundFile` over path or bytes; the caller turns what it raises into words."""
    soundfile = require("soundfile", extra="audio")
    if isinstance(value, Mapping):
        value = value.get("bytes") if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise ValueError("neither bytes nor a path")
    if isinstance(value, (bytes, bytearray)):
        if not value:
            raise ValueError("no bytes")
        return soundfile.SoundFile(BytesIO(value))
    path = Path(value)
    if path.stat().st_size == 0:
        raise ValueError("the file is empty (0 bytes)")
    return soundfile.SoundFile(path)


def _damaged() -> tuple[type[Exception], ...]:
    """As soundfile and the file system say it."""
    error: type[Exception] = require("soundfile", extra="audio").LibsndfileError
    return error, OSError, ValueError


def _name(value: Any, otherwise: str = "a sound without a file name") -> str:
    path = value.get("path") if isinstance(value, Mapping) else value
    return str(path) if isinstance(path, (str, Path)) else otherwise


def _reason(error: Exception, value: Any) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    soundfile = require("soundfile", extra="audio")
    if not isinstance(error, soundfile.LibsndfileError):
        return str(error)
    if Path(_name(value)).suffix.lower() == ".mp3" and "MP3" not in soundfile.available_formats():
        return f"libsndfile {soundfile.__libsndfile_version__} can't read mp3; upgrade soundfile, or save it as wav"
    return f"libsndfile says: {error.error_string.rstrip('.')}; it reads wav, flac, mp3, ogg and aiff"

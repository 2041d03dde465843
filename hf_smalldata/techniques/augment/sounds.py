"""Changes of a waveform: float32 (samples,) at a rate in Hz -> float32 (samples,), full scale is ±1.

Length stays, save in `faster`. None draws anything but from the generator that it is given. The hard parts are those of
soxr, Signalsmith's stretcher, libsndfile and SciPy; nlpaug's own changes of sounds need librosa and draw from numpy's
global generator.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from hf_smalldata.data.audio import SUFFIXES, Waveform, check_sounds, open_audio
from hf_smalldata.errors import UserError, require

Codec = Literal["mp3", "mu_law", "telephone"]

MU = 255  # of G.711
TELEPHONE_RATE_HZ, TELEPHONE_BAND_HZ = 8000, (300, 3400)
MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MP3_COMPRESSION = 0.9  # of 0 to 1: about 30 kbit/s for speech at 16 kHz
DIRECT_DB = 6.0  # the direct sound above its echoes: a speaker near the microphone
READ_S = 60.0  # of a recording of noise or a room
RECORDINGS_HELD = 32  # decoded: 120 MB at 16 kHz


def faster(samples: Waveform, times: float, rate_hz: int) -> Waveform:
    """Played `times` as fast: pitch goes along, and the clip lasts 1 / `times` as long."""
    found: Waveform = require("soxr", extra="audio").resample(samples, times * rate_hz, rate_hz)
    return found


def higher(samples: Waveform, semitones: float, rate_hz: int, seed: int) -> Waveform:
    """Another pitch at the same speed; formants move along. `seed` is of the phases that the stretcher draws."""
    stretch = require("python_stretch", extra="audio").Signalsmith.Stretch(seed)
    stretch.preset(1, rate_hz)
    stretch.setTransposeSemitones(semitones)
    found: Waveform = stretch.process(samples[None])[0]
    return found


def later(samples: Waveform, count: int) -> Waveform:
    """Begun `count` samples later (earlier if < 0): silence comes in at one end, and the other is lost."""
    count = int(np.clip(count, -len(samples), len(samples)))
    silence = np.zeros(abs(count), np.float32)
    return np.concatenate([silence, samples[: len(samples) - count]] if count >= 0 else [samples[-count:], silence])


def louder(samples: Waveform, gain_db: float) -> Waveform:
    """Scaled, and not clipped where it leaves full scale."""
    return samples * np.float32(10 ** (gain_db / 20))


def noisy(samples: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Noise of the same length added at a ratio of mean powers; a silent clip, or silent noise, changes nothing."""
    power, of_noise = float(np.mean(samples**2)), float(np.mean(noise**2))
    if of_noise == 0:
        return samples
    return samples + noise * np.float32(np.sqrt(power / of_noise * 10 ** (-snr_db / 10)))


def echoed(samples: Waveform, impulse: Waveform) -> Waveform:
    """Heard in the room of an impulse response, as loud as before; its largest sample is when sound arrives."""
    wet = fftconvolve(samples, impulse[np.abs(impulse).argmax() :])[: len(samples)].astype(np.float32)
    power = float(np.mean(wet**2))
    return wet * np.float32(np.sqrt(np.mean(samples**2) / power)) if power else samples


def decaying(seconds: float, rate_hz: int, rng: np.random.Generator) -> Waveform:
    """Impulse response of a made-up room: the direct sound, then noise that loses 60 dB in `seconds`."""
    count = max(round(seconds * rate_hz), 2)
    tail = rng.standard_normal(count, np.float32) * (10 ** (-3 * np.arange(count) / count)).astype(np.float32)
    tail *= np.float32(10 ** (-DIRECT_DB / 20) / np.sqrt(np.sum(tail**2)))
    tail[0] = 1
    return tail


def coded(samples: Waveform, codec: Codec, rate_hz: int) -> Waveform:
    """Through a lossy codec and back."""
    if codec == "mu_law":
        return mu_law(samples)
    return mp3(samples, rate_hz) if codec == "mp3" else telephone(samples, rate_hz)


def mu_law(samples: Waveform) -> Waveform:
    """Rounded to the 8 bits of G.711, finer where it is quiet; clipped to full scale."""
    loud = np.log1p(MU * np.abs(samples).clip(max=1)) / np.log1p(MU)
    found: Waveform = np.sign(samples) * np.expm1(np.round(loud * 127) / 127 * np.log1p(MU)).astype(np.float32) / MU
    return found


def telephone(samples: Waveform, rate_hz: int) -> Waveform:
    """Through a telephone line: 300 to 3400 Hz, 8 kHz, µ-law."""
    soxr = require("soxr", extra="audio")
    narrow = soxr.resample(samples, rate_hz, TELEPHONE_RATE_HZ)
    band = butter(4, TELEPHONE_BAND_HZ, "bandpass", fs=TELEPHONE_RATE_HZ, output="sos")
    line = mu_law(sosfilt(band, narrow).astype(np.float32))
    return fit(soxr.resample(line, TELEPHONE_RATE_HZ, rate_hz), len(samples))


def mp3(samples: Waveform, rate_hz: int) -> Waveform:
    """Saved as a small MP3 file and read again; clipped to full scale.

    Raises:
        UserError: MP3 knows no such rate.
    """
    if rate_hz not in MP3_RATES_HZ:
        raise UserError(f"waveform.codecs: mp3 knows no sounds at {rate_hz} Hz, which the model takes; leave it out")
    soundfile, stream = require("soundfile", extra="audio"), BytesIO()
    soundfile.write(stream, samples.clip(-1, 1), rate_hz, format="MP3", subtype="MPEG_LAYER_III",
                    compression_level=MP3_COMPRESSION, bitrate_mode="VARIABLE")  # fmt: skip
    stream.seek(0)
    found, _ = soundfile.read(stream, dtype="float32")
    return fit(found, len(samples))


def fit(samples: Waveform, count: int) -> Waveform:
    """Cut to `count` samples, or silence behind them."""
    return np.pad(samples[:count], (0, max(count - len(samples), 0)))


def recordings(folder: str, field: str) -> tuple[Path, ...]:
    """Sound files in a folder and below it, by name.

    Args:
        folder: a path.
        field: the parameter that it was given as, for messages.

    Raises:
        UserError: no folder, no sound file in it, or some that can't be opened.
    """
    if not Path(folder).is_dir():
        raise UserError(f"{field}: expected a folder of sound files, found no folder {folder}")
    _files.cache_clear()  # it may have been mended since
    found = _files(folder)
    if not found:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"{field}: expected sound files ({kinds}), found none in {folder}; give another folder")
    check_sounds([str(file) for file in found], [file.name for file in found], f"{field} ({folder})")
    return found


def recording(folder: str, rate_hz: int, rng: np.random.Generator) -> Waveform:
    """One of the folder's recordings, every one alike likely: its first minute."""
    files = _files(folder)
    return _decoded(files[rng.integers(len(files))], rate_hz)


def stretch_of(sound: Waveform, count: int, rng: np.random.Generator) -> Waveform:
    """`count` samples from anywhere in a recording, which starts again where it is shorter."""
    start = int(rng.integers(0, max(len(sound) - count, 0) + 1))
    return np.resize(sound[start : start + count], count)


@lru_cache(maxsize=8)
def _files(folder: str) -> tuple[Path, ...]:
    return tuple(sorted(file for file in Path(folder).rglob("*") if file.suffix.lower() in SUFFIXES))


@lru_cache(maxsize=RECORDINGS_HELD)
def _decoded(file: Path, rate_hz: int) -> Waveform:
    return open_audio(file, rate_hz, READ_S)

"""Plain features of sounds, for a baseline without a pretrained model: what is loud when, and how it moves."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from datasets import Dataset
from transformers.audio_utils import mel_filter_bank

from hf_smalldata.data.audio import open_audio
from hf_smalldata.evaluation.intervals import Array

RATE_HZ = 16_000
FRAME, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
BANDS = 40
LONGEST_S = 30.0
FLOOR = 1e-6  # of power: about -60 dB, so that digital silence is no more than quiet


def audio_features(train: Dataset, test: Dataset) -> tuple[Array, Array]:
    """Log-mel statistics (N, 160) and (M, 160) of sounds (see `log_mel_statistics`), standardised by the training rows.

    They are divided by the root of their number, so that rows have length 1 on average, as those of other baselines do.
    """
    known, asked = (
        np.stack([log_mel_statistics(open_audio(value, RATE_HZ, LONGEST_S)) for value in rows["audio"]])
        for rows in (train, test)
    )
    centre, spread = known.mean(axis=0), known.std(axis=0)
    scale = np.sqrt(known.shape[1]) * np.where(spread > 1e-8, spread, 1.0)  # one row, or a band that never changes
    return (known - centre) / scale, (asked - centre) / scale


def log_mel_statistics(waveform: np.ndarray[Any, Any]) -> Array:
    """Mean and deviation over time of 40 log-mel bands and of their change from frame to frame: (160,).

    The means of the bands are taken relative to each other, since how loud a clip is lies with the microphone.

    Args:
        waveform: (samples,) at 16 kHz; less than two frames are padded with silence.
    """
    padded = np.pad(waveform.astype(np.float64), (0, max(FRAME + HOP - len(waveform), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP] * np.hanning(FRAME)  # (frames, 400)
    power = np.abs(np.fft.rfft(frames, FFT)) ** 2 / FRAME  # (frames, 257)
    bands = np.log(power @ _filters() + FLOOR)  # (frames, 40)
    change = np.diff(bands, axis=0)
    colour = bands.mean(axis=0) - bands.mean()
    return np.concatenate([colour, bands.std(axis=0), change.mean(axis=0), change.std(axis=0)])


@cache
def _filters() -> Array:
    """(257, 40)."""
    return np.asarray(
        mel_filter_bank(FFT // 2 + 1, BANDS, min_frequency=0.0, max_frequency=RATE_HZ / 2, sampling_rate=RATE_HZ)
    )

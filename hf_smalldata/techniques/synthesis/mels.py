"""Log-mel spectrograms and the way back: powers by least squares, phases by Griffin-Lim."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

BINS = 64
HOP_S, WINDOW_S = 0.008, 0.032
FLOOR = 1e-10  # of a power, 100 dB below a full-scale tone
UNMIX_STEPS, PHASE_STEPS = 60, 60
MOMENTUM = 0.99  # of fast Griffin-Lim


def log_mels(samples: Tensor, rate_hz: int) -> Tensor:
    """Powers of ten of mel energies. samples: (S,) -> (BINS, frames), a frame each 8 ms."""
    power = _stft(samples, rate_hz).abs().square()  # (F, T)
    return (filters(rate_hz).T @ power).clamp_min(FLOOR).log10()


def waveform(powers: Tensor, rate_hz: int, seed: int) -> Tensor:
    """A sound with nearly these mel energies. powers: (BINS, T) as of `log_mels` -> (S,) within ±1."""
    magnitude = unmixed(10**powers, filters(rate_hz)).sqrt()
    return griffin_lim(magnitude, rate_hz, seed).clamp(-1, 1)


def unmixed(mels: Tensor, bank: Tensor) -> Tensor:
    """Powers P >= 0 (F, T) with bank.T @ P nearly mels, by multiplicative updates of least squares.

    Lee and Seung 2001, eq. 4, with the filters given. mels: (M, T), bank: (F, M).
    """
    target = bank @ mels
    power = target.clone()
    for _ in range(UNMIX_STEPS):
        power = power * target / (bank @ (bank.T @ power)).clamp_min(FLOOR)
    return power


def griffin_lim(magnitude: Tensor, rate_hz: int, seed: int) -> Tensor:
    """A sound whose short-time spectra have nearly these magnitudes (F, T); phases start at random.

    Fast Griffin-Lim, Perraudin et al. 2013, algorithm 2: c_n = P(t_{n-1}), t_n = c_n + MOMENTUM (c_n - c_{n-1}), where
    P puts the magnitudes in and makes the spectra those of a sound.
    """
    length = (magnitude.shape[1] - 1) * _hop(rate_hz)
    angles = 2 * torch.pi * torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(seed))
    spectra = torch.polar(magnitude, angles)
    before = torch.zeros_like(spectra)
    for _ in range(PHASE_STEPS):
        now = _stft(_sound(torch.polar(magnitude, spectra.angle()), rate_hz, length), rate_hz)
        spectra = now + MOMENTUM * (now - before)
        before = now
    return _sound(torch.polar(magnitude, before.angle()), rate_hz, length)


@lru_cache(maxsize=4)
def filters(rate_hz: int) -> Tensor:
    """(F, BINS), triangles of equal height, so that none is empty or loud for its width."""
    bank = mel_filter_bank(_window(rate_hz) // 2 + 1, BINS, 0.0, rate_hz / 2, rate_hz, mel_scale="htk")
    return torch.from_numpy(np.asarray(bank, np.float32))


def _hop(rate_hz: int) -> int:
    return round(HOP_S * rate_hz)


def _window(rate_hz: int) -> int:
    return 2 * round(WINDOW_S * rate_hz)  # twice as fine in frequency as the window is long, or low filters are empty


def _stft(samples: Tensor, rate_hz: int) -> Tensor:
    long = round(WINDOW_S * rate_hz)
    return torch.stft(samples, _window(rate_hz), _hop(rate_hz), long, torch.hann_window(long), pad_mode="constant",
                      return_complex=True)  # fmt: skip


def _sound(spectra: Tensor, rate_hz: int, length: int) -> Tensor:
    long = round(WINDOW_S * rate_hz)
    return torch.istft(spectra, _window(rate_hz), _hop(rate_hz), long, torch.hann_window(long), length=length)

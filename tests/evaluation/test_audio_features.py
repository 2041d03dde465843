"""Plain features of sounds: what they hear, and what they must not hear."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from sklearn.linear_model import LogisticRegression

from hf_smalldata.evaluation.audio_features import BANDS, audio_features, log_mel_statistics
from hf_smalldata.testing import audio_folder

TIME = np.arange(8000) / 16_000  # half a second


def tone(hertz: float) -> np.ndarray:
    return (0.1 * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def rows_of(folder) -> Dataset:
    files = sorted(folder.rglob("*.wav"))
    names = sorted({file.parent.name for file in files})
    return Dataset.from_list([{"audio": {"bytes": None, "path": str(f)}, "label": names.index(f.parent.name)}
                              for f in files])  # fmt: skip


def test_the_band_of_a_tone_is_the_loudest():
    loudest = [int(log_mel_statistics(tone(hertz))[:BANDS].argmax()) for hertz in (300, 1000, 3000, 7000)]
    assert loudest == sorted(set(loudest))
    mel = 2595 * np.log10(1 + np.array([300, 1000, 3000, 7000]) / 700)
    expected = mel / (2595 * np.log10(1 + 8000 / 700)) * (BANDS + 1) - 1
    np.testing.assert_allclose(loudest, expected, atol=1)


def test_a_louder_copy_has_the_same_features():
    noise = np.random.default_rng(0).normal(0, 0.02, 8000)
    np.testing.assert_allclose(log_mel_statistics(noise), log_mel_statistics(8 * noise), atol=0.05)


def test_a_clip_that_changes_has_other_statistics_than_one_that_does_not():
    steady, moving = log_mel_statistics(tone(1000)), log_mel_statistics(np.concatenate([tone(500), tone(2000)]))
    assert moving[BANDS : 2 * BANDS].max() > 3 * steady[BANDS : 2 * BANDS].max()


@pytest.mark.parametrize("count", [1, 399, 561])
def test_a_clip_shorter_than_two_frames_has_finite_features(count):
    values = log_mel_statistics(np.ones(count, np.float32))
    assert values.shape == (4 * BANDS,)
    assert np.isfinite(values).all()


def test_rows_have_length_one_on_average_and_one_row_is_enough(tmp_path):
    rows = rows_of(audio_folder(tmp_path, 4, rate_hz=16_000))
    train, test = audio_features(rows, rows.select(range(2)))
    assert np.square(train).sum(axis=1).mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(test, train[:2])
    alone, _ = audio_features(rows.select([0]), rows.select([1]))
    assert not alone.any()


def test_a_linear_model_learns_rising_falling_and_steady_tones(tmp_path):
    train, test = rows_of(audio_folder(tmp_path / "a", 8)), rows_of(audio_folder(tmp_path / "b", 10, seed=1))
    inputs, asked = audio_features(train, test)
    accuracy = LogisticRegression(C=10).fit(inputs, train["label"][:]).score(asked, test["label"][:])
    assert accuracy > 0.8

"""Sounds: every file to one channel at one rate, and each that cannot be used by name and reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from hf_smalldata.data.audio import as_file, check_sounds, for_player, open_audio, sound_facts, sound_problems
from hf_smalldata.errors import UserError

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)  # a second


def file_of(path, samples=TONE, rate=RATE, **options):
    soundfile.write(path, samples, rate, **options)
    return path


def row(path) -> dict:
    return {"bytes": None, "path": str(path)}


@pytest.mark.parametrize(
    ("name", "most"), [("a.wav", 1e-4), ("a.flac", 1e-4), ("a.aiff", 1e-4), ("a.ogg", 0.1), ("a.mp3", 0.1)]
)
def test_every_format_gives_the_samples(tmp_path, name, most):
    found = open_audio(row(file_of(tmp_path / name)), RATE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[: len(TONE)], TONE, atol=most)


def test_paths_bytes_rows_and_waveforms_are_decoded_alike(tmp_path):
    path = file_of(tmp_path / "a.wav", subtype="FLOAT")
    waveform = {"array": TONE.tolist(), "sampling_rate": RATE}
    for value in (path, str(path), path.read_bytes(), row(path), {"bytes": path.read_bytes(), "path": None}, waveform):
        np.testing.assert_array_equal(open_audio(value, RATE), TONE)
        np.testing.assert_array_equal(open_audio(as_file(value), RATE), TONE)


def test_channels_are_averaged(tmp_path):
    path = file_of(tmp_path / "a.wav", np.stack([TONE, -TONE, TONE, TONE], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(open_audio(path, RATE), TONE / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_a_tone_keeps_its_pitch_at_another_rate(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    found = open_audio(file_of(tmp_path / "a.wav", tone, rate), RATE)
    assert len(found) == RATE
    assert np.abs(np.fft.rfft(found)).argmax() == 440  # bins of 1 Hz
    np.testing.assert_allclose(found[1000:-1000], TONE[1000:-1000], atol=1e-3)


@pytest.mark.parametrize("rate", [8000, RATE])
def test_the_start_of_a_long_clip_is_that_of_the_whole(tmp_path, rate):
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * rate)
    path = file_of(tmp_path / "a.wav", noise, rate)
    start, whole = open_audio(path, RATE, seconds=1.5), open_audio(path, RATE)
    assert (len(start), len(whole)) == (RATE * 3 // 2, 3 * RATE)
    np.testing.assert_allclose(start, whole[: len(start)], atol=1e-5)


def test_the_header_tells_length_rate_and_channels(tmp_path):
    assert sound_facts(row(file_of(tmp_path / "a.wav", np.zeros((4000, 2)), 8000))) == (0.5, 8000, 2)


def test_every_file_that_cannot_be_used_is_named_with_its_reason(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no sound at all " * 20)
    file_of(tmp_path / "none.wav", np.zeros(0))
    file_of(tmp_path / "blink.wav", np.zeros(100))
    file_of(tmp_path / "wide.wav", np.zeros((RATE, 200)))
    file_of(tmp_path / "good.wav")
    names = ["gone.wav", "empty.wav", "text.wav", "none.wav", "blink.wav", "wide.wav", "good.wav"]
    values = [*(row(tmp_path / name) for name in names), {"bytes": None, "path": None}, {"bytes": b"", "path": None}]
    with pytest.raises(UserError) as caught:
        check_sounds(values, [*names, "row 8", "row 9"], "birds")
    lines = str(caught.value).splitlines()
    assert "birds: 8 of 9 sounds can't be used" in lines[0]
    reasons = ["no such file", "0 bytes", "libsndfile says", "at least 0.05 seconds, found 0",
               "at least 0.05 seconds, found 0.00625", "looks like something else: expected at most 16 channels, "
               "found 200", "row 8: neither bytes nor a path", "row 9: no bytes"]  # fmt: skip
    for line, reason in zip(lines[1:], reasons, strict=True):
        assert reason in line
    assert "good.wav" not in str(caught.value)


def test_of_many_broken_files_twenty_are_named():
    with pytest.raises(UserError, match="25 of 25 sounds") as caught:
        check_sounds([{"bytes": b"", "path": None}] * 25, map(str, range(25)), "birds")
    assert len(str(caught.value).splitlines()) <= 22


def test_mp3_without_a_decoder_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "a.mp3").write_bytes(b"no sound" * 100)
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "wav"})
    with pytest.raises(UserError, match=r"a\.mp3.*can't read mp3; upgrade soundfile"):
        sound_facts(tmp_path / "a.mp3")


def test_usual_sounds_give_no_warnings(tmp_path):
    values = [row(file_of(tmp_path / f"{index}.wav", rate=8000)) for index in range(3)]
    assert check_sounds(values, "abc", "birds") == []


def test_low_and_mixed_rates_are_warned_of_with_their_counts(tmp_path):
    values = [row(file_of(tmp_path / f"{rate}.wav", rate=rate)) for rate in (4000, 8000, 44_100)] * 2
    low, mixed = check_sounds(values, map(str, range(6)), "birds")
    assert low.startswith("birds: 2 of 6 clips were recorded at 4,000 Hz: nothing above 2,000 Hz is in them")
    assert "2 at 4,000 Hz, 2 at 8,000 Hz, 2 at 44,100 Hz" in mixed


def test_a_damaged_file_and_samples_that_are_no_numbers_are_named(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(UserError, match=r"text\.wav: expected a sound, could not decode it"):
        open_audio(tmp_path / "text.wav", RATE)
    path = file_of(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2] * 1000), subtype="FLOAT")
    with pytest.raises(UserError, match=r"nan\.wav: expected finite samples"):
        open_audio(path, RATE)
    with pytest.raises(UserError, match="found ndarray"):
        as_file(TONE)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (TONE, None),
        (np.zeros(100), "is silent"),
        (np.array([]), "is silent"),
        (np.array([0.1, np.inf]), "NaN or infinite"),
        (np.clip(1.01 * TONE / 0.5, -1, 1), "is clipped"),
        (np.append(TONE, 1.0), None),
    ],
)
def test_silence_clipping_and_strange_numbers_are_told(samples, expected):
    found = sound_problems(samples)
    assert found is None if expected is None else expected in found


def test_bytes_of_a_waveform_are_a_wav_file():
    made = as_file({"array": TONE, "sampling_rate": RATE})
    assert made["path"] is None
    assert soundfile.info(io.BytesIO(made["bytes"])).format == "WAV"


def test_a_player_gets_a_short_mono_wav(tmp_path):
    path = file_of(tmp_path / "a.wav", np.zeros((12 * 44_100, 2)), 44_100)
    made = soundfile.info(io.BytesIO(for_player(row(path))))
    assert (made.duration, made.samplerate, made.channels, made.subtype) == (10.0, 16_000, 1, "PCM_16")

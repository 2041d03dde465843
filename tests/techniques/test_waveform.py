"""Waveform: each change by its formula, drawn for the row alone, and a model that is used to noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset

from hf_smalldata.data.audio import as_file, open_audio
from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment import sounds
from hf_smalldata.techniques.augment.waveform import Waveform
from hf_smalldata.testing import audio_folder, tiny_audio_model

RATE_HZ = 16_000
OFF = {"speed": (1, 1), "noise_snr_db": None}
EACH = [
    {"speed": (0.8, 1.25)}, {"pitch_semitones": (-3, 3)}, {"shift_seconds": (-0.2, 0.2)},
    {"reverb_seconds": (0.1, 0.3)}, {"noise_snr_db": (0, 20)}, {"gain_db": (-12, 12)}, {"codecs": ("mp3",)},
    {"codecs": ("mu_law",)}, {"codecs": ("telephone",)},
]  # fmt: skip


def tone(hertz: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def loudest_hz(samples: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(samples)).argmax() * RATE_HZ / len(samples))


def power_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(samples.astype(np.float64) ** 2)))


def example(technique: Waveform, samples: np.ndarray, seed: int = 0) -> np.ndarray:
    row = {"id": "a", "audio": {"array": samples, "sampling_rate": RATE_HZ}, "label": 1,
           "rng": np.random.default_rng(seed)}  # fmt: skip
    made = technique.example(row)
    assert (made["audio"]["sampling_rate"], made["id"], made["label"]) == (RATE_HZ, "a", 1)
    changed: np.ndarray = made["audio"]["array"]
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    return changed


def test_noise_is_added_at_the_ratio_of_powers():
    noise = sounds.noisy(tone(), np.random.default_rng(0).standard_normal(8000, np.float32), 12) - tone()
    assert power_db(tone()) - power_db(noise) == pytest.approx(12, abs=0.01)


def test_faster_is_shorter_and_higher():
    changed = sounds.faster(tone(), 1.25, RATE_HZ)
    assert len(changed) == 6400
    assert loudest_hz(changed) == pytest.approx(550, abs=3)


@pytest.mark.parametrize("semitones", [-12, 3, 7.5])
def test_higher_keeps_the_length(semitones):
    changed = sounds.higher(tone(), semitones, RATE_HZ, seed=0)
    assert len(changed) == len(tone())
    assert loudest_hz(changed) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, [1, 2, 3, 4]), (1, [0, 1, 2, 3]), (-1, [2, 3, 4, 0]), (9, [0, 0, 0, 0]), (-9, [0, 0, 0, 0])],
)
def test_later_moves_silence_in(count, expected):
    np.testing.assert_array_equal(sounds.later(np.array([1, 2, 3, 4], np.float32), count), expected)


def test_a_gain_is_in_decibels_of_amplitude():
    np.testing.assert_allclose(sounds.louder(tone(), 20), 10 * tone())


def test_an_echo_begins_with_the_sound_and_is_as_loud():
    click = np.zeros(8000, np.float32)
    click[100] = 1
    impulse = sounds.decaying(0.2, RATE_HZ, np.random.default_rng(0))
    late = np.concatenate([np.zeros(50, np.float32), impulse])  # as recorded: the sound takes its time
    wet = sounds.echoed(click, late)
    assert np.abs(wet).argmax() == 100
    assert np.abs(wet[:100]).max() < 1e-6
    assert power_db(wet) == pytest.approx(power_db(click), abs=0.01)


def test_a_made_up_room_loses_60_db_in_its_time():
    impulse = sounds.decaying(0.5, RATE_HZ, np.random.default_rng(0))
    direct, tail = impulse[0], impulse[1:]
    assert 20 * np.log10(direct) - 10 * np.log10(np.sum(tail**2)) == pytest.approx(sounds.DIRECT_DB, abs=0.1)
    assert power_db(tail[:800]) - power_db(tail[4000:4800]) == pytest.approx(30, abs=1)


def test_mu_law_has_256_levels_finer_where_it_is_quiet():
    levels = np.unique(sounds.mu_law(np.linspace(-1.5, 1.5, 100_000, dtype=np.float32)))
    assert len(levels) == 255
    assert levels[[0, 127, -1]].tolist() == [-1, 0, 1]
    assert levels[128] < 1e-3
    assert 1 - levels[-2] > 1e-2


def test_a_telephone_passes_its_band_alone():
    kept = {hertz: power_db(sounds.telephone(tone(hertz), RATE_HZ)) - power_db(tone(hertz))
            for hertz in (60, 1000, 6000)}  # fmt: skip
    assert kept[1000] == pytest.approx(0, abs=0.5)
    assert max(kept[60], kept[6000]) < -25


def test_mp3_stays_close_and_on_time():
    speech = tone() * np.hanning(8000).astype(np.float32)
    assert power_db(sounds.mp3(speech, RATE_HZ) - speech) < power_db(speech) - 15
    with pytest.raises(UserError, match="mp3 knows no sounds at 17000 Hz"):
        sounds.mp3(speech, 17_000)


@pytest.mark.parametrize("field", EACH, ids=str)
def test_each_change_is_drawn_by_the_row_and_keeps_length_rate_and_label(field):
    technique = Waveform(**{**OFF, **field, "probability": 1})
    before = tone()
    first = example(technique, before)
    np.testing.assert_array_equal(first, example(technique, before))
    np.testing.assert_array_equal(before, tone())
    assert "speed" in field or len(first) == len(before)
    others = [example(technique, before, seed) for seed in (1, 2)]
    assert len(first) != len(others[0]) or "codecs" in field or not np.array_equal(first, others[0])
    assert not np.array_equal(first, before)


def test_at_identity_or_probability_0_nothing_changes():
    np.testing.assert_array_equal(example(Waveform(**OFF), tone()), tone())
    np.testing.assert_array_equal(example(Waveform(probability=0, gain_db=(6, 6)), tone()), tone())


def test_each_change_happens_as_often_as_said():
    louder = Waveform(**OFF, gain_db=(6, 6), probability=0.3)
    changed = [example(louder, tone(seconds=0.1), seed)[5] != tone()[5] for seed in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("seconds", [0.001, 0.03])
def test_clips_of_a_moment_survive_every_change(seconds):
    every = {name: value for field in EACH for name, value in field.items()}
    technique = Waveform(**{**every, "codecs": ("mp3", "mu_law", "telephone"), "probability": 1})
    for seed in range(6):
        assert len(example(technique, tone(seconds=seconds), seed)) > 0


def test_silence_stays_silent_under_noise_and_echoes():
    silence = np.zeros(4000, np.float32)
    made = example(Waveform(speed=(1, 1), reverb_seconds=(0.1, 0.1), probability=1), silence)
    np.testing.assert_array_equal(made, silence)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings of noise, one above the other: a hum below it, shorter than the clips."""
    (tmp_path / "deeper").mkdir()
    soundfile.write(tmp_path / "hum.wav", tone(60, 0.2), RATE_HZ)
    soundfile.write(tmp_path / "deeper" / "whistle.flac", tone(3000, 2.0), RATE_HZ)
    (tmp_path / "notes.txt").write_text("not a sound")
    return tmp_path


def test_recorded_noise_and_rooms_are_taken_from_a_folder_and_below(folder, audio):
    technique = Waveform(speed=(1, 1), noise=str(folder), noise_snr_db=(0, 0), probability=1)
    technique.check(audio.rows, audio.context())
    heard = {round(loudest_hz(example(technique, tone(440), seed) - tone(440)), -1) for seed in range(8)}
    assert heard == {60, 3000}
    room = Waveform(**OFF, rooms=str(folder), probability=1)
    assert power_db(example(room, tone())) == pytest.approx(power_db(tone()), abs=0.01)


def test_a_folder_without_usable_sounds_is_refused_before_training(folder, audio):
    def refused(**fields: str) -> str:
        with pytest.raises(UserError) as caught:
            Waveform(**fields).check(audio.rows, audio.context())
        return str(caught.value)

    assert f"waveform.noise: expected a folder of sound files, found no folder {folder}/none" in refused(
        noise=f"{folder}/none"
    )
    (folder / "empty").mkdir()
    assert "waveform.rooms: expected sound files (.aif," in refused(rooms=f"{folder}/empty")
    (folder / "broken.wav").write_text("no sound")
    assert "broken.wav" in refused(noise=str(folder))
    (folder / "broken.wav").unlink()
    Waveform(noise=str(folder)).check(audio.rows, audio.context())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speed": (1.1, 0.9)}, r"expected \[least, most\], got \[1.1, 0.9\]"),
        ({"speed": (0.1, 1)}, "greater than or equal to 0.5"),
        ({"probability": 1.5}, "less than or equal to 1"),
        ({"pitch_semitones": (0, 40)}, "less than or equal to 12"),
        ({"codecs": ("opus",)}, "'mp3', 'mu_law' or 'telephone'"),
        ({"rooms": "a", "reverb_seconds": (0.1, 0.2)}, "got both"),
        ({"noise": "a", "noise_snr_db": None}, "`noise` needs `noise_snr_db`"),
    ],
)
def test_bad_fields_are_refused_with_their_range(fields, message):
    with pytest.raises(ValueError, match=message):
        Waveform(**fields)


def test_a_model_that_learnt_with_noise_is_right_more_often_on_noisy_clips(audio, trainer, tmp_path):
    spec = ModelSpec(name=str(tiny_audio_model(tmp_path / "model", "ast")), seconds=0.6)
    kit = replace(audio, processor=audio.task.load_processor(spec), rows=rows_in(tmp_path / "learnt", 6, seed=0))
    others, rng = rows_in(tmp_path / "others", 12, seed=1), np.random.default_rng(0)
    clips = [open_audio(value, RATE_HZ) for value in others["audio"]]
    noise = [{"array": sounds.noisy(clip, rng.standard_normal(len(clip), np.float32), 10), "sampling_rate": RATE_HZ}
             for clip in clips]  # fmt: skip
    noisy = kit.task.encode(others.map(lambda _, at: {"audio": as_file(noise[at])}, with_indices=True), kit.processor)

    def right(techniques: list[Waveform]) -> float:
        torch.manual_seed(0)
        network = kit.task.load_model(spec, kit.labels, kit.problem_type)
        trainer(kit, network, techniques, learning_rate=2e-3, num_train_epochs=12).train()
        with torch.no_grad():
            answers = network.eval()(**kit.task.collate(noisy, kit.processor)).logits.argmax(-1)
        return float((answers == torch.tensor(others["label"][:])).float().mean())

    assert right([Waveform(speed=(1, 1), noise_snr_db=(5, 20), probability=0.9)]) > right([]) + 0.2


def rows_in(folder: Path, per_class: int, seed: int) -> Dataset:
    audio_folder(folder, per_class, seed)
    files = [folder / name / f"{at}.wav" for at in range(per_class) for name in ("falling", "rising", "steady")]
    return Dataset.from_dict({
        "id": [str(at) for at in range(len(files))], "audio": [as_file(file) for file in files],
        "label": [at % 3 for at in range(len(files))],
    })  # fmt: skip

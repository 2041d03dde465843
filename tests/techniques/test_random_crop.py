"""Random crop: windows of the right length, from everywhere, of training rows alone."""

from __future__ import annotations

import numpy as np
import pytest

from hf_smalldata.techniques.augment.random_crop import RandomCrop, crop

SAMPLES = np.arange(10, dtype=np.float32)


def test_a_window_is_a_part_of_the_clip_in_its_order():
    window = crop(SAMPLES, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(window, np.arange(window[0], window[0] + 4))


def test_every_start_is_alike_likely():
    rng = np.random.default_rng(0)
    starts = np.bincount([int(crop(SAMPLES, 4, rng)[0]) for _ in range(7000)], minlength=10)
    assert not starts[7:].any()
    np.testing.assert_allclose(starts[:7], 1000, rtol=0.15)


@pytest.mark.parametrize("count", [10, 11, 1000])
def test_a_clip_that_is_not_longer_stays_whole(count):
    np.testing.assert_array_equal(crop(SAMPLES, count, np.random.default_rng(0)), SAMPLES)


def test_seconds_are_taken_at_the_rate_of_the_row_and_the_row_is_copied():
    sound = {"array": np.arange(100, dtype=np.float32), "sampling_rate": 50}
    row = {"id": "a", "audio": sound, "label": 1, "rng": np.random.default_rng(0)}
    made = RandomCrop(seconds=0.5).example(row)
    assert made["audio"]["array"].shape == (25,)
    assert (made["audio"]["sampling_rate"], made["id"], made["label"]) == (50, "a", 1)
    assert row["audio"] is sound
    assert len(sound["array"]) == 100


def test_the_generator_of_the_row_decides():
    sound = {"array": np.arange(1000, dtype=np.float32), "sampling_rate": 100}

    def start(seed: int) -> float:
        row = {"audio": sound, "rng": np.random.default_rng(seed)}
        return float(RandomCrop(seconds=1).example(row)["audio"]["array"][0])

    assert start(0) == start(0)
    assert len({start(seed) for seed in range(20)}) > 10


def test_a_sequence_is_cropped_to_letters():
    row = {"sequence": "ACGTNACGGT", "label": 1, "rng": np.random.default_rng(0)}
    made = RandomCrop(letters=4).example(row)["sequence"]
    assert len(made) == 4
    assert made in row["sequence"]
    assert RandomCrop(letters=10).example(row)["sequence"] == row["sequence"]


@pytest.mark.parametrize("fields", [{"seconds": 0}, {"seconds": -1}, {"letters": 0}])
def test_a_window_has_a_length(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        RandomCrop(**fields)

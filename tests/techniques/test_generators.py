"""What generators of pixels share: canvases, training that ends well, and the hook around them."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from PIL import Image
from torch import nn

from hf_smalldata.data.images import open_image
from hf_smalldata.errors import UserError
from hf_smalldata.techniques.synthesis import learning
from hf_smalldata.techniques.synthesis.canvas import Mels, Pictures
from hf_smalldata.techniques.synthesis.keep import Keep
from hf_smalldata.techniques.synthesis.mels import filters, log_mels, unmixed, waveform
from hf_smalldata.techniques.synthesis.vae import Vae

ALL = Keep(agreement=0, max_similarity=1)
QUICK = {"steps": 5, "channels": 8, "code": 4, "batch_size": 4, "side": 16, "keep": ALL}


def picture_rows(*sizes: tuple[int, int]) -> Dataset:
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)) for wide, high in sizes]
    return Dataset.from_list([{"id": str(at), "image": image, "label": 0} for at, image in enumerate(images)])


@pytest.mark.parametrize("side", [16, 28])
def test_a_picture_of_the_canvas_size_comes_back_as_it_was(side):
    rows = picture_rows((side, side))
    canvas = Pictures(side, "vae", rows)
    pixels = canvas.tensors(rows)
    assert pixels.shape == (1, *canvas.shape)
    assert all(length % 16 == 0 for length in canvas.shape[1:])
    np.testing.assert_array_equal(np.asarray(canvas.value(pixels[0], 0)), np.asarray(rows[0]["image"]))


def test_pictures_that_are_smaller_than_the_canvas_are_named_with_the_side_that_would_do():
    rows = picture_rows((40, 40), (40, 24))
    with pytest.raises(UserError, match=r"vae: expected images of at least 32 x 32 .* 1 \(40 x 24\); .*side to 24"):
        Pictures(32, "vae", rows)


def test_a_tone_comes_back_from_its_mels_with_its_pitch_and_nearly_its_power():
    rate = 8000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(4000) / rate)
    again = waveform(log_mels(tone, rate), rate, seed=0)
    peak = torch.fft.rfft(again).abs().argmax() * rate / len(again)
    assert abs(float(peak) - 440) < 10
    assert again.square().mean().sqrt() == pytest.approx(float(tone.square().mean().sqrt()), rel=0.1)


def test_powers_are_found_that_give_the_mels():
    bank = filters(8000)
    power = torch.rand(len(bank), 5, generator=torch.Generator().manual_seed(0))
    mels = bank.T @ power
    assert (bank.T @ unmixed(mels, bank) / mels - 1).abs().mean() < 0.02


def test_sounds_end_where_nothing_is_heard_any_more(audio):
    canvas = Mels(8000, "vae", audio.rows)
    pixels = canvas.tensors(audio.rows)
    assert pixels.shape[1:] == canvas.shape
    assert pixels.max() == pytest.approx(1)
    pixels[0, :, :, 10:] = -0.8  # what a generator makes of silence
    sound = canvas.value(pixels[0], 0)
    assert sound["sampling_rate"] == 8000
    assert 0.06 < len(sound["array"]) / 8000 < 0.1
    assert np.abs(sound["array"]).max() > 0.05


def test_sounds_that_are_too_long_are_named(tmp_path):
    silence = {"array": np.zeros(8000 * 5, np.float32) + 0.1, "sampling_rate": 8000}
    from hf_smalldata.data.audio import as_file

    rows = Dataset.from_list([{"id": "long", "audio": as_file(silence), "label": 0}])
    with pytest.raises(UserError, match=r"at most 4 s, found longer ones: long \(5.0 s\)"):
        Mels(8000, "vae", rows)


def line() -> nn.Module:
    found = nn.Linear(1, 1)
    nn.init.ones_(found.weight)
    return found


def test_what_is_kept_is_the_average_of_the_weights_on_the_way():
    network, kept = line(), 1.0

    def step(at: int) -> torch.Tensor:
        network.weight.data.fill_(float(at))
        return torch.zeros(())

    average, facts = learning.train("gan", network, step, steps=8)
    for at in range(1, 9):
        decay = min(learning.DECAY, (1 + at) / (10 + at))
        kept = decay * kept + (1 - decay) * at
    assert float(average.weight.detach()) == pytest.approx(kept, rel=1e-5)
    assert facts["steps"] == 8


def test_a_training_that_diverges_says_at_which_step_and_keeps_what_it_had_learnt(caplog):
    network = line()

    def step(at: int) -> torch.Tensor:
        if at > learning.LOOK_STEPS + 10:
            network.weight.data.fill_(float("nan"))
            return torch.tensor(float("nan"))
        network.weight.data.fill_(2.0)
        return torch.zeros(())

    with caplog.at_level(logging.WARNING):
        average, facts = learning.train("gan", network, step, steps=200)
    assert float(average.weight.detach()) == pytest.approx(2, abs=0.01)
    assert facts["steps"] == learning.LOOK_STEPS
    assert "diverged at step 61" in facts["stopped"]
    assert "lower techniques.gan.learning_rate" in caplog.text


@pytest.mark.parametrize(("seconds", "told"), [(5, True), (3, False)])
def test_a_long_training_says_how_long_once(seconds, told, caplog, monkeypatch):
    now = iter(range(10**6))
    monkeypatch.setattr(learning.time, "perf_counter", lambda: next(now) * seconds)
    with caplog.at_level(logging.INFO):
        learning.train("gan", line(), lambda _: torch.zeros(()), steps=450)
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == told
    if told:
        assert found[0].startswith("gan: training takes about 40.0 s more (50 of 450 steps are done)")


def test_a_training_that_diverges_at_once_has_nothing_to_keep():
    with pytest.raises(UserError, match=r"gan: training diverged at step 1 .*lower techniques\.gan\.learning_rate"):
        learning.train("gan", line(), lambda _: torch.tensor(float("inf")), steps=100)


def test_a_watch_ends_the_training():
    looks = iter([None, "collapsed"])
    _, facts = learning.train("gan", line(), lambda _: torch.zeros(()), steps=500, watch=lambda _: next(looks))
    assert (facts["steps"], facts["stopped"]) == (learning.LOOK_STEPS, "collapsed")


def test_batches_show_each_row_once_before_any_again():
    torch.manual_seed(0)
    drawn = learning.batches(6, 4)
    first, second, third = next(drawn), next(drawn), next(drawn)
    assert sorted(torch.cat([first, second, third]).tolist()) == sorted([*range(6), *range(6)])


def context_of(kit, work, **changes):
    return replace(kit.context(), work_dir=work, **changes)


def made_of(rows: Dataset) -> list[np.ndarray]:
    return [np.asarray(open_image(row["image"])) for row in rows if row["source"]]


def test_seeds_share_one_training_and_draw_rows_of_their_own(image, assets, tmp_path, monkeypatch):
    first = made_of(Vae(**QUICK).rows(image.rows, context_of(image, tmp_path)))
    monkeypatch.setattr(Vae, "fit", lambda *_: pytest.fail("trained again"))
    other = made_of(Vae(**QUICK).rows(image.rows, context_of(image, tmp_path, seed=1)))
    assert len(list(assets.glob("vae-*.safetensors"))) == 1
    assert len(first) == len(other) == 12
    assert not np.array_equal(first[0], other[0])


def test_each_seed_trains_anew_where_that_is_asked_for(image, assets, tmp_path):
    for seed in (0, 1):
        Vae(**QUICK, per_seed=True).rows(image.rows, context_of(image, tmp_path, seed=seed))
    assert len(list(assets.glob("vae-*.safetensors"))) == 2


def test_other_rows_or_settings_train_anew_but_not_those_of_drawing(image, assets, tmp_path):
    def count() -> int:
        return len(list(assets.glob("vae-*.safetensors")))

    Vae(**QUICK).rows(image.rows, context_of(image, tmp_path))
    Vae(**{**QUICK, "keep": Keep(agreement=0, ratio=0.5)}, tries=3, temperature=0.5).rows(
        image.rows, context_of(image, tmp_path)
    )
    assert count() == 1
    Vae(**{**QUICK, "steps": 6}).rows(image.rows, context_of(image, tmp_path))
    relabelled = image.rows.map(lambda row: {"label": (row["label"] + 1) % 3})
    Vae(**QUICK).rows(relabelled, context_of(image, tmp_path))
    assert count() == 3


def test_a_row_does_not_hang_on_how_many_are_made(image, assets, tmp_path):
    few, many = (made_of(Vae(**QUICK, tries=tries).rows(image.rows, context_of(image, tmp_path))) for tries in (1, 3))
    np.testing.assert_allclose(few[0].astype(int), many[0].astype(int), atol=1)


def test_unlabelled_images_are_learnt_from_without_a_class(image, assets, tmp_path, monkeypatch):
    seen = []
    fit = Vae.fit
    monkeypatch.setattr(Vae, "fit", lambda *given: seen.append(given[3]) or fit(*given))
    more = image.rows.remove_columns("label").select(range(5))
    Vae(**QUICK).rows(image.rows, context_of(image, tmp_path, unlabelled=more))
    assert seen[0].tolist() == [*image.rows["label"], 3, 3, 3, 3, 3]


def test_unlabelled_images_smaller_than_what_is_made_are_left_out(image, assets, tmp_path, monkeypatch, caplog):
    seen = []
    fit = Vae.fit
    monkeypatch.setattr(Vae, "fit", lambda *given: seen.append(given[3]) or fit(*given))
    size = Vae(**QUICK).side
    more = image.rows.remove_columns("label").select(range(5))
    small = more.map(lambda row: {"image": open_image(row["image"]).resize((size, size - 1 - int(row["id"][-1]) % 2))})
    mixed = concatenate_datasets([more, small.cast(more.features)])
    Vae(**QUICK).rows(image.rows, context_of(image, tmp_path, unlabelled=mixed))
    assert seen[0].tolist() == [*image.rows["label"], 3, 3, 3, 3, 3]
    assert "vae: 5 of 10 unlabelled rows are smaller or longer than what is made, and left out" in caplog.text
    with pytest.raises(UserError, match="vae: all 5 unlabelled rows are smaller or longer"):
        Vae(**QUICK).rows(image.rows, context_of(image, tmp_path, unlabelled=small))


def test_fewer_than_four_rows_of_a_class_are_too_few_and_what_still_works_is_named(image, assets, tmp_path):
    with pytest.raises(UserError, match=r"vae: expected at least 4 rows .*blue \(3\).*feature_synthesis"):
        Vae(**QUICK).rows(image.rows.select(range(11)), context_of(image, tmp_path))


def test_rows_of_several_labels_have_no_class_to_make(image, assets, tmp_path):
    several = image.rows.remove_columns("label").add_column("label", [[1, 0, 1]] * 12)
    with pytest.raises(UserError, match="vae: for rows of one class each"):
        Vae(**QUICK).rows(several, context_of(image, tmp_path, problem_type="multi_label_classification"))


def test_what_was_drawn_before_is_read_not_drawn_again(image, assets, tmp_path, monkeypatch):
    first = made_of(Vae(**QUICK).rows(image.rows, context_of(image, tmp_path)))
    monkeypatch.setattr(Vae, "draw", lambda *_: pytest.fail("drawn again"))
    again = made_of(Vae(**QUICK).rows(image.rows, context_of(image, tmp_path)))
    np.testing.assert_array_equal(first, again)

"""SpecAugment: masks where they should be, on every kind of input, and a model that needs no single band."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import ASTConfig, ASTForAudioClassification

from hf_smalldata.errors import UserError
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.techniques.augment.spec_augment import SpecAugment, hidden, spans
from hf_smalldata.testing import tiny_audio_model

LOUD = slice(2, 6)


def runs(mask: Tensor) -> list[int]:
    """Lengths of the spans of one row."""
    return [len(part) for part in "".join("x" if each else " " for each in mask.tolist()).split()]


def test_a_span_is_up_to_its_fraction_wide_and_every_width_and_start_is_alike_likely():
    torch.manual_seed(0)
    mask = spans(torch.full((6000,), 20), 20, 1, 0.25)
    widths = torch.bincount(mask.sum(1))
    torch.testing.assert_close(widths, torch.full((6,), 1000), rtol=0.12, atol=0)
    assert all(len(runs(row)) <= 1 for row in mask[:200])
    starts = torch.bincount(mask[mask.sum(1) == 5].int().argmax(1))
    assert len(starts) == 16
    assert starts.min() > 30


def test_spans_stay_inside_each_row_and_their_number_is_a_limit():
    torch.manual_seed(0)
    lengths = torch.tensor([4, 50, 100]).repeat(100)
    mask = spans(lengths, 100, 3, 0.3)
    assert not mask[torch.arange(100) >= lengths[:, None]].any()
    assert max(len(runs(row)) for row in mask) == 3
    assert mask[lengths == 100].sum(1).max() <= 90


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.5), (2, 0.0)])
def test_no_masks_and_no_width_hide_nothing(count, fraction):
    assert not spans(torch.tensor([10, 20]), 20, count, fraction).any()


def test_hidden_values_are_the_mean_of_their_clip():
    values = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    mask = torch.tensor([[True, False, False], [False, False, True]])
    assert hidden(values, mask).tolist() == [[3, 2, 6], [0, 0, 1]]


@pytest.mark.parametrize("kind", ["whisper", "ast", "wav2vec2", "hubert"])
def test_time_and_frequency_are_told_apart_in_every_kind_of_input(kind, audio, tmp_path):
    spec = ModelSpec(name=str(tiny_audio_model(tmp_path / kind, kind)))
    processor = audio.task.load_processor(spec)
    model = audio.task.load_model(spec, audio.labels, audio.problem_type)
    batch = audio.task.collate(audio.task.encode(audio.rows.select(range(6)), processor), processor)
    (name,) = set(batch) - {"attention_mask"}
    before = batch[name].clone()
    time = {"whisper": 2}.get(kind, 1)

    def changed(**fields: float) -> Tensor:
        torch.manual_seed(1)
        after = SpecAugment(**fields).batch(batch, model)
        assert set(after) == set(batch)
        torch.manual_seed(1)
        torch.testing.assert_close(SpecAugment(**fields).batch(batch, model)[name], after[name])
        torch.testing.assert_close(batch[name], before)
        return after[name] != before

    in_time = changed(frequency_masks=0, time_fraction=0.3)
    assert in_time.any()
    if before.dim() == 3:
        assert torch.equal(in_time.any(3 - time), in_time.all(3 - time))
        in_frequency = changed(time_masks=0, frequency_fraction=0.5)
        assert in_frequency.any()
        assert torch.equal(in_frequency.any(time), in_frequency.all(time))
    else:
        padding = batch["attention_mask"] == 0
        assert padding.any()
        assert not in_time[padding].any()
        with pytest.raises(UserError, match="reads waveforms"):
            SpecAugment(time_masks=0).batch(batch, model)
    model(**SpecAugment().batch(batch, model))


def test_a_model_that_learnt_with_masks_needs_no_single_band():
    """The class shows in two bands, loudly in one: without masks the quiet one is not learnt."""

    def clips(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % 2
        found = 0.5 * torch.randn(count, 36, 36)  # (B, T, mel)
        shape = (2.0 * labels - 1)[:, None, None] * torch.tensor([1.0, 1, -1, -1])  # the mean tells nothing
        found[:, :, LOUD] += 3 * shape
        found[:, :, 30:34] += 0.3 * shape
        return found, labels

    def right_without_the_loud_band(technique: SpecAugment) -> float:
        torch.manual_seed(0)
        model = ASTForAudioClassification(ASTConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, num_mel_bins=36,
            max_length=36, initializer_range=0.2,
        ))  # fmt: skip
        optimizer, (values, labels) = torch.optim.AdamW(model.parameters(), 2e-3), clips(16)
        for _ in range(60):
            optimizer.zero_grad()
            inputs = technique.batch({"input_values": values}, model)
            cross_entropy(model(**inputs).logits, labels).backward()
            optimizer.step()
        values, labels = clips(64)
        values[:, :, LOUD] = 0
        with torch.no_grad():
            answers = model.eval()(input_values=values).logits.argmax(-1)
        return float((answers == labels).float().mean())

    found = right_without_the_loud_band(SpecAugment(frequency_fraction=0.6))
    assert found > right_without_the_loud_band(SpecAugment(time_masks=0, frequency_masks=0)) + 0.2


@pytest.mark.parametrize("fields", [{"time_masks": -1}, {"time_fraction": 1.5}, {"frequency_fraction": -0.1}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        SpecAugment(**fields)

"""Audio classification: the same answer alone, in a batch and from the saved folder, at any length of window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import blocks
from hf_smalldata.nn.heads import head_names
from hf_smalldata.tasks.audio import AudioClassification, middle_positions, window_seconds
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.testing import audio_folder, tiny_audio_model

KINDS = ["wav2vec2", "hubert", "whisper", "ast"]
LABELS = ("falling", "rising", "steady")
TASK = AudioClassification()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_audio_model(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Dataset:
    files = sorted(audio_folder(tmp_path_factory.mktemp("sounds"), 2).rglob("*.wav"))
    return Dataset.from_list([
        {"id": file.name, "audio": {"bytes": None, "path": str(file)}, "label": LABELS.index(file.parent.name)}
        for file in files
    ])  # fmt: skip


def load(folder, seconds=None):
    """Processor and network, as a recipe loads them."""
    spec = ModelSpec(name=str(folder), seconds=seconds)
    processor = TASK.load_processor(spec)
    torch.manual_seed(0)
    return processor, TASK.load_model(spec, LABELS, "single_label_classification").eval()


@torch.no_grad()
def scores(model, features, processor) -> torch.Tensor:
    return model(**TASK.collate(features, processor)).logits.softmax(-1)


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper", "ast"])
def test_a_clip_gets_in_a_batch_what_it_gets_alone(models, rows, kind):
    processor, model = load(models[kind])
    features = TASK.encode(rows, processor)
    assert TASK.same_length(processor) == (kind == "wav2vec2")
    alone = torch.cat([scores(model, [one], processor) for one in features])
    torch.testing.assert_close(scores(model, features, processor), alone, atol=1e-5, rtol=0)
    assert alone.std(0).max() > 1e-4, "the clips are not told apart, so nothing was tested"


def test_a_model_that_normalises_over_time_needs_batches_of_one_length(models, rows):
    processor, model = load(models["hubert"])
    features = TASK.encode(rows, processor)
    assert TASK.same_length(processor)
    alone = torch.cat([scores(model, [one], processor) for one in features])
    assert (scores(model, features, processor) - alone).abs().max() > 1e-4

    processor, model = load(models["hubert"], seconds=0.25)  # all clips are longer
    features = TASK.encode(rows, processor)
    assert "attention_mask" not in TASK.collate(features, processor)
    alone = torch.cat([scores(model, [one], processor) for one in features])
    torch.testing.assert_close(scores(model, features, processor), alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seconds", [None, 0.35])
@pytest.mark.parametrize("kind", KINDS)
def test_the_saved_folder_gives_the_same_in_a_stock_pipeline(models, rows, tmp_path, kind, seconds):
    processor, model = load(models[kind], seconds)
    expected = torch.cat([scores(model, [one], processor) for one in TASK.encode(rows, processor)])
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    classify = transformers.pipeline(TASK.pipeline_tag, model=str(tmp_path))
    assert classify.feature_extractor.max_seconds == processor.max_seconds
    answers = classify(TASK.pipeline_inputs(rows, classify.feature_extractor), **TASK.pipeline_arguments)
    found = [[next(a["score"] for a in answer if a["label"] == label) for label in LABELS] for answer in answers]
    torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["whisper", "ast"])
def test_a_fixed_window_cuts_a_long_clip_as_the_extractor_itself_does(models, kind):
    processor, _ = load(models[kind], 1.0)
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * processor.sampling_rate).astype(np.float32)
    rows = Dataset.from_list([{"audio": {"array": noise, "sampling_rate": processor.sampling_rate}}])
    (features,) = TASK.encode(rows, processor)
    main = processor.model_input_names[0]
    whole = processor(noise, sampling_rate=processor.sampling_rate, return_tensors="np")[main][0]
    np.testing.assert_allclose(features[main], whole, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_head_and_blocks_are_found(models, kind):
    _, model = load(models[kind])
    assert head_names(model) == (["classifier"] if kind == "ast" else ["projector", "classifier"])
    assert len(blocks(model)) == 2
    assert "Layer" in type(blocks(model)[0].module).__name__


@pytest.mark.parametrize(("seconds", "whole"), [(0.4, 1), (1.0, 1), (2.3, 3)])
def test_whispers_window_is_cut_to_whole_seconds_with_the_first_positions(models, rows, seconds, whole):
    _, long = load(models["whisper"])
    processor, short = load(models["whisper"], seconds)
    (features,) = TASK.encode(rows.select([0]), processor)
    assert features["input_features"].shape == (16, 100 * whole)
    assert processor.max_seconds == whole
    kept = short.encoder.embed_positions.weight
    assert not kept.requires_grad
    torch.testing.assert_close(kept, long.encoder.embed_positions.weight[: 50 * whole])


def test_the_body_of_a_speech_to_text_whisper_is_taken_over(tmp_path, rows):
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=16, vocab_size=8, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    speech = WhisperForConditionalGeneration(config)
    speech.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(tmp_path)
    processor, model = load(tmp_path, 1.0)
    given, taken = speech.model.encoder.state_dict(), model.encoder.state_dict()
    assert set(given) == set(taken)
    for name in given.keys() - {"embed_positions.weight"}:
        torch.testing.assert_close(taken[name], given[name])
    assert scores(model, TASK.encode(rows, processor), processor).shape == (6, 3)


def test_the_middle_of_learnt_positions_is_kept_in_each_row():
    grid = torch.arange(2 * 7).reshape(1, 14, 1) + 100  # 2 frequencies, 7 times
    positions = torch.cat([torch.tensor([[[1], [2]]]), grid], dim=1)
    assert middle_positions(positions, 2, 7, 3).flatten().tolist() == [1, 2, 102, 103, 104, 109, 110, 111]
    assert torch.equal(middle_positions(positions, 2, 7, 7), positions)


@pytest.mark.parametrize(("kind", "most"), [("whisper", "4 seconds"), ("ast", r"1\.295 seconds")])
def test_more_seconds_than_the_window_has_are_refused(models, kind, most):
    with pytest.raises(UserError, match=rf"model\.seconds: .* takes at most {most}, got 30"):
        TASK.load_processor(ModelSpec(name=str(models[kind]), seconds=30))


def test_seconds_are_thirty_at_most_where_nothing_else_is_said(models, tmp_path):
    processor, _ = load(models["wav2vec2"])
    assert (processor.max_seconds, window_seconds(processor)) == (30.0, None)
    processor, _ = load(models["wav2vec2"], 0.5)
    load(models["wav2vec2"])[1].save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert load(tmp_path)[0].max_seconds == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoded_row_is_encoded_like_its_file(models, rows, kind):
    processor, _ = load(models[kind])
    decoded = [TASK.decode(row, processor) for row in rows]
    assert decoded[0]["audio"]["array"].dtype == np.float32
    for one, other in zip(TASK.encode(rows, processor), TASK.encode(Dataset.from_list(decoded), processor),
                          strict=True):  # fmt: skip
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-5)
        assert TASK.length(one) == TASK.length(other)


def test_masked_spans_and_left_out_layers_of_pretraining_are_off(models, rows, monkeypatch):
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda values, *_args, **_kwargs: values)
    processor, model = load(models["wav2vec2"])
    model.set_attn_implementation("eager")  # whose dropout is the one that was taken out
    features = TASK.encode(rows, processor)
    model.train()  # dropout apart, nothing is random
    assert all(torch.equal(scores(model, features, processor), scores(model, features, processor)) for _ in range(10))


def test_a_model_of_another_modality_is_refused(tmp_path):
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no audio-classification head"):
        TASK.load_processor(ModelSpec(name=str(tmp_path)))

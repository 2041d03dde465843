"""Levels: what learns, by its depth."""

from __future__ import annotations

import pytest
from transformers import DebertaV2Config, MPNetConfig, ResNetConfig, WhisperConfig, WhisperForAudioClassification

from hf_smalldata.nn.levels import levels

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "num_hidden_layers": 2,
         "vocab_size": 60, "pad_token_id": 0}  # fmt: skip
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")


def named(model) -> list[set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{names[id(parameter)] for parameter in level} for level in levels(model)]


def under(model, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def test_a_text_encoder_has_embeddings_blocks_and_head_in_this_order(text):
    model = text.network()
    assert named(model) == [
        under(model, "bert.embeddings"),
        under(model, "bert.encoder.layer.0."),
        under(model, "bert.encoder.layer.1."),
        under(model, "bert.pooler", "classifier"),
    ]


@pytest.mark.parametrize("config", [
    MPNetConfig(**SMALL),
    DebertaV2Config(**SMALL, relative_attention=True, pos_att_type=["p2c"], position_buckets=8, pooler_hidden_size=32),
], ids=["mpnet", "deberta"])  # fmt: skip
def test_relative_positions_that_blocks_share_lie_below_them(config, classifier):
    model = classifier(config)
    lowest, *blocks, _ = named(model)
    assert lowest >= {name for name, _ in model.named_parameters() if "rel_embeddings" in name or "relative_" in name}
    assert [len({name.split("layer.")[1][0] for name in block}) for block in blocks] == [1, 1]


def test_a_norm_behind_the_blocks_goes_with_the_head():
    model = WhisperForAudioClassification(WhisperConfig(
        d_model=32, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64, num_mel_bins=16, vocab_size=8,
        decoder_layers=1, pad_token_id=0, bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    ))  # fmt: skip
    assert named(model)[-1] == under(model, "encoder.layer_norm", "projector", "classifier")


def test_every_parameter_that_learns_is_in_one_level(image, timm, classifier):
    for model in (image.network(), timm("mobilenetv3_small_050"), classifier(RESNET)):
        found = [name for level in named(model) for name in level]
        assert sorted(found) == sorted(name for name, p in model.named_parameters() if p.requires_grad)


def test_a_level_where_nothing_learns_is_left_out(text):
    model = text.network()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].requires_grad_(False)
    assert named(model) == [under(model, "bert.encoder.layer.1."), under(model, "bert.pooler", "classifier")]

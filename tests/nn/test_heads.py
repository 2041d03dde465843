"""Heads: what every technique must leave trainable, by full names."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    ModernBertConfig,
    ResNetConfig,
    RobertaConfig,
    ViTConfig,
)

from hf_smalldata.nn.heads import head_names, hold_statistics

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "vocab_size": 60, "pad_token_id": 0}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
HEADS = {
    "bert": (BertConfig(**TEXT), ["bert.pooler", "classifier"]),
    "distilbert": (DistilBertConfig(vocab_size=60, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
                   ["pre_classifier", "classifier"]),
    "roberta": (RobertaConfig(**TEXT), ["classifier"]),
    "deberta": (DebertaV2Config(**TEXT, pooler_hidden_size=32), ["pooler", "classifier"]),
    "modernbert": (ModernBertConfig(**TEXT), ["head", "classifier"]),
    "gpt2": (GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, pad_token_id=0), ["score"]),
    "vit": (ViTConfig(**SMALL, image_size=32, patch_size=8), ["classifier"]),
    "resnet": (ResNetConfig(**RESNET), ["classifier"]),
}  # fmt: skip
TIMM = {"resnet10t": ["timm_model.fc"], "mobilenetv3_small_050": ["timm_model.classifier"],
        "convnext_atto": ["timm_model.head.fc"]}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_the_head_of_a_transformers_model_is_named(name, classifier):
    config, expected = HEADS[name]
    model = classifier(config)
    assert head_names(model) == expected
    assert all(isinstance(model.get_submodule(name), nn.Module) for name in expected)


@pytest.mark.parametrize("name", TIMM)
def test_the_head_of_a_timm_model_is_what_timm_calls_its_classifier(name, timm):
    model = timm(name)
    assert head_names(model) == TIMM[name]
    assert model.get_submodule(TIMM[name][0]) is model.timm_model.get_classifier()


def test_statistics_of_every_batch_norm_of_the_body_are_held(timm):
    model = timm("mobilenetv3_small_050")
    hold_statistics(model)
    model.train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    model(pixel_values=torch.randn(4, 3, 64, 64))
    assert norms
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert model.training


def test_a_batch_norm_of_the_head_is_not_held(classifier):
    model = classifier(ResNetConfig(**RESNET, num_labels=3))
    model.classifier.append(nn.BatchNorm1d(3))
    hold_statistics(model)
    model.train()
    assert model.classifier[-1].training
    assert not model.resnet.embedder.embedder.normalization.training

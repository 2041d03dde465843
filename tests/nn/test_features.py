"""Embeddings: what the last linear layer reads, with the layers before it made linear."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import DistilBertConfig, ElectraConfig, PreTrainedConfig, ResNetConfig, RobertaConfig, ViTConfig

from hf_smalldata.errors import UserError
from hf_smalldata.nn.features import embedded, readout
from hf_smalldata.techniques.fewshot.rows import features_of

LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL = {**LAYERS, "vocab_size": 120}
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 120}
TEXT: dict[str, tuple[PreTrainedConfig, float, float]] = {
    "tanh": (RobertaConfig(**SMALL), 1e-3, 0.0),
    "gelu": (ElectraConfig(**SMALL, embedding_size=16), 1.0, 40.0),
    "relu": (DistilBertConfig(**DISTIL), 1.0, 40.0),
}


@pytest.mark.parametrize("activation", TEXT)
def test_a_dense_layer_becomes_linear_whatever_squashes_it(activation, classifier):
    config, scale, shift = TEXT[activation]
    model = classifier(config)
    inputs = {"input_ids": torch.randint(5, 120, (4, 7))}
    out = readout(model, lambda network: network(**inputs))
    assert (out.scale, out.shift) == (scale, shift)
    states = model.base_model(**inputs).last_hidden_state[:, 0]
    torch.testing.assert_close(embedded(model, inputs, out), states, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("activation", TEXT)
def test_a_filled_head_answers_in_terms_of_the_embedding(activation, classifier):
    model = classifier(TEXT[activation][0])
    inputs = {"input_ids": torch.randint(5, 120, (4, 7))}
    out = readout(model, lambda network: network(**inputs))
    weight, bias = torch.randn(out.layer.out_features, 32), torch.randn(out.layer.out_features)
    out.fill(weight, bias)
    z = embedded(model, inputs, out)
    torch.testing.assert_close(model(**inputs).logits, z @ weight.T + bias, rtol=1e-3, atol=1e-3)


def test_a_head_that_is_one_layer_is_read_as_it_is(classifier):
    vit = classifier(ViTConfig(**LAYERS, image_size=32, patch_size=8))
    resnet = classifier(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    for model in (vit, resnet):
        inputs = {"pixel_values": torch.randn(3, 3, 32, 32)}
        out = readout(model, lambda network, inputs=inputs: network(**inputs))
        assert (out.scale, out.shift) == (1.0, 0.0)
        z = embedded(model, inputs, out)
        torch.testing.assert_close(model(**inputs).logits, out.layer(z))


def test_what_cannot_be_made_linear_stays_as_it_was(classifier):
    model = classifier(RobertaConfig(**SMALL))
    model.classifier.out_proj = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 3))
    before = model.classifier.dense.weight.detach().clone()
    inputs = {"input_ids": torch.randint(5, 120, (4, 7))}
    assert readout(model, lambda network: network(**inputs)).scale == 1.0
    assert torch.equal(model.classifier.dense.weight, before)
    assert model.classifier.dense.weight.requires_grad


def test_a_network_without_a_last_linear_layer_is_refused(classifier):
    model = classifier(RobertaConfig(**SMALL))
    model.classifier = nn.Sequential(nn.Flatten())
    with pytest.raises(UserError, match="does not end in a linear layer"):
        readout(model, lambda network: network(input_ids=torch.randint(5, 120, (4, 7))))


def test_rows_come_in_their_own_order_whatever_their_length(text):
    model, context = text.network(), text.context()
    found, out = features_of(model, context)
    assert found.shape == (len(context.train), out.layer.in_features)
    alone = torch.cat([features_of(model, context, context.train.select([at]))[0] for at in range(len(context.train))])
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-4)

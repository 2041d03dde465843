"""Dropout: rates set anew, in modules and in functional calls alike."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from transformers import DistilBertConfig, ModernBertConfig, ResNetConfig, WhisperForAudioClassification

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.regularise.dropout import Dropout, set_rate
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.testing import tiny_audio_model


def spread(model, batch) -> float:
    """How far two passes in training mode lie apart: 0 without any dropout."""
    model.train()
    with torch.no_grad():
        return float((model(**batch).logits - model(**batch).logits).abs().max())


def test_weights_and_predictions_stay_the_same(text):
    model = text.network().eval()
    changed = Dropout(hidden=0.3, attention=0.2, head=0.4).model(model, text.context()).eval()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), changed.parameters(), strict=True))
    assert torch.equal(model(**text.batch()).logits, changed(**text.batch()).logits)


def test_rates_of_hidden_attention_and_head_go_where_they_belong(text):
    model = Dropout(hidden=0.3, attention=0.2, head=0.4).model(text.network(), text.context())
    layer = model.bert.encoder.layer[0]
    rates = [layer.output.dropout.p, model.bert.embeddings.dropout.p, layer.attention.self.dropout.p, model.dropout.p]
    assert rates == [0.3, 0.3, 0.2, 0.4]


def test_none_leaves_a_rate_as_the_checkpoint_has_it(text):
    model = Dropout(head=0.4).model(text.network(), text.context())
    assert model.bert.encoder.layer[0].output.dropout.p == 0.1
    assert model.bert.encoder.layer[0].attention.self.dropout.p == 0.1


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_functional_dropout_of_attention_follows(kind, text):
    """DistilBERT and others hand the rate to a function; with every other rate at 0 only attention is random."""
    network = text.network()
    network.set_attn_implementation(kind)
    none = Dropout(hidden=0.0, attention=0.0, head=0.0).model(network, text.context())
    some = Dropout(hidden=0.0, attention=0.5, head=0.0).model(network, text.context())
    assert some.config._attn_implementation == kind
    assert spread(none, text.batch()) == 0
    assert spread(some, text.batch()) > 1e-4


def test_every_field_of_a_config_that_holds_the_rate_is_set():
    config = ModernBertConfig()
    assert set_rate(config, "hidden", 0.3) == ["embedding_dropout", "mlp_dropout"]
    assert (config.embedding_dropout, config.mlp_dropout, config.attention_dropout) == (0.3, 0.3, 0.0)
    config = DistilBertConfig()
    assert set_rate(config, "hidden", 0.3) == ["dropout"]
    assert set_rate(config, "attention", 0.2) == ["attention_dropout"]
    assert set_rate(config, "head", 0.1) == ["seq_classif_dropout"]


def test_the_log_names_the_fields_that_were_set(text, caplog):
    with caplog.at_level(logging.INFO, logger="hf_smalldata"):
        Dropout(hidden=0.3, head=0.4).model(text.network(), text.context())
    said = [message for message in caplog.messages if message.startswith("dropout: ")]
    assert said == ["dropout: hidden_dropout_prob = 0.3", "dropout: classifier_dropout = 0.4"]


def test_the_head_rate_of_timm_goes_into_its_arguments_and_its_layers(timm, image):
    model = timm("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
    changed = Dropout(head=0.6).model(model, image.context())
    assert changed.config.model_args == {**model.config.model_args, "drop_rate": 0.6}
    assert changed.timm_model.head_drop.p == 0.6
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), changed.parameters(), strict=True))


def test_other_rates_of_timm_are_refused(timm, image):
    model = timm("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
    with pytest.raises(UserError, match=r"^dropout.hidden: timm networks have a rate for the head only; set dropout.h"):
        Dropout(hidden=0.6).model(model, image.context())


def test_a_rate_that_the_config_lacks_is_refused_with_those_it_has(image):
    with pytest.raises(UserError) as caught:
        Dropout(head=0.5).model(image.network(), image.context())
    assert str(caught.value) == (
        "dropout.head: a vit config has no such rate; it has hidden_dropout_prob, attention_probs_dropout_prob"
    )
    with pytest.raises(UserError) as caught:
        set_rate(ResNetConfig(), "hidden", 0.5)
    assert str(caught.value) == "dropout.hidden: a resnet config has no such rate; it has no dropout at all"


def test_after_lora_it_is_refused(text):
    with pytest.raises(UserError) as caught:
        Dropout(hidden=0.3).model(Lora().model(text.network(), text.context()), text.context())
    message = "dropout: put it before the technique that made the model a PeftModelForSequenceClassification"
    assert str(caught.value) == message


def test_after_freeze_it_is_refused_since_a_new_network_would_learn_whole(text):
    with pytest.raises(UserError) as caught:
        Dropout(hidden=0.3).model(Freeze().model(text.network(), text.context()), text.context())
    assert str(caught.value) == "dropout: put it before the technique that froze parts of the network"


@pytest.mark.parametrize("frozen", [False, True])
def test_positions_that_whisper_itself_freezes_are_no_obstacle_and_stay_as_they_are(frozen, audio, tmp_path):
    model = WhisperForAudioClassification.from_pretrained(tiny_audio_model(tmp_path / "whisper", "whisper"))
    model.encoder.embed_positions.requires_grad_(not frozen)
    changed = Dropout(hidden=0.2).model(model, audio.context())
    assert changed.encoder.embed_positions.weight.requires_grad != frozen
    assert changed.classifier.weight.requires_grad
    assert changed.config.dropout == 0.2


def test_the_pretrained_network_is_not_changed(text):
    network = text.network()
    before = network.config.to_dict()
    Dropout(hidden=0.3).model(network, text.context())
    assert network.config.to_dict() == before
    assert any(isinstance(module, nn.Dropout) and module.p == 0.1 for module in network.modules())

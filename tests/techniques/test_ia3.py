"""IA3: vectors of ones on keys, values and the inputs of narrowing layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GPT2Config, ResNetConfig

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft.ia3 import Ia3
from hf_smalldata.techniques.transfer.freeze import Freeze


def vectors(model) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad and ".ia3_l." in name}


def logits(model, batch) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(**batch).logits


def test_a_block_of_bert_has_vectors_for_keys_values_and_the_inner_states(text):
    model = Ia3().model(text.network(), text.context())
    found = {
        name.split("layer.0.")[1].split(".ia3")[0]: p.numel() for name, p in vectors(model).items() if "layer.0" in name
    }
    assert found == {"attention.self.key": 32, "attention.self.value": 32, "output.dense": 64}


def test_outputs_of_keys_and_inputs_of_the_second_layer_are_multiplied(text):
    network = text.network()
    key, second = (network.get_submodule(f"bert.encoder.layer.0.{at}") for at in ("attention.self.key", "output.dense"))
    block = Ia3().model(network, text.context()).base_model.model.bert.encoder.layer[0]
    scaled_key, scaled_second = block.attention.self.key, block.output.dense
    with torch.no_grad():
        for layer in (scaled_key, scaled_second):
            layer.ia3_l["default"].normal_()
        x, inner = torch.randn(3, 32), torch.randn(3, 64)
        torch.testing.assert_close(scaled_key(x), key(x) * scaled_key.ia3_l["default"].T)
        torch.testing.assert_close(scaled_second(inner), second(inner * scaled_second.ia3_l["default"]))


@pytest.mark.parametrize("modality", ["text-classification", "image-classification", "audio-classification"])
def test_the_output_is_unchanged_at_the_start(modality, kits):
    kit = kits[modality]
    before = logits(kit.network(), kit.batch())
    torch.testing.assert_close(logits(Ia3().model(kit.network(), kit.context()), kit.batch()), before)


def test_a_network_of_equal_convolutions_has_all_outputs_scaled(classifier, image):
    model = classifier(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    before = logits(model, image.batch())
    convolutions = [m for stage in model.resnet.encoder.stages for m in stage.modules() if isinstance(m, nn.Conv2d)]
    adapted = Ia3().model(model, image.context())
    assert sum(p.numel() for p in vectors(adapted).values()) == sum(layer.out_channels for layer in convolutions)
    torch.testing.assert_close(logits(adapted, image.batch()), before)


def test_mobile_networks_have_the_inputs_of_their_narrowing_convolutions_scaled(timm, image):
    adapted = Ia3().model(timm("mobilenetv3_small_050"), image.context())
    assert vectors(adapted)
    for name in vectors(adapted):
        layer = adapted.get_submodule(name.split(".ia3_l")[0])
        assert layer.get_base_layer().in_channels > layer.get_base_layer().out_channels


def test_the_transposed_layers_of_gpt2_are_scaled(classifier, text):
    model = classifier(GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, pad_token_id=0))
    adapted = Ia3().model(model, text.context())
    assert {name.split(".")[5] + "." + name.split(".")[6]: p.numel() for name, p in vectors(adapted).items()} == {
        "attn.c_attn": 96, "mlp.c_proj": 128
    }  # fmt: skip


def test_above_frozen_blocks_only_what_is_not_frozen_is_scaled(text):
    model = Ia3().model(Freeze(blocks=1).model(text.network(), text.context()), text.context())
    assert {name.split("encoder.layer.")[1][0] for name in vectors(model)} == {"1"}


def test_where_every_block_is_frozen_there_is_nothing_to_scale(text):
    with pytest.raises(UserError, match=r"^ia3: every block is frozen"):
        Ia3().model(Freeze().model(text.network(), text.context()), text.context())

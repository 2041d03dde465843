"""VeRA: random matrices that all layers share, and two vectors a layer that learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import ResNetConfig

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft.adapter import target_names
from hf_smalldata.techniques.peft.vera import Vera


def vectors(model) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad and ".vera_lambda_" in name}


def test_a_layer_adds_b_times_B_of_d_times_A(text):
    network = text.network()
    plain = network.bert.encoder.layer[0].output.dense
    model = Vera(rank=4).model(network, text.context())
    layer = model.base_model.model.bert.encoder.layer[0].output.dense
    A, B = model.base_model.vera_A["default"][:, :64], model.base_model.vera_B["default"][:32]
    b, d = layer.vera_lambda_b["default"], layer.vera_lambda_d["default"]
    with torch.no_grad():
        torch.testing.assert_close(d, torch.full((4,), 0.1))
        b.normal_()
        x = torch.randn(3, 64)
        torch.testing.assert_close(layer(x), plain(x) + b * ((d * (x @ A.T)) @ B.T))


def test_a_layer_learns_as_many_numbers_as_its_outputs_and_the_rank(text):
    network = text.network()
    layers = [network.get_submodule(name) for name in target_names(network, "all")]
    model = Vera(rank=16).model(network, text.context())
    assert sum(p.numel() for p in vectors(model).values()) == sum(16 + layer.out_features for layer in layers)


@pytest.mark.parametrize("modality", ["text-classification", "image-classification", "audio-classification"])
def test_the_output_is_unchanged_at_the_start(modality, kits):
    kit = kits[modality]
    with torch.no_grad():
        before = kit.network().eval()(**kit.batch()).logits
        after = Vera(rank=8).model(kit.network(), kit.context()).eval()(**kit.batch()).logits
    torch.testing.assert_close(after, before)


def test_the_matrices_are_drawn_by_the_seed_of_the_run(text):
    drawn = [Vera(rank=4).model(text.network(), text.context(seed)).base_model.vera_A["default"] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_network_of_convolutions_is_refused(classifier, image):
    model = classifier(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"))
    with pytest.raises(UserError, match="for linear layers, and ResNetForImageClassification adapts convolutions only"):
        Vera().model(model, image.context())


def test_an_unknown_target_is_refused_under_its_own_name(text):
    with pytest.raises(UserError, match=r"^vera\.targets: \('qurey',\) names no layer"):
        Vera(targets=["qurey"]).model(text.network(), text.context())

"""Layer-wise decay: rates fall from the head to the stem, and lower blocks move less."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import ResNetConfig

from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.techniques.transfer.llrd import Llrd, decayed

RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)


def rates(trainer) -> dict[str, float]:
    """Learning rate of each parameter."""
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    groups = trainer.create_optimizer().param_groups
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


def test_rates_are_powers_of_the_decay_and_other_options_stay():
    stem, low, high, head = (nn.Parameter(torch.zeros(1)) for _ in range(4))
    groups = [{"params": [stem, head, low], "lr": 2.0, "weight_decay": 0.1}, {"params": [high], "lr": 2.0}]
    split = decayed(groups, [[stem], [low], [high], [head]], decay=0.5)
    assert [(group["params"], group["lr"]) for group in split] == [
        ([head], 2.0), ([low], 0.5), ([stem], 0.25), ([high], 1.0)
    ]  # fmt: skip
    assert [group.get("weight_decay") for group in split] == [0.1, 0.1, 0.1, None]


def test_what_stands_beside_the_network_learns_as_fast_as_the_head():
    low, head, beside = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    split = decayed([{"params": [low, head, beside], "lr": 1.0}], [[low], [head]], decay=0.5)
    assert [(group["params"], group["lr"]) for group in split] == [([head, beside], 1.0), ([low], 0.5)]


def test_neighbouring_blocks_can_share_a_rate_and_the_head_has_its_own():
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(6)]
    split = decayed([{"params": parameters, "lr": 1.0}], [[each] for each in parameters], 0.1, blocks_per_rate=2)
    found = {id(each): group["lr"] for group in split for each in group["params"]}
    assert [found[id(each)] for each in parameters] == pytest.approx([1e-3, 1e-2, 1e-2, 1e-1, 1e-1, 1])


def test_every_parameter_of_a_text_encoder_learns_at_the_rate_of_its_depth(text, trainer):
    found = rates(trainer(text, text.network(), [Llrd(decay=0.5)], learning_rate=1e-3))
    expected = {"bert.embeddings": 1.25e-4, "bert.encoder.layer.0.": 2.5e-4, "bert.encoder.layer.1.": 5e-4,
                "bert.pooler": 1e-3, "classifier": 1e-3}  # fmt: skip
    assert set(found) == {name for name, _ in text.network().named_parameters()}
    for name, rate in found.items():
        assert rate == pytest.approx(next(each for start, each in expected.items() if name.startswith(start)))


def test_lower_blocks_of_a_convolutional_network_move_less(image, classifier, trainer):
    network = classifier(RESNET)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    trainer(image, network, [Llrd(decay=0.1)], learning_rate=1e-4).train()
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
    parts = ("resnet.embedder", "resnet.encoder.stages.0", "resnet.encoder.stages.1", "classifier")
    most = [max(value for name, value in moved.items() if name.startswith(part)) for part in parts]
    assert most == sorted(most)
    assert most[0] < 0.02 * most[-1]


def test_frozen_blocks_have_no_rate_and_adapters_that_of_their_block(text, trainer):
    network = Freeze(blocks=1).model(text.network(), text.context())
    adapted = Lora(rank=2).model(network, text.context())
    found = rates(trainer(text, adapted, [Llrd(decay=0.5)], learning_rate=1e-3))
    assert {rate for name, rate in found.items() if "lora_" in name} == {5e-4}
    assert not any("layer.0." in name for name in found)


def test_a_decay_outside_of_0_to_1_is_refused():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Llrd(decay=2.6)

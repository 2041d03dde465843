"""Blocks of any backbone: found in order, cut from what lies below, and held in evaluation mode."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    FunnelConfig,
    ModernBertConfig,
    MPNetConfig,
    ResNetConfig,
    RobertaConfig,
    ViTConfig,
)

from hf_smalldata.errors import UserError
from hf_smalldata.nn.blocks import below, blocks, hold_in_eval

SMALL = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {**SMALL, "num_hidden_layers": 3, "vocab_size": 60, "pad_token_id": 0}
IMAGE = {**SMALL, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
           "max_position_embeddings": 64, "pooler_hidden_size": 32}  # fmt: skip
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}

# A config -> where its blocks hang, and what lies below the first of them.
TRANSFORMERS = {
    "bert": (BertConfig(**TEXT), "bert.encoder.layer.{}", 3, ["bert.embeddings"]),
    "distilbert": (DistilBertConfig(vocab_size=60, dim=32, n_layers=3, n_heads=2, hidden_dim=64),
                   "distilbert.transformer.layer.{}", 3, ["distilbert.embeddings"]),
    "roberta": (RobertaConfig(**TEXT), "roberta.encoder.layer.{}", 3, ["roberta.embeddings"]),
    "mpnet": (MPNetConfig(**TEXT), "mpnet.encoder.layer.{}", 3,
              ["mpnet.embeddings", "mpnet.encoder.relative_attention_bias"]),
    "deberta-v2": (DebertaV2Config(**TEXT, **DEBERTA), "deberta.encoder.layer.{}", 3,
                   ["deberta.embeddings", "deberta.encoder.rel_embeddings"]),
    "modernbert": (ModernBertConfig(**TEXT), "model.layers.{}", 3, ["model.embeddings"]),
    "vit": (ViTConfig(**IMAGE), "vit.layers.{}", 3, ["vit.embeddings"]),
    "resnet": (ResNetConfig(**RESNET), "resnet.encoder.stages.{}", 4, ["resnet.embedder"]),
}  # fmt: skip
TIMM = {
    "vit_tiny_patch16_224": ({"embed_dim": 32, "depth": 3, "num_heads": 2, "img_size": 32, "patch_size": 8},
                             [f"timm_model.blocks.{at}" for at in range(3)],
                             ["timm_model.cls_token", "timm_model.pos_embed", "timm_model.patch_embed"]),
    "resnet10t": ({}, [f"timm_model.layer{at}" for at in (1, 2, 3, 4)], ["timm_model.conv1", "timm_model.bn1"]),
    "mobilenetv3_small_050": ({}, [f"timm_model.blocks.{at}" for at in range(6)],
                              ["timm_model.conv_stem", "timm_model.bn1"]),
}  # fmt: skip


def names_of(model: nn.Module) -> dict[int, str]:
    return {id(module): name for name, module in model.named_modules()}


def run_on_random(model) -> dict[str, torch.Tensor]:
    if hasattr(model.config, "vocab_size"):
        return {"input_ids": torch.tensor([[2, 5, 6, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    return {"pixel_values": torch.zeros(1, 3, 32, 32)}


def parameters_below(model, cut: int) -> set[str]:
    reached, _ = below(model, cut, lambda network: network(**run_on_random(network)))
    wanted = set(map(id, reached))
    return {name for name, parameter in model.named_parameters() if id(parameter) in wanted}


def parameters_of(model, modules: list[str]) -> set[str]:
    return {name for name, _ in model.named_parameters() if any(f"{name}.".startswith(f"{at}.") for at in modules)}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_blocks_of_transformers_are_found_from_the_input_upwards(name, classifier):
    config, pattern, count, _ = TRANSFORMERS[name]
    model = classifier(config)
    found = [names_of(model)[id(block.module)] for block in blocks(model)]
    assert found == [pattern.format(at) for at in range(count)]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_below_finds_embeddings_biases_and_stems_of_transformers(name, classifier):
    config, pattern, count, stem = TRANSFORMERS[name]
    model = classifier(config)
    for cut in (1, count):
        expected = parameters_of(model, [*stem, *(pattern.format(at) for at in range(cut))])
        assert parameters_below(model, cut) >= expected - {f"{stem[0]}.mask_token"}
        assert parameters_below(model, cut) <= expected


@pytest.mark.parametrize("name", TIMM)
def test_blocks_and_stems_of_timm_networks_are_found(name, timm):
    arguments, expected, stem = TIMM[name]
    model = timm(name, **arguments)
    assert [names_of(model)[id(block.module)] for block in blocks(model)] == expected
    assert parameters_below(model, 2) == parameters_of(model, [*stem, *expected[:2]])


@pytest.mark.parametrize("ratio", [1.0, 1 / 64])
def test_the_convolutions_are_the_blocks_of_a_vgg_though_two_linear_layers_hold_most_weights(ratio, timm):
    with torch.device("meta"):
        model = timm("vgg11", mlp_ratio=ratio)
    convolutions = sum(p.numel() for p in model.timm_model.features.parameters())
    assert (convolutions * 2 < sum(p.numel() for p in model.parameters())) == (ratio == 1)
    found = [names_of(model)[id(block.module)] for block in blocks(model)]
    assert found == [f"timm_model.features.{at}" for at in (0, 3, 6, 8, 11, 13, 16, 18)]


LETTERED = [f"timm_model.Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")]
DENSE = [f"timm_model.features.denseblock{at}" for at in (1, 2, 3, 4)]


@pytest.mark.parametrize(("name", "expected"), [("inception_v3", LETTERED), ("densenet121", DENSE)])
def test_blocks_numbered_with_letters_and_blocks_that_are_dicts_are_found(name, expected, timm):
    with torch.device("meta"):
        model = timm(name)
    assert [names_of(model)[id(block.module)] for block in blocks(model)] == expected


def test_shared_layers_are_one_block_that_all_of_the_body_lies_below(classifier):
    model = classifier(AlbertConfig(**TEXT, embedding_size=16))
    assert [names_of(model)[id(block.module)] for block in blocks(model)] == ["albert.encoder.albert_layer_groups.0"]
    assert parameters_below(model, 1) == parameters_of(model, ["albert.embeddings", "albert.encoder"])


def test_two_digit_blocks_are_ordered_by_number(classifier):
    model = classifier(BertConfig(**{**TEXT, "num_hidden_layers": 12}))
    assert [block.name for block in blocks(model)] == [str(at) for at in range(12)]


def test_lists_that_are_never_called_are_no_blocks(classifier):
    model = classifier(FunnelConfig(vocab_size=60, block_sizes=[2, 2], d_model=32, n_head=2, d_head=16, d_inner=64))
    assert [names_of(model)[id(block.module)] for block in blocks(model)] == [
        "funnel.encoder.blocks.0.0",
        "funnel.encoder.blocks.0.1",
    ]


def test_a_network_without_repeated_parts_is_refused_by_name():
    with pytest.raises(UserError) as caught:
        blocks(nn.ModuleDict({"first": nn.Linear(2, 2), "last": nn.Linear(2, 2)}))
    assert str(caught.value) == "ModuleDict has no series of blocks (layer.0, layer.1, …) to cut at"


def test_a_block_that_is_never_called_is_refused(text):
    with pytest.raises(UserError, match=r"^BertForSequenceClassification never calls its block 0, so nothing can be"):
        below(text.network(), 1, lambda network: None)


@pytest.mark.parametrize("cut", [0, 3])
def test_a_cut_outside_the_network_is_refused_with_the_number_of_blocks(cut, text):
    with pytest.raises(UserError) as caught:
        below(text.network(), cut, lambda network: network(**text.batch()))
    message = f"expected 1 to 2 bottom blocks, got {cut}: BertForSequenceClassification has 2"
    assert str(caught.value) == message


def test_modules_below_hold_every_dropout_up_to_the_cut_and_none_above(text):
    model = text.network()
    _, modules = below(model, 1, lambda network: network(**text.batch()))
    names = {names_of(model)[id(module)] for module in modules}
    dropouts = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    low = {name for name in dropouts if name.startswith(("bert.embeddings", "bert.encoder.layer.0."))}
    assert low
    assert names & dropouts == low


def test_below_leaves_gradients_modes_hooks_and_statistics_as_they_were(classifier):
    model = classifier(ResNetConfig(**RESNET)).train()
    model.resnet.embedder.requires_grad_(False)
    model.resnet.encoder.stages[0].eval()
    requires = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    below(model, 2, lambda network: network(**run_on_random(network)))
    assert [parameter.requires_grad for parameter in model.parameters()] == requires
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_held_module_stays_in_evaluation_while_its_children_follow():
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.5)), nn.Dropout(0.5))
    hold_in_eval(model[0])
    model.train()
    assert [model.training, model[0].training, model[0][0].training, model[1].training] == [True, False, True, True]
    model.eval()
    assert not model[0][0].training


def test_a_held_batch_norm_keeps_its_statistics_in_training():
    norm = nn.BatchNorm1d(2)
    hold_in_eval(norm)
    norm.train()
    norm(torch.full((4, 2), 5.0))
    assert torch.equal(norm.running_mean, torch.zeros(2))


def test_a_copy_of_a_held_network_is_held_on_its_own():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5))
    hold_in_eval(model[0])
    twin = copy.deepcopy(model).train()
    assert [module.training for module in twin] == [False, True]
    twin[0].training = True
    assert not model[0].training
    twin.train()
    assert twin[0].train.__self__ is twin[0]

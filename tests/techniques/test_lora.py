"""LoRA: an update of rank r that starts at nothing, and a head that is trained whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from transformers import GPT2Config, ResNetConfig

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.peft.adapter import target_names
from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.transfer.freeze import Freeze

LAYER = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def logits(model, batch) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(**batch).logits


def trained(model) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapters(model) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in trained(model).items() if ".lora_" in name}


def one_step(model, batch) -> None:
    """A step of plain descent on the sum of the logits."""
    model.train()
    model(**batch).logits.sum().backward()
    with torch.no_grad():
        for parameter in trained(model).values():
            if parameter.grad is not None:
                parameter.sub_(0.1 * parameter.grad)


@pytest.mark.parametrize("more", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["plain", "rslora", "dora"])
def test_the_output_is_unchanged_at_the_start_and_changes_with_a_step(more, text):
    batch = text.batch()
    before = logits(text.network(), batch)
    model = Lora(**more).model(text.network(), text.context())
    torch.testing.assert_close(logits(model, batch), before)
    one_step(model, batch)
    assert not torch.allclose(logits(model, batch), before)


def test_only_adapters_and_the_head_are_trainable(text):
    model = Lora().model(text.network(), text.context())
    others = [name for name in trained(model) if ".lora_" not in name]
    assert {name.split("base_model.model.")[1] for name in others} == {
        f"{head}.modules_to_save.default.{part}"
        for head in ("bert.pooler", "classifier")
        for part in (("dense.weight", "dense.bias") if head == "bert.pooler" else ("weight", "bias"))
    }


@pytest.mark.parametrize("rank", [1, 4])
def test_each_layer_costs_r_times_in_plus_out_parameters(rank, text):
    network = text.network()
    layers = [network.get_submodule(name) for name in target_names(network, "all")]
    assert len(layers) == 2 * len(LAYER)
    model = Lora(rank=rank).model(network, text.context())
    expected = sum(rank * (layer.in_features + layer.out_features) for layer in layers)
    assert sum(parameter.numel() for parameter in adapters(model).values()) == expected


@pytest.mark.parametrize(("rslora", "factor"), [(False, 12 / 4), (True, 12 / math.sqrt(4))])
def test_the_update_is_scaled_by_alpha_over_r_and_by_alpha_over_its_root_with_rslora(rslora, factor, text):
    network = text.network()
    name = "bert.encoder.layer.0.attention.self.query"
    weight = network.get_submodule(name).weight.detach().clone()
    model = Lora(rank=4, alpha=12.0, dropout=0.0, use_rslora=rslora).model(network, text.context()).eval()
    layer = model.base_model.model.get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.normal_()
        x = torch.randn(3, 32)
        expected = x @ (weight + factor * b @ a).T + layer.base_layer.bias
        torch.testing.assert_close(layer(x), expected)


def test_dora_learns_a_magnitude_for_each_output(text):
    model = Lora(use_dora=True, rank=2).model(text.network(), text.context())
    magnitudes = {name: p for name, p in adapters(model).items() if "magnitude" in name}
    layer = text.network().bert.encoder.layer[0].attention.self.query
    assert len(magnitudes) == 2 * len(LAYER)
    name = next(name for name in magnitudes if "layer.0.attention.self.query" in name)
    torch.testing.assert_close(magnitudes[name].detach(), layer.weight.norm(dim=1).detach())


def test_pissa_takes_the_largest_singular_values_and_leaves_the_rest_to_the_base(text):
    network = text.network()
    name = "bert.encoder.layer.0.intermediate.dense"
    weight = network.get_submodule(name).weight.detach().clone()
    layer = Lora(rank=4, dropout=0.0, init="pissa").model(network, text.context()).base_model.model.get_submodule(name)
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    with torch.no_grad():
        torch.testing.assert_close(layer.get_delta_weight("default"), u[:, :4] * s[:4] @ vt[:4], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(layer.base_layer.weight, u[:, 4:] * s[4:] @ vt[4:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_other_starts_change_no_output_and_make_larger_first_steps(init, text):
    batch, moves = text.batch(), []
    before = logits(text.network(), batch)
    for start in ("default", init):
        model = Lora(init=start, dropout=0.0).model(text.network(), text.context())
        torch.testing.assert_close(logits(model, batch), before, atol=1e-5, rtol=1e-4)
        model(**batch).logits[:, 0].sum().backward()
        moves.append(sum(float(p.grad.square().sum()) for p in adapters(model).values()))
    assert moves[1] > 2 * moves[0]


@pytest.mark.parametrize("more", [{}, {"dropout": 0.0, "use_dora": True}], ids=["dropout", "dora"])
def test_what_would_drop_pretrained_weights_is_refused(more):
    with pytest.raises(ValueError, match="init pissa needs dropout: 0 and no use_dora"):
        Lora(init="pissa", **more)


def test_pissa_is_refused_for_convolutions(classifier, image):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    with pytest.raises(UserError, match=r"^lora\.init: pissa is for linear layers"):
        Lora(init="pissa", dropout=0.0).model(classifier(config), image.context())


def test_attention_targets_are_query_key_and_value_alone(text):
    found = target_names(text.network(), "attention")
    assert found == [f"bert.encoder.layer.{at}.attention.self.{part}" for at in (0, 1) for part in LAYER[:3]]


def test_named_targets_are_taken_and_no_other(text):
    assert target_names(text.network(), ["query"]) == [f"bert.encoder.layer.{at}.attention.self.query" for at in (0, 1)]


def test_targets_never_lie_in_the_head_or_the_embeddings(text):
    assert all(name.startswith("bert.encoder.layer.") for name in target_names(text.network(), "all"))


def test_an_unknown_target_is_refused_with_the_names_there_are(text):
    with pytest.raises(UserError) as caught:
        Lora(targets=["qurey"]).model(text.network(), text.context())
    assert str(caught.value) == (
        "lora.targets: ('qurey',) names no layer of BertForSequenceClassification; it has dense, key, query, value"
    )


def test_the_fused_attention_of_timm_is_targeted(timm, image):
    model = timm("vit_tiny_patch16_224", embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
    assert target_names(model, "attention") == [f"timm_model.blocks.{at}.attn.qkv" for at in (0, 1)]
    adapted = Lora(targets="attention", rank=2).model(model, image.context())
    assert sum(p.numel() for p in adapters(adapted).values()) == 2 * 2 * (32 + 96)
    assert any(name.endswith("head.modules_to_save.default.weight") for name in trained(adapted))


def test_convolutions_are_targeted_and_grouped_ones_are_not(timm, image):
    model = timm("mobilenetv3_small_050")
    chosen = {name: model.get_submodule(name) for name in target_names(model, "all")}
    inside = [module for module in model.timm_model.blocks.modules() if isinstance(module, nn.Conv2d)]
    assert set(chosen.values()) == {module for module in inside if module.groups == 1}
    assert any(module.groups > 1 for module in inside)
    batch = image.batch()
    before = logits(model, batch)
    torch.testing.assert_close(logits(Lora().model(model, image.context()), batch), before)


def test_statistics_of_frozen_batch_norms_do_not_move(classifier, image):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    model = Lora().model(classifier(config), image.context()).train()
    means = [module.running_mean.clone() for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model(**image.batch())
    after = [module.running_mean for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert means
    assert all(torch.equal(*pair) for pair in zip(means, after, strict=True))


def test_the_transposed_layers_of_gpt2_are_adapted(classifier, text):
    model = classifier(GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2, pad_token_id=0))
    batch = {name: value for name, value in text.batch().items() if name != "token_type_ids"}
    before = logits(model, batch)
    adapted = Lora(rank=2, targets="attention").model(model, text.context())
    assert sum(p.numel() for p in adapters(adapted).values()) == 2 * 2 * (32 + 96)
    torch.testing.assert_close(logits(adapted, batch), before)
    one_step(adapted, batch)
    assert not torch.allclose(logits(adapted, batch), before)


def test_above_frozen_blocks_only_what_is_not_frozen_is_adapted(text):
    network = Freeze(blocks=1).model(text.network(), text.context())
    model = Lora().model(network, text.context())
    assert {name.split("encoder.layer.")[1][0] for name in adapters(model)} == {"1"}
    assert not any(module.training for module in model.train().base_model.model.bert.encoder.layer[0].modules())


def test_where_every_block_is_frozen_there_is_nothing_to_adapt(text):
    network = Freeze().model(text.network(), text.context())
    with pytest.raises(UserError, match="every block is frozen"):
        Lora().model(network, text.context())


def test_a_second_adapter_is_refused(text):
    adapted = Lora().model(text.network(), text.context())
    with pytest.raises(UserError, match=r"^lora: expected a transformers model, got PeftModel"):
        Lora().model(adapted, text.context())


def test_it_asks_for_larger_steps_than_full_fine_tuning():
    assert Lora().default_learning_rate() == 1e-3

"""Mixout: the formula, layers that are their own outside of training passes, and weights that stay near the start."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_smalldata.techniques.peft.lora import Lora
from hf_smalldata.techniques.regularise.mixout import Mixing, Mixout, mix, mixout
from hf_smalldata.techniques.transfer.freeze import Freeze


def test_each_weight_is_that_of_the_start_or_the_learnt_one_scaled():
    torch.manual_seed(0)
    p, start, weights = 0.7, torch.zeros(1000), torch.ones(1000)
    mixed = mixout(weights, start, p)
    torch.testing.assert_close(mixed.unique(), torch.tensor([0.0, 1 / 0.3]))
    assert float((mixed == 0).float().mean()) == pytest.approx(p, abs=0.05)


def test_the_mean_over_draws_is_the_learnt_weights():
    torch.manual_seed(0)
    weights, start = torch.tensor([3.0, -1.0]).repeat(50_000, 1), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(mixout(weights, start, 0.5).mean(0), torch.tensor([3.0, -1.0]), atol=0.05, rtol=0)


def test_at_the_start_nothing_changes():
    weights = torch.randn(100)
    torch.testing.assert_close(mixout(weights, weights, 0.9), weights)


def test_a_layer_sees_changed_weights_in_training_alone_and_gets_its_own_back():
    layer, row = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    own, plain = layer.weight, layer(row)
    mix(layer, lambda weights: weights * 2)
    torch.testing.assert_close(layer.train()(row), 2 * plain)
    assert layer.weight is own
    torch.testing.assert_close(layer.eval()(row), plain)
    layer.train()(row).sum().backward()
    torch.testing.assert_close(own.grad, torch.full((1, 2), 2.0))


def test_a_layer_gets_its_own_weights_back_after_an_error():
    layer = nn.Linear(2, 1)
    own = layer.weight
    mix(layer, lambda weights: weights * 2)
    with pytest.raises(RuntimeError):
        layer(torch.ones(1, 3))
    assert layer.weight is own


def mixed(model: nn.Module, p: float = 0.7) -> tuple[Mixing, set[str]]:
    """The callback at work, and the names of the layers that it mixes."""
    (callback,) = Mixout(p=p).callbacks()
    callback.on_init_end(None, None, None, model=model)
    return callback, {name for name, module in model.named_modules() if module._forward_pre_hooks}


def test_the_layers_of_the_body_are_mixed_and_the_head_is_not(text):
    _, names = mixed(text.network())
    assert len(names) == 12  # six linear layers in each of two blocks
    assert not any("classifier" in name or "pooler" in name or "embeddings" in name for name in names)


def test_frozen_layers_are_left_alone(text):
    _, names = mixed(Freeze(blocks=1).model(text.network(), text.context()))
    assert {name.split(".")[3] for name in names} == {"1"}


def test_of_adapters_those_that_learn_are_mixed(text):
    _, names = mixed(Lora().model(text.network(), text.context()))
    assert names
    assert all("lora_" in name for name in names)


def test_a_weight_that_is_made_of_others_is_left_alone(audio):
    network = audio.network()
    _, names = mixed(network)
    assert names
    assert not any("pos_conv_embed" in name for name in names)
    network.train()(**audio.batch())


def test_it_says_where_nothing_in_the_body_learns(text, caplog):
    mixed(Freeze().model(text.network(), text.context()))
    assert "mixout: had no effect" in caplog.text


def test_after_training_an_ordinary_model_is_left(text):
    network = text.network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    callback, _ = mixed(network)
    network.train()(**text.batch())
    callback.on_train_end(None, None, None, model=network)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())
    assert list(network.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def distance_travelled(p: float | None) -> float:
    """From the start, of a layer that learns 12 rows for a while."""
    torch.manual_seed(0)
    layer, rows, values = nn.Linear(8, 4), torch.randn(12, 8), 3 * torch.randn(12, 4)
    start = layer.weight.detach().clone()
    if p is not None:
        mix(layer, lambda weights: mixout(weights, start, p))
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(rows), values).backward()
        optimizer.step()
    return float((layer.weight.detach() - start).norm())


def test_weights_stay_nearer_to_their_start_the_larger_p_is():
    assert distance_travelled(0.9) < distance_travelled(0.5) < distance_travelled(None)


@pytest.mark.parametrize("p", [0, 1, -0.5])
def test_p_lies_strictly_between_zero_and_one(p):
    with pytest.raises(ValueError, match="p"):
        Mixout(p=p)

"""Freeze: the bottom stays as it was, the head always learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import ResNetConfig

from hf_smalldata.errors import UserError
from hf_smalldata.techniques.transfer.freeze import Freeze

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def learning(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def under(model, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def test_bottom_blocks_and_embeddings_are_frozen_and_the_rest_learns(text):
    model = Freeze(blocks=1).model(text.network(), text.context())
    assert learning(model) == under(model, "bert.encoder.layer.1.", "bert.pooler.", "classifier.")


def test_all_freezes_everything_but_the_head(text, image):
    model = Freeze().model(text.network(), text.context())
    assert learning(model) == under(model, "bert.pooler.", "classifier.")
    model = Freeze().model(image.network(), image.context())
    assert learning(model) == under(model, "classifier.")


def test_frozen_weights_stay_and_the_others_move_in_a_step(text):
    model = Freeze(blocks=1).model(text.network(), text.context()).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**text.batch()).logits[:, 0].sum().backward()
    optimiser.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= learning(model)
    assert {"bert.encoder.layer.1.output.dense.weight", "classifier.weight"} <= moved


def test_dropout_below_the_cut_is_off_in_training_and_on_above(text):
    model = Freeze(blocks=1).model(text.network(), text.context()).train()
    on = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.training}
    every = {name for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert on == {name for name in every if not name.startswith(("bert.embeddings", "bert.encoder.layer.0."))}
    assert model.training


def test_blocks_below_the_cut_give_the_same_output_in_training(text):
    model = Freeze(blocks=1).model(text.network(), text.context()).train()
    seen = []
    model.bert.encoder.layer[0].register_forward_hook(lambda _module, _args, output: seen.append(output))
    first, second = (model(**text.batch()).logits for _ in range(2))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(first, second)  # dropout above is live


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_b0"])  # the second has norms above its blocks
def test_a_frozen_convolutional_body_keeps_all_batch_norm_statistics(name, timm, image):
    model = Freeze().model(timm(name), image.context()).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(**image.batch())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_statistics_above_the_cut_move_and_those_below_do_not(classifier, image):
    model = Freeze(blocks=2).model(classifier(ResNetConfig(**RESNET)), image.context()).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers() if "running_mean" in name}
    model(**image.batch())
    moved = {name for name, buffer in model.named_buffers() if name in before and not torch.equal(buffer, before[name])}
    assert moved == {name for name in before if name.startswith(("resnet.encoder.stages.2", "resnet.encoder.stages.3"))}


def test_more_blocks_than_there_are_is_refused(text):
    with pytest.raises(UserError) as caught:
        Freeze(blocks=9).model(text.network(), text.context())
    assert str(caught.value) == "expected 1 to 2 bottom blocks, got 9: BertForSequenceClassification has 2"


def test_a_head_alone_takes_larger_steps():
    assert Freeze().default_learning_rate() == 1e-2
    assert Freeze(blocks=1).default_learning_rate() is None

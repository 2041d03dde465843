"""Gradual unfreezing: what is held does not move by a bit, and everything is let go in its turn."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, TrainerCallback

from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.techniques.transfer.gradual_unfreezing import GradualUnfreezing, held

RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
PARTS = ("bert.embeddings", "bert.encoder.layer.0.", "bert.encoder.layer.1.", "classifier")


class Moved(TrainerCallback):
    """After each step, which of the parts is not what it was at first."""

    def __init__(self, model, parts) -> None:
        self.model, self.parts, self.found = model, parts, []
        self.first = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def on_step_end(self, args, state, control, **kwargs) -> None:
        now = self.model.state_dict()
        changed = {name for name, tensor in now.items() if not torch.equal(tensor, self.first[name])}
        self.found.append([part for part in self.parts if any(name.startswith(part) for name in changed)])


def moved(trainer, kit, network, technique, parts, **settings) -> list[list[str]]:
    watch = Moved(network, parts)
    made = trainer(kit, network, [technique], **settings)
    made.add_callback(watch)
    made.train()
    return watch.found


@pytest.mark.parametrize(("stages", "still"), [(0, 3), (0.99, 3), (1, 2), (2.5, 1), (3, 0), (9, 0)])
def test_one_more_level_learns_with_each_stage(stages, still):
    assert held(stages, 3) == still


def test_blocks_stay_bit_for_bit_until_their_turn_from_the_top_down_with_weight_decay_too(text, trainer):
    found = moved(trainer, text, text.network(), GradualUnfreezing(epochs=1), PARTS, num_train_epochs=4,
                  weight_decay=0.5, lr_scheduler_type="constant", warmup_steps=0)  # fmt: skip
    assert found == [list(PARTS[3 - epoch :]) for epoch in range(4) for _ in range(3)]


def test_by_default_all_blocks_are_let_go_in_the_first_half(text, trainer):
    found = moved(trainer, text, text.network(), GradualUnfreezing(), PARTS, num_train_epochs=4,
                  lr_scheduler_type="constant", warmup_steps=0)  # fmt: skip
    assert [len(parts) for parts in found] == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]


def test_statistics_of_held_norms_stay_too_and_move_later(image, classifier, trainer):
    parts = ("resnet.embedder", "resnet.encoder.stages.0", "resnet.encoder.stages.1", "classifier")
    network = classifier(RESNET)
    found = moved(trainer, image, network, GradualUnfreezing(epochs=1), parts, num_train_epochs=4)
    assert [len(each) for each in found[1::3]] == [1, 2, 3, 4]
    assert not any("train" in vars(module) for module in network.modules())


def test_norms_that_another_technique_holds_stay_held(image, classifier, trainer):
    network = Freeze(blocks=1).model(classifier(RESNET), image.context())
    trainer(image, network, [GradualUnfreezing()], num_train_epochs=2).train()
    norms = [module for module in network.resnet.encoder.stages[0].modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all("train" in vars(norm) for norm in norms)


def test_gradients_are_asked_of_held_blocks_as_other_processes_wait_for_them(text, trainer):
    network = text.network()
    trainer(text, network, [GradualUnfreezing(epochs=9)]).train()
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_blocks_that_never_learnt_are_told(text, trainer, caplog):
    with caplog.at_level(logging.WARNING):
        trainer(text, text.network(), [GradualUnfreezing(epochs=1)]).train()
    assert "the bottom 2 of 4 levels never learnt" in caplog.text


def test_it_says_that_it_had_no_effect_where_only_a_head_learns(image, trainer, caplog):
    network = Freeze().model(image.network(), image.context())
    with caplog.at_level(logging.WARNING):
        trainer(image, network, [GradualUnfreezing()]).train()
    assert "had no effect, nothing but the head of ViTForImageClassification learns" in caplog.text


def test_a_fraction_of_0_is_refused():
    with pytest.raises(ValueError, match="greater than 0"):
        GradualUnfreezing(fraction=0)

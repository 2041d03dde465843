"""The best weights come back, and patience ends a training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import TrainerControl

from hf_smalldata.training.best import KeepBest, learnt


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[2].requires_grad_(False)
    return model


def play(keep: KeepBest, model: nn.Module, values: list[float]) -> tuple[int, TrainerControl]:
    """Evaluations whose weights carry their number; stops when asked to. How many there were."""
    control = TrainerControl()
    for number, value in enumerate(values):
        with torch.no_grad():
            model[0].weight.fill_(number)
            model[1].running_mean.fill_(number)
        keep.on_evaluate(None, None, control, model=model, metrics={"eval_accuracy": value})
        if control.should_training_stop:
            break
    keep.on_train_end(None, None, control, model=model)
    return number + 1, control


@pytest.mark.parametrize(("greater", "best"), [(True, 2), (False, 1)])
def test_weights_and_statistics_of_the_best_evaluation_are_restored(greater, best):
    model = network()
    play(KeepBest("accuracy", greater), model, [0.5, 0.3, 0.8, 0.6])
    assert torch.equal(model[0].weight, torch.full((2, 2), float(best)))
    assert torch.equal(model[1].running_mean, torch.full((2,), float(best)))


def test_of_equal_evaluations_the_first_is_kept():
    model = network()
    play(KeepBest("accuracy", True), model, [0.5, 0.8, 0.8])
    assert model[0].weight[0, 0] == 1


def test_patience_counts_evaluations_since_the_best():
    count, control = play(KeepBest("accuracy", True, patience=2), network(), [0.5, 0.4, 0.6, 0.6, 0.5, 0.9])
    assert count == 5
    assert control.should_training_stop


def test_without_patience_training_never_stops():
    count, control = play(KeepBest("accuracy", True), network(), [0.5] + [0.1] * 50)
    assert count == 51
    assert not control.should_training_stop


def test_an_improvement_below_the_threshold_is_none():
    keep = KeepBest("accuracy", True, patience=2, threshold=0.1)
    count, _ = play(keep, network(), [0.5, 0.55, 0.59, 0.9])
    assert count == 3
    assert keep.best == 0.5


def test_a_stop_asked_for_by_others_is_not_taken_back():
    control = TrainerControl(should_training_stop=True)
    keep = KeepBest("accuracy", True, patience=2)
    keep.on_evaluate(None, SimpleNamespace(), control, model=network(), metrics={"eval_accuracy": 1.0})
    assert control.should_training_stop


def test_frozen_weights_are_not_copied():
    assert set(learnt(network())) == {
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"
    }  # fmt: skip


def test_an_evaluation_that_is_not_a_number_is_never_the_best():
    model = network()
    play(KeepBest("accuracy", True), model, [0.2, float("nan")])
    assert model[0].weight[0, 0] == 0


def test_a_resumed_training_knows_the_best_of_its_first_part(tmp_path):
    args, control = SimpleNamespace(output_dir=str(tmp_path)), TrainerControl()
    first, model = KeepBest("accuracy", True, patience=2), network()
    for number, value in enumerate([0.9, 0.5]):
        with torch.no_grad():
            model[0].weight.fill_(number)
        first.on_evaluate(args, None, control, model=model, metrics={"eval_accuracy": value})
    first.on_save(args, SimpleNamespace(is_world_process_zero=True), control)
    second = KeepBest("accuracy", True, patience=2)
    second.on_train_begin(args, SimpleNamespace(global_step=4), control, model=model)
    second.on_evaluate(args, None, control, model=model, metrics={"eval_accuracy": 0.6})
    assert control.should_training_stop
    second.on_train_end(args, None, control, model=model)
    assert model[0].weight[0, 0] == 0

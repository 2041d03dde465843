"""Averaged weights: evaluated, kept by the best epoch, saved with checkpoints, with statistics of their own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetForImageClassification, TrainerControl, TrainerState, ViTImageProcessor

from hf_smalldata.data.load import Splits
from hf_smalldata.errors import UserError
from hf_smalldata.fitting import Fitting
from hf_smalldata.nn.norms import renew_statistics
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.regularise.ema import Ema
from hf_smalldata.techniques.regularise.swa import Swa
from hf_smalldata.techniques.transfer.freeze import Freeze
from hf_smalldata.training.average import Averaged, take_in
from hf_smalldata.training.best import KeepBest


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def half() -> Averaged:
    return Averaged("half", lambda count, progress: 0.5)


def play(model: nn.Module, callbacks: list, values: list[float], accuracies: list[float] | None = None) -> list[float]:
    """Steps after which all weights have a value, each evaluated where there are accuracies; what was evaluated."""
    state, evaluated = TrainerState(max_steps=len(values)), []

    def tell(event: str, **more) -> None:
        for callback in callbacks:
            getattr(callback, event)(None, state, control, model=model, **more)

    control = TrainerControl(should_evaluate=accuracies is not None)
    tell("on_train_begin")
    for step, value in enumerate(values):
        state.global_step = step + 1
        with torch.no_grad():
            model[0].weight.fill_(value)
        tell("on_step_end")
        if accuracies is not None:
            evaluated.append(model[0].weight[0, 0].item())
            tell("on_evaluate", metrics={"eval_accuracy": accuracies[step]})
            assert model[0].weight[0, 0] == value
    tell("on_train_end")
    return evaluated


def test_whole_numbers_are_not_averaged():
    averages = {"w": torch.tensor([1.0]), "batches": torch.tensor(3)}
    take_in(averages, {"w": torch.tensor([2.0]), "batches": torch.tensor(7)}, 0.25)
    assert averages == {"w": torch.tensor([1.25]), "batches": torch.tensor(7)}


def test_without_evaluations_the_average_is_the_result():
    model = network()
    play(model, [half()], [0.0, 4.0, 8.0])
    assert model[0].weight[0, 0] == 5


def test_evaluations_see_the_average_and_training_goes_on_with_its_own_weights():
    assert play(network(), [half()], [0.0, 4.0, 8.0], [0.1, 0.2, 0.3]) == [0, 2, 5]


def test_the_average_of_the_best_evaluation_is_kept():
    model = network()
    play(model, [KeepBest("accuracy", True), half()], [0.0, 4.0, 8.0], [0.1, 0.9, 0.3])
    assert model[0].weight[0, 0] == 2


def test_it_says_where_training_ended_too_early_for_it(caplog):
    play(network(), [Averaged("late", lambda *_: None)], [1.0])
    assert "late: had no effect" in caplog.text


def test_a_second_average_is_refused_and_a_second_training_is_not():
    model, state = network(), TrainerState()
    first, second = half(), half()
    first.on_train_begin(None, state, None, model=model)
    with pytest.raises(UserError, match="half: half averages the weights already"):
        second.on_train_begin(None, state, None, model=model)
    first.on_train_end(None, state, None, model=model)
    second.on_train_begin(None, state, None, model=model)


def test_a_resumed_training_goes_on_with_the_average(tmp_path):
    args, model = SimpleNamespace(output_dir=str(tmp_path)), network()
    state = TrainerState(max_steps=4, global_step=2, is_world_process_zero=True)
    (tmp_path / "checkpoint-2").mkdir()
    first, second = half(), half()
    first.on_step_end(args, state, TrainerControl(), model=model)
    first.on_evaluate(args, state, TrainerControl(), model=model)
    first.on_save(args, state, TrainerControl(), model=model)
    second.on_train_begin(args, state, TrainerControl(), model=model)
    assert (second.count, second.evaluated) == (1, True)
    assert all(torch.equal(second.average[name], tensor) for name, tensor in first.average.items())


def test_a_checkpoint_without_an_average_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"checkpoint-3 has no average of half.*without --resume"):
        half().on_train_begin(
            SimpleNamespace(output_dir=str(tmp_path)), TrainerState(global_step=3), None, model=network()
        )


def fitted(kit, folder, techniques, model=None, validation=False, **train):
    recipe = Recipe.parse({
        "task": kit.task.name, "data": {"name": "rows"}, "model": {"name": model or str(kit.folder)},
        "techniques": techniques,
        "train": {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "disable_tqdm": True,
                  **train},
    })  # fmt: skip
    data = Splits(kit.rows, kit.rows if validation else None, kit.rows, kit.labels, kit.problem_type)
    return Fitting(recipe, kit.task, kit.processor, data, folder, resume="max_steps" in train)


@pytest.mark.parametrize("validation", [False, True])
def test_what_is_left_is_the_last_average_or_that_of_the_best_epoch(text, tmp_path, monkeypatch, validation):
    seen: list[dict[str, torch.Tensor]] = []

    class Noted(Averaged):
        def on_step_end(self, *args, **kwargs):
            super().on_step_end(*args, **kwargs)
            seen.append({name: tensor.clone() for name, tensor in self.average.items()})

    monkeypatch.setattr("hf_smalldata.techniques.regularise.ema.Averaged", Noted)
    averaged = fitted(text, tmp_path, [Ema()], validation=validation).attempt(text.rows, 0, 0).model
    assert len(seen) == 9
    found = dict(averaged.named_parameters())
    names = [name for name in found if "word" not in name]  # the table of tokens was cut while training lasted
    near = [all(torch.equal(found[name], each[name]) for name in names) for each in seen]
    assert any(near[2::3]) if validation else near[-1]


def test_an_interrupted_training_ends_in_the_average_of_one_that_was_not(text, tmp_path, monkeypatch):
    settings = {"save_strategy": "epoch", "lr_scheduler_type": "constant", "warmup_steps": 0}
    whole = fitted(text, tmp_path / "whole", [Swa(fraction=1)], **settings)
    expected = whole.predict(whole.attempt(text.rows, 0, 0).model, text.rows)
    fit = fitted(text, tmp_path / "cut", [Swa(fraction=1)], **settings)
    calls = []

    def stop(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Averaged, "on_step_begin", stop)
        with pytest.raises(KeyboardInterrupt):
            fit.attempt(text.rows, 0, 0)
    again = Fitting(fit.recipe, fit.task, fit.processor, fit.data, fit.work, resume=True)
    found = again.predict(again.attempt(text.rows, 0, 0).model, text.rows)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_statistics_are_means_over_batches():
    norm, batches = nn.BatchNorm1d(2), [{"input": torch.randn(16, 2) + 3} for _ in range(4)]
    renew_statistics(norm, batches)
    torch.testing.assert_close(norm.running_mean, torch.cat([batch["input"] for batch in batches]).mean(0))
    assert not norm.training
    assert norm.momentum == 0.1


def test_statistics_fit_the_averaged_weights_above_frozen_blocks_too(image, tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    torch.manual_seed(0)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "resnet")
    kit = replace(image, folder=tmp_path / "resnet")
    learnt = fitted(kit, tmp_path, [Freeze(blocks=1), Swa()]).attempt(kit.rows, 0, 0)
    assert learnt.facts["prefix_cache"] == "on: cut above 1 block"
    before = {name: buffer.clone() for name, buffer in learnt.model.named_buffers()}
    batches = [kit.task.collate(kit.task.encode(kit.rows.select(range(at, at + 4)), kit.processor), kit.processor)
               for at in (0, 4, 8)]  # fmt: skip
    renew_statistics(learnt.model, batches)
    for name, buffer in learnt.model.named_buffers():
        torch.testing.assert_close(buffer, before[name], rtol=1e-3, atol=1e-4)

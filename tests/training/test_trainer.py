"""The Trainer with hooks: each runs where it belongs, and what it adds to transformers is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from datasets import Dataset
from torch import nn
from torch.nn import functional
from transformers import ResNetConfig, TrainerCallback

from hf_smalldata.technique import HOOKS, Technique, using
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, LikeLengths, collator
from hf_smalldata.training.trainer import SmallDataTrainer, decay_groups

PROBLEM = "single_label_classification"
CALLS: list[str] = []


class Noted(Technique):
    """Notes each call of its hooks."""

    name = "noted"
    tasks = frozenset({"text-classification"})
    mark: str = ""

    def note(self, hook: str) -> None:
        CALLS.append(f"{self.mark}{hook}")

    def param_groups(self, groups, model):
        self.note("param_groups")
        return groups

    def example(self, example):
        self.note("example")
        return example

    def batch(self, batch, model):
        self.note("batch")
        return batch

    def penalty(self, model, batch, outputs):
        self.note("penalty")
        return outputs.logits.sum() * 0

    def loss_terms(self, terms):
        self.note("loss_terms")
        return terms

    def step(self, backward, model):
        self.note("step")
        return backward()

    def callbacks(self):
        self.note("callbacks")
        return []


class Idle(Technique):
    """Overrides no hook; to call one is an error."""

    name = "idle"
    tasks = frozenset({"text-classification"})


class Targets(Technique):
    """Turns every target into a given distribution."""

    name = "targets"
    tasks = frozenset({"text-classification"})
    values: tuple[float, ...] = (0.5, 0.3, 0.2)

    def batch(self, batch, model):
        return {**batch, "labels": torch.tensor(self.values).expand(len(batch["labels"]), -1)}


@pytest.fixture(autouse=True)
def _no_calls():
    CALLS.clear()


@pytest.fixture
def trainer_of(text, tmp_path):
    """Techniques and settings -> a trainer of the tiny text model on the kit's 12 rows."""

    def build(
        techniques: Sequence[Technique] = (),
        network: nn.Module | None = None,
        evaluates: bool = False,
        class_weights: torch.Tensor | None = None,
        rows: Dataset | None = None,
        **train: Any,
    ) -> SmallDataTrainer:
        train = {"num_train_epochs": 1, "per_device_train_batch_size": 4, "disable_tqdm": True, **train}
        if evaluates:
            train["eval_strategy"] = "epoch"
        augment = using(techniques, "example")
        return SmallDataTrainer(
            model=text.network() if network is None else network,
            args=training_arguments(train, tmp_path, 0),
            techniques=techniques,
            problem_type=PROBLEM,
            class_weights=class_weights,
            data_collator=collator(text.task, text.processor, 3, PROBLEM),
            train_dataset=EncodedRows(text.rows if rows is None else rows, text.task, text.processor, augment),
            eval_dataset=EncodedRows(text.rows, text.task, text.processor) if evaluates else None,
        )

    return build


@pytest.fixture
def still(text):
    """The tiny text model without dropout."""
    network = text.network()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def test_overridden_hooks_run_in_the_recipes_order_for_every_batch(trainer_of):
    trainer_of([Noted(mark="a."), Noted(mark="b.")]).train()
    of_batches = [call for call in CALLS if not call.endswith(("example", "param_groups", "callbacks"))]
    once_a_batch = ["b.step", "a.step", "a.batch", "b.batch", "a.loss_terms", "b.loss_terms", "a.penalty", "b.penalty"]
    assert of_batches == once_a_batch * 3
    once = [call for call in CALLS if call.endswith(("param_groups", "callbacks"))]
    assert once == ["a.callbacks", "b.callbacks", "a.param_groups", "b.param_groups"]
    assert [call for call in CALLS if call.endswith("example")] == ["a.example", "b.example"] * 12


def test_hooks_that_are_not_overridden_are_never_called(trainer_of, monkeypatch):
    assert Idle().hooks() == ()

    def refuse(self, *args, **kwargs):
        raise AssertionError("a hook that nobody overrides was called")

    idle, noted = Idle(), Targets()
    for hook in set(HOOKS):
        monkeypatch.setattr(Technique, hook, refuse)
    assert idle.hooks() == ()
    trainer_of([idle, noted], evaluates=True).train()


def test_batch_and_penalty_hooks_do_not_touch_evaluation(trainer_of, still, text):
    trainer = trainer_of([Noted(), Targets(), Noted()], network=still, evaluates=True)
    found = trainer.evaluate()["eval_loss"]
    assert CALLS == ["callbacks", "callbacks"]
    logits = still(**text.batch(12)).logits
    expected = functional.cross_entropy(logits, torch.tensor(text.rows["label"][:]))
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_soft_targets_of_a_batch_hook_reach_the_loss(trainer_of, still, text):
    trainer = trainer_of([Targets()], network=still)
    batch = {**text.batch(4), "labels": functional.one_hot(torch.zeros(4, dtype=torch.long), 3).float()}
    still.train()
    expected = functional.cross_entropy(still(**text.batch(4)).logits, torch.tensor([[0.5, 0.3, 0.2]] * 4))
    torch.testing.assert_close(trainer.compute_loss(still, batch), expected)


def test_penalties_are_added_to_the_training_loss(trainer_of, still, text):
    class Three(Technique):
        name = "three"
        tasks = frozenset({"text-classification"})

        def penalty(self, model, batch, outputs):
            return torch.tensor(3.0)

    batch = {**text.batch(4), "labels": functional.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()}
    still.train()
    plain = trainer_of([], network=still).compute_loss(still, batch)
    torch.testing.assert_close(trainer_of([Three(), Three()], network=still).compute_loss(still, batch), plain + 6)


def test_changed_terms_reach_the_loss_with_class_weights_and_none_are_changed_in_evaluation(trainer_of, still, text):
    class Squared(Technique):
        name = "squared"
        tasks = frozenset({"text-classification"})

        def loss_terms(self, terms):
            return terms._replace(cost=terms.cost.square())

    weights, labels = torch.tensor([1.0, 4.0, 0.5]), torch.tensor([0, 1, 2, 1])
    batch = {**text.batch(4), "labels": functional.one_hot(labels, 3).float()}
    trainer = trainer_of([Squared()], network=still, class_weights=weights)
    each = functional.cross_entropy(still(**text.batch(4)).logits, labels, reduction="none")
    for mode, cost in ((True, each**2), (False, each)):
        expected = (weights[labels] * cost).sum() / weights[labels].sum()
        torch.testing.assert_close(trainer.compute_loss(still.train(mode), batch), expected)


def test_a_step_that_goes_back_twice_adds_the_gradients_up(trainer_of, still):
    class Twice(Technique):
        name = "twice"
        tasks = frozenset({"text-classification"})

        def step(self, backward, model):
            backward()
            return backward()

    norms = []
    for techniques in ([], [Twice()]):
        trainer = trainer_of(techniques, network=still)
        trainer.create_optimizer()
        still.zero_grad()
        (batch, *_) = trainer.get_train_dataloader()
        trainer.current_gradient_accumulation_steps = 1
        trainer.training_step(still, batch)
        norms.append(float(still.classifier.weight.grad.norm()))
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5)


def test_callbacks_of_techniques_hear_the_clock(trainer_of):
    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            CALLS.append(f"step {state.global_step}")

    class Clocked(Technique):
        name = "clocked"
        tasks = frozenset({"text-classification"})

        def callbacks(self):
            return [Clock()]

    trainer_of([Clocked()]).train()
    assert CALLS == ["step 1", "step 2", "step 3"]


def test_groups_of_a_technique_reach_the_optimiser(trainer_of):
    class Slow(Technique):
        name = "slow"
        tasks = frozenset({"text-classification"})

        def param_groups(self, groups, model):
            return [{**group, "lr": 1e-9} for group in groups]

    trainer = trainer_of([Slow()], learning_rate=1e-2)
    assert [group["lr"] for group in trainer.create_optimizer().param_groups] == [1e-9, 1e-9]


def test_class_weights_equal_torchs(trainer_of, still, text):
    weights = torch.tensor([1.0, 4.0, 0.5])
    labels = torch.tensor([0, 1, 2, 1])
    batch = {**text.batch(4), "labels": functional.one_hot(labels, 3).float()}
    expected = functional.cross_entropy(still(**text.batch(4)).logits, labels, weight=weights)
    trainer = trainer_of([], network=still, class_weights=weights)
    torch.testing.assert_close(trainer.compute_loss(still, batch), expected)


def test_decay_skips_biases_and_norms_and_takes_all_else(text, classifier):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    for network in (text.network(), classifier(config)):
        decayed, plain = decay_groups(network, 0.3)
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
        kinds = (nn.LayerNorm, nn.BatchNorm2d)
        norms = {id(p) for module in network.modules() if isinstance(module, kinds) for p in module.parameters()}
        biases = {id(p) for name, p in network.named_parameters() if name.endswith("bias")}
        assert norms
        assert set(map(id, plain["params"])) == norms | biases
        assert set(map(id, decayed["params"])) == {id(p) for p in network.parameters()} - norms - biases


def test_frozen_parameters_are_in_no_group(text):
    network = text.network()
    network.bert.requires_grad_(False)
    groups = decay_groups(network, 0.3)
    assert [len(group["params"]) for group in groups] == [1, 1]


def test_accumulated_gradients_equal_those_of_the_large_batch(trainer_of, text):
    weights = []
    for size, steps in ((12, 1), (4, 3)):
        network = text.network()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "learning_rate": 0.1,
                    "optim": "sgd", "max_grad_norm": 0, "warmup_steps": 0, "num_train_epochs": 2}  # fmt: skip
        trainer = trainer_of([], network=network, **settings)
        trainer.train()
        assert trainer.state.global_step == 2
        weights.append(torch.cat([parameter.detach().ravel() for parameter in network.parameters()]))
    start = torch.cat([parameter.detach().ravel() for parameter in text.network().parameters()])
    assert (weights[0] - start).abs().max() > 1e-3
    torch.testing.assert_close(weights[0], weights[1], atol=1e-5, rtol=1e-4)


class Drawn(Technique):
    """Notes the first draw of each row in each epoch."""

    name = "drawn"
    tasks = frozenset({"text-classification"})
    seen: ClassVar[dict[tuple[str, int], float]] = {}

    def example(self, example):
        draw = example["rng"].random()
        times = sum(row == example["id"] for row, _ in self.seen)
        self.seen[example["id"], times] = draw
        return example


def draws_of_training(trainer_of, **given) -> dict[tuple[str, int], float]:
    Drawn.seen.clear()
    trainer_of([Drawn()], num_train_epochs=2, **given).train()
    return dict(Drawn.seen)


def test_example_draws_depend_on_row_and_epoch_and_not_on_order_or_batches(trainer_of, text):
    first = draws_of_training(trainer_of)
    assert len(first) == len(set(first.values())) == 24
    turned = text.rows.select(range(11, -1, -1))
    assert draws_of_training(trainer_of, rows=turned, per_device_train_batch_size=3) == first
    few = draws_of_training(trainer_of, rows=text.rows.select([2, 5]))
    assert few == {key: first[key] for key in few}


def test_example_draws_follow_the_seed(text):
    def draw(seed: int) -> float:
        Drawn.seen.clear()
        EncodedRows(text.rows, text.task, text.processor, [Drawn()], seed)[0]
        return next(iter(Drawn.seen.values()))

    assert draw(0) == draw(0) != draw(1)


def test_training_draws_another_order_each_epoch(trainer_of, monkeypatch):
    seen: list[list[int]] = []
    made = LikeLengths.__iter__

    def noted(self):
        seen.append(list(made(self)))
        return iter(seen[-1])

    monkeypatch.setattr(LikeLengths, "__iter__", noted)
    trainer_of([], num_train_epochs=3).train()
    assert len(seen) == 3
    assert seen[0] != seen[1] != seen[2]

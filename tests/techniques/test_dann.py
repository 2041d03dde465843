"""DANN: reversed gradients, the ramp, an adversary that comes and goes, and turned moons."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_smalldata.nn.reverse import reverse
from hf_smalldata.pipeline import train
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.domain.adversary import Adversary, Duel, adversary_of, domain_loss, ramp
from hf_smalldata.techniques.domain.dann import Dann
from hf_smalldata.training.best import learnt


def test_what_lies_below_gets_minus_lambda_times_the_gradient_and_what_lies_above_the_gradient():
    torch.manual_seed(0)
    x, adversary = torch.randn(6, 4, requires_grad=True), Adversary(4, 8)
    adversary.progress = 0.3
    adversary(x).sum().backward()
    above, below = adversary.layers[0].weight.grad.clone(), x.grad.clone()
    x.grad = None
    adversary.zero_grad()
    adversary.layers(x).sum().backward()
    torch.testing.assert_close(below, -ramp(0.3) * x.grad)
    torch.testing.assert_close(above, adversary.layers[0].weight.grad)


def test_reversal_hands_values_on():
    x = torch.randn(3, requires_grad=True)
    y = reverse(x, 2.0)
    y.sum().backward()
    assert torch.equal(x, y)
    assert x.grad.tolist() == [-2.0] * 3


def test_the_ramp_is_the_papers():
    assert [ramp(0), ramp(1)] == pytest.approx([0, 2 / (1 + math.exp(-10)) - 1])
    assert ramp(0.1) == pytest.approx(2 / (1 + math.exp(-1)) - 1)


def test_both_domains_weigh_alike_however_many_rows_they_have():
    one, two = torch.tensor([0.5]), torch.tensor([-1.0, 2.0, 0.0])
    expected = (functional.softplus(-one).mean() + functional.softplus(two).mean()) / 2
    torch.testing.assert_close(domain_loss(one, two), expected)


def test_the_adversary_learns_at_its_own_rate_is_not_kept_and_goes(text):
    network, arguments = text.network(), SimpleNamespace(num_train_epochs=1, max_steps=-1)
    duel = Duel(8)
    duel.on_init_end(arguments, None, None, model=network)
    own = list(adversary_of(network).parameters())
    assert not any(name.startswith("training_only") for name in learnt(network))
    groups = [{"params": list(network.parameters()), "lr": 1e-5, "weight_decay": 0.1}]
    body, theirs = Dann(learning_rate=0.5).param_groups(groups, network)
    assert body["lr"] == 1e-5
    assert not {id(p) for p in own} & {id(p) for p in body["params"]}
    assert {id(p) for p in own} == {id(p) for p in theirs["params"]}
    assert (theirs["lr"], theirs["weight_decay"]) == (0.5, 0.1)
    duel.on_step_begin(None, SimpleNamespace(global_step=3, max_steps=12), None, model=network)
    assert adversary_of(network).progress == 0.25
    duel.on_train_end(None, None, None, model=network)
    assert not hasattr(network, "training_only")


def test_without_a_step_there_is_no_adversary():
    network = nn.Linear(2, 2)
    Duel(8).on_init_end(SimpleNamespace(num_train_epochs=0, max_steps=-1), None, None, model=network)
    assert not hasattr(network, "training_only")


def test_a_run_keeps_no_adversary_and_tells_how_many_unlabelled_rows_there_were(text, sources, tmp_path, no_page):
    data = sources["text-classification"]
    run = train(Recipe.parse({
        "task": "text-classification", "model": text.spec.model_dump(),
        "data": {**data, "unlabelled": data["train"], "validation_fraction": 0.25},
        "techniques": ["dann", "ema", "llrd"],
        "train": {"num_train_epochs": 2, "per_device_train_batch_size": 4, "disable_tqdm": True},
    }), tmp_path / "run")  # fmt: skip
    assert run.metrics["rows"]["unlabelled"] == 9  # less the validation rows
    assert run.metrics["runs"][0]["prefix_cache"] != "on"
    assert "3 of 12 unlabelled rows are validation rows and are left out" in run.metrics["notes"]
    assert set(run.rows["digest"]) == {"validation", "test", "unlabelled"}


@pytest.mark.parametrize(("seeds", "least"), [(1, 1), pytest.param(20, 16, marks=pytest.mark.slow)])  # as with CDAN
def test_turned_moons_are_told_apart_better_with_most_seeds(turned_moons, seeds, least):
    assert turned_moons(Dann(hidden=32, learning_rate=1e-2), seeds) >= least

"""L2-SP: the formula, a start that training remembers, and weights that stay near it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_smalldata.data.load import Splits
from hf_smalldata.fitting import Fitting
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.regularise.l2_sp import L2Sp, squared_distance
from hf_smalldata.techniques.transfer.freeze import Freeze


def started(model: nn.Module) -> None:
    (callback,) = L2Sp().callbacks()
    callback.on_init_end(None, None, None, model=model)


def test_the_distance_is_the_sum_of_squared_differences():
    pairs = [(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])), (torch.tensor([[3.0]]), None)]
    assert squared_distance(pairs).item() == 1 + 4 + 9
    assert squared_distance([]).item() == 0


def test_the_penalty_is_of_the_body_from_its_start_and_of_the_head_from_zero(text):
    network = text.network()
    started(network)
    body = network.bert.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        body += 0.1
    head = [*network.classifier.parameters(), *network.bert.pooler.parameters()]
    expected = 0.5 / 2 * 0.01 * body.numel() + 0.2 / 2 * sum(p.square().sum() for p in head)
    torch.testing.assert_close(L2Sp(alpha=0.5, beta=0.2).penalty(network, {}, None), expected)


def test_weight_decay_is_off():
    groups = [{"params": [], "weight_decay": 0.1, "lr": 1.0}]
    assert L2Sp().param_groups(groups, nn.Identity()) == [{"params": [], "weight_decay": 0.0, "lr": 1.0}]


def test_it_reads_no_inputs_so_that_cached_states_can_be_kept():
    assert L2Sp.keeps_inputs


def test_it_says_where_alpha_has_no_effect(text, caplog):
    started(Freeze().model(text.network(), text.context()))
    assert "l2_sp: alpha had no effect" in caplog.text


def moved(text, folder, techniques) -> float:
    """How far the body went in a training whose table of tokens is cut to those in use."""
    recipe = Recipe.parse({
        "task": text.task.name, "data": {"name": "rows"}, "model": {"name": str(text.folder)},
        "techniques": techniques, "train": {"num_train_epochs": 5, "learning_rate": 5e-3, "disable_tqdm": True},
    })  # fmt: skip
    data = Splits(text.rows, None, None, text.labels, text.problem_type)
    learnt = Fitting(recipe, text.task, text.processor, data, folder).attempt(text.rows, 0, 0)
    before = dict(text.network().bert.named_parameters())
    pairs = [(p, before[name]) for name, p in learnt.model.bert.named_parameters() if "pooler" not in name]
    return squared_distance(pairs).item()


def test_the_body_stays_nearer_to_its_pretrained_weights(text, tmp_path):
    without, little, much = (
        moved(text, tmp_path, techniques) for techniques in ([], [L2Sp(alpha=0.1)], [L2Sp(alpha=10)])
    )
    assert much < 0.5 * little < 0.5 * without


@pytest.mark.parametrize("field", ["alpha", "beta"])
def test_strengths_are_not_negative(field):
    with pytest.raises(ValueError, match=field):
        L2Sp(**{field: -0.1})

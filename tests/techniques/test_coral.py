"""CORAL: the papers' distance, and a network that learns to spread two domains alike."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.techniques.domain.coral import Coral, covariance_gap
from hf_smalldata.techniques.domain.pooled import SEEN, last_layer


def test_the_gap_is_the_squared_distance_of_covariances_over_four_squared_widths():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(20, 3)), rng.normal(size=(30, 3)) * [1, 2, 3]
    expected = np.square(np.cov(source.T) - np.cov(target.T)).sum() / (4 * 9)
    assert covariance_gap(torch.tensor(source), torch.tensor(target)).item() == pytest.approx(expected)


def test_it_is_zero_for_domains_that_differ_in_their_mean_alone():
    x = torch.randn(10, 4)
    assert covariance_gap(x, x + 5).item() == pytest.approx(0, abs=1e-6)


def misled(seed: int, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two classes, told by the first coordinate; the second tells them too, unless its spread hides it."""
    torch.manual_seed(seed)
    labels = torch.arange(100) % 2
    sides = 2.0 * labels - 1
    return torch.stack([sides + 0.5 * torch.randn(100), sides + spread * torch.randn(100)], dim=1), labels


def test_what_is_spread_otherwise_in_the_new_domain_is_no_longer_relied_on(adapted):
    gains = []
    for seed in range(3):
        domains = misled(seed, 0.3), misled(seed + 100, 5.0)
        gains.append(adapted([Coral(weight=1000.0)], seed, *domains) - adapted([], seed, *domains))
    assert min(gains) > 0.05


def test_the_penalty_is_the_gap_of_what_the_last_layer_reads(text):
    network, batch = text.network().eval(), text.batch(8)
    (callback,) = Coral().callbacks()
    callback.on_init_end(None, None, None, model=network)
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 4), slice(4, 8))]
    outputs = network(**halves[0])
    seen = SEEN[network]
    found = Coral(weight=3.0).penalty(network, {**halves[0], "unlabelled": halves[1]}, outputs)
    assert SEEN[network] is seen  # for the next technique
    torch.testing.assert_close(network.classifier(seen), outputs.logits)
    network(**halves[1])
    torch.testing.assert_close(found, 3 * covariance_gap(seen, SEEN[network]))
    found.backward()
    assert network.bert.embeddings.word_embeddings.weight.grad.abs().sum() > 0
    callback.on_train_end(None, None, None, model=network)
    assert network not in SEEN
    assert not network.classifier._forward_pre_hooks


def test_a_batch_of_one_row_is_passed_over(text):
    network, batch = text.network(), text.batch(1)
    (callback,) = Coral().callbacks()
    callback.on_init_end(None, None, None, model=network)
    outputs = network(**batch)
    assert Coral().penalty(network, {**batch, "unlabelled": text.batch(4)}, outputs).item() == 0


def test_every_kind_of_backbone_has_a_last_layer(text, image, audio, sequence):
    for kit in (text, image, audio, sequence):
        assert last_layer(kit.network()).out_features == len(kit.labels)


def test_a_network_without_one_is_refused():
    network = nn.Sequential(nn.Linear(2, 4))
    network.config = SimpleNamespace(num_labels=3)
    with pytest.raises(UserError, match="does not end in a linear layer"):
        last_layer(network)


def test_without_unlabelled_rows_the_recipe_is_refused():
    content = {"task": "text-classification", "data": {"train": "a.csv"}, "model": {"name": "x"}}
    with pytest.raises(Problems, match=r"techniques\.coral: needs unlabelled rows; set data\.unlabelled"):
        Recipe.parse({**content, "techniques": ["coral"]})
    assert Recipe.parse({**content, "data": {"train": "a.csv", "unlabelled": ["b.csv"]}, "techniques": ["coral"]})

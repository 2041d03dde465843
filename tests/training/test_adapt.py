"""Test-time adaptation: statistics move as the formula says, tent makes predictions surer, and a shift is taken out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hf_smalldata.errors import UserError
from hf_smalldata.training.adapt import adapt


class Net(nn.Module):
    """Rows (N, 6) -> two classes, through a norm and dropout."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.below, self.norm = nn.Linear(6, 8), norm
        self.above = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.above(self.norm(self.below(x))))


def rows_of(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> tuple[list[dict[str, Tensor]], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    x = torch.randn(count, 6, generator=generator) + 1.5 * (2 * labels[:, None] - 1) * torch.tensor(
        [1.0, 1, 0, 0, 0, 0]
    )
    return [{"x": scale * row + shift} for row in x], labels


def collate(rows):
    return {"x": torch.stack([row["x"] for row in rows])}


def trained(norm: nn.Module, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    network = Net(norm)
    rows, labels = rows_of(200, seed)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(network(**collate(rows)).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def accuracy(network: Net, rows, labels) -> float:
    with torch.no_grad():
        return float((network(**collate(rows)).logits.argmax(1) == labels).double().mean())


def entropy(network: Net, rows) -> float:
    with torch.no_grad():
        logs = network(**collate(rows)).logits.log_softmax(1)
    return float(-(logs.exp() * logs).sum(1).mean())


def test_statistics_are_weighted_means_of_those_of_the_training_and_of_the_rows():
    network = trained(nn.BatchNorm1d(8))
    rows, _ = rows_of(48, 1, shift=2.0)
    mean, variance = network.norm.running_mean.clone(), network.norm.running_var.clone()
    with torch.no_grad():
        z = network.below(collate(rows)["x"])
    adapt(network, rows, collate, "statistics")
    torch.testing.assert_close(network.norm.running_mean, (16 * mean + 48 * z.mean(0)) / 64)
    torch.testing.assert_close(network.norm.running_var, (16 * variance + 48 * z.var(0)) / 64)
    assert not any(module.training for module in network.modules())
    assert network.norm.momentum == 0.1


@pytest.mark.parametrize("kind", ["statistics", "tent"])
def test_a_shift_of_all_features_is_taken_out(kind):
    gains = []
    for seed in range(10):
        network = trained(nn.BatchNorm1d(8), seed)
        rows, labels = rows_of(400, seed + 100, shift=2.0, scale=0.7)
        before = accuracy(network, rows, labels)
        adapt(network, rows, collate, kind)
        gains.append(accuracy(network, rows, labels) - before)
    assert np.mean(gains) > 0.1
    assert min(gains) > 0


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(8), nn.LayerNorm(8)])
def test_tent_makes_predictions_surer_and_moves_norms_alone(norm):
    network = trained(norm)
    rows, _ = rows_of(400, 1)
    before, unsure = {name: value.clone() for name, value in network.state_dict().items()}, entropy(network, rows)
    adapt(network, rows, collate, "tent")
    assert entropy(network, rows) < unsure
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {"norm.weight", "norm.bias"} <= moved
    assert all(name.startswith("norm.") for name in moved)
    assert all(p.requires_grad for p in network.parameters())


def test_the_same_rows_give_the_same_network():
    rows, _ = rows_of(200, 1, shift=1.0)
    found = []
    for _ in range(2):
        network = trained(nn.BatchNorm1d(8))
        adapt(network, rows, collate, "tent")
        found.append(entropy(network, rows))
    assert found[0] == found[1]


def test_few_rows_and_networks_without_statistics_are_refused():
    network = trained(nn.LayerNorm(8))
    with pytest.raises(UserError, match="expected 16 inputs or more, got 15"):
        adapt(network, rows_of(15, 0)[0], collate, "tent")
    with pytest.raises(UserError, match="Net has no BatchNorm, so it keeps no statistics; choose tent"):
        adapt(network, rows_of(16, 0)[0], collate, "statistics")

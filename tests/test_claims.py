"""What the papers claim of fine-tuning on few rows, over 20 seeds of a tiny network that was pretrained on others."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hf_smalldata.nn.initialise import reinitialise
from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.techniques.regularise.mixout import mix, mixout
from hf_smalldata.techniques.regularise.rdrop import RDrop, symmetric_divergence
from hf_smalldata.techniques.transfer.llrd import decayed

pytestmark = pytest.mark.slow

SEEDS = range(20)
WIDTH, CLASSES, ROWS, STEPS = 32, 3, 12, 60


def rows_of(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of 8 numbers in 6 places of class `place % classes`, and their targets (N, classes)."""
    centres = 2.0 * torch.randn(6, 8, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(count) % 6
    rows = centres[places] + torch.randn(count, 8, generator=generator)
    return rows, functional.one_hot(places % classes, classes).float()


@cache
def pretrained(classes: int = 6) -> nn.Sequential:
    """Four layers that tell the six places apart, or of two classes only the halves: another task, far from ours."""
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(width, WIDTH), nn.ReLU(), nn.Dropout(0.1)) for width in (8, WIDTH, WIDTH, WIDTH)]
    network = nn.Sequential(*layers, nn.Linear(WIDTH, classes))
    rows, targets = rows_of(600, 6, seed=100)
    targets = targets.reshape(600, classes, 6 // classes).sum(2)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        soft_cross_entropy(network(rows), targets).backward()
        optimizer.step()
    return network


@dataclass(frozen=True)
class Setting:
    learning_rate: float
    dropout: float = 0.1
    rows: int = ROWS
    pretrained_on: int = 6


LARGE_STEPS = Setting(3e-2)
MUCH_DROPOUT = Setting(1e-2, 0.3)
FAR_TASK = Setting(1e-3, rows=60, pretrained_on=2)


def fine_tuned(seed: int, technique: str, setting: Setting) -> tuple[float, float, float]:
    """Accuracy and log loss on fresh rows, and how far two draws of dropout differ there."""
    network = copy.deepcopy(pretrained(setting.pretrained_on))
    torch.manual_seed(seed)
    network[4] = nn.Linear(WIDTH, CLASSES)
    for block in network[:4]:
        block[2].p = setting.dropout
    if technique == "reinit":
        drawn = SimpleNamespace(_init_weights=lambda part: part.reset_parameters() if hasattr(part, "weight") else None)
        for block in network[2:4]:
            reinitialise(drawn, block)
    if technique == "mixout":
        for block in network[:4]:
            start = block[0].weight.detach().clone()
            mix(block[0], lambda weights, start=start: mixout(weights, start, 0.7))
    groups = [{"params": list(network.parameters()), "lr": setting.learning_rate}]
    if technique == "llrd":
        groups = decayed(groups, [list(block.parameters()) for block in network], 0.5)
    optimizer = torch.optim.Adam(groups)
    rows, targets = rows_of(setting.rows, CLASSES, seed)
    agree = RDrop(alpha=5.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        batch = {"rows": rows, "labels": targets}
        batch = agree.batch(batch, network) if technique == "rdrop" else batch
        logits = network(batch["rows"])
        loss = soft_cross_entropy(logits, batch["labels"])
        if technique == "rdrop":
            loss = loss + agree.penalty(network, batch, SimpleNamespace(logits=logits))
        loss.backward()
        optimizer.step()
    fresh, truth = rows_of(300, CLASSES, seed=1000)
    with torch.no_grad():
        apart = symmetric_divergence(network(fresh), network(fresh)).mean().item()
        logits = network.eval()(fresh)
    right = (logits.argmax(-1) == truth.argmax(-1)).float().mean().item()
    return right, soft_cross_entropy(logits, truth).item(), apart


@cache
def results(technique: str, setting: Setting) -> np.ndarray:
    """Accuracy, log loss and difference of draws (3, seeds)."""
    return np.array([fine_tuned(seed, technique, setting) for seed in SEEDS]).T


def test_under_rdrop_two_draws_of_dropout_agree_more_on_fresh_rows():
    (*_, plain), (*_, agreed) = (results(technique, MUCH_DROPOUT) for technique in ("", "rdrop"))
    assert np.sum(agreed < plain) >= 18
    assert agreed.mean() < 0.3 * plain.mean()


def test_under_mixout_results_differ_less_from_seed_to_seed_and_are_better():
    (accuracy, loss, _), (mixed, mixed_loss, _) = (results(technique, LARGE_STEPS) for technique in ("", "mixout"))
    assert mixed.std(ddof=1) < 0.9 * accuracy.std(ddof=1)
    assert mixed_loss.std(ddof=1) < 0.5 * loss.std(ddof=1)
    assert np.sum(mixed_loss < loss) >= 14


def test_with_lower_rates_below_results_are_better():
    (accuracy, loss, _), (slow, slow_loss, _) = (results(technique, LARGE_STEPS) for technique in ("", "llrd"))
    assert slow.mean() > accuracy.mean() + 0.01
    assert np.sum(slow_loss < loss) >= 16


def test_with_the_top_drawn_anew_results_are_better_and_steadier_where_it_was_pretrained_for_another_task():
    (accuracy, loss, _), (anew, anew_loss, _) = (results(technique, FAR_TASK) for technique in ("", "reinit"))
    assert anew.mean() > accuracy.mean() + 0.05
    assert anew.std(ddof=1) < 0.5 * accuracy.std(ddof=1)
    assert np.sum(anew_loss < loss) >= 18

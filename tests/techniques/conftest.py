"""A trainer of a few steps around a network and the techniques at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.datasets import make_moons
from torch import Tensor, nn
from transformers import TrainerControl

from hf_smalldata.nn.losses import soft_cross_entropy
from hf_smalldata.technique import Technique, using
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.trainer import SmallDataTrainer


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., SmallDataTrainer]:
    """A kit, a network and techniques -> a trainer on the kit's rows, 12 of which in batches of 4 are three steps."""

    def build(kit: Any, network: Any, techniques: Sequence[Technique], **settings: Any) -> SmallDataTrainer:
        given = {"learning_rate": 1e-2, "num_train_epochs": 1, "per_device_train_batch_size": 4, **settings}
        return SmallDataTrainer(
            model=network,
            args=training_arguments({"disable_tqdm": True, **given}, tmp_path, 0),
            techniques=techniques,
            problem_type=kit.problem_type,
            data_collator=collator(kit.task, kit.processor, len(kit.labels), kit.problem_type),
            train_dataset=EncodedRows(kit.rows, kit.task, kit.processor, using(techniques, "example")),
        )

    return build


@pytest.fixture(scope="session")
def rich_rows() -> Callable[[int, int, Sequence[str]], Dataset]:
    """A count, a seed and for each of two classes its two most frequent letters -> DNA of 24 letters."""

    def build(count: int, seed: int, classes: Sequence[str]) -> Dataset:
        rng, labels = np.random.default_rng(seed), [at % 2 for at in range(count)]
        often = [[{first: 0.6, second: 0.2}.get(each, 0.1) for each in "ACGT"] for first, second in classes]
        sequences = ["".join(rng.choice(list("ACGT"), 24, p=often[label])) for label in labels]
        ids = [f"{seed}:{at}" for at in range(count)]
        return Dataset.from_dict({"id": ids, "sequence": sequences, "label": labels})

    return build


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where generators are kept during a test."""
    folder = tmp_path / "assets"
    folder.mkdir()
    for module in ("diffusion_edit", "learning"):
        monkeypatch.setattr(f"hf_smalldata.techniques.synthesis.{module}.cached_assets_path", lambda *_: folder)
    return folder


class Points(nn.Module):
    """Points (N, 2) -> two classes, by 32 features."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=2)
        self.body = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.classifier = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.classifier(self.body(x)))


Domain = tuple[Tensor, Tensor]  # points (N, 2) and their classes (N,)


def moons(seed: int, degrees: float) -> Domain:
    """100 points of two half moons around the origin, turned."""
    points, labels = make_moons(100, noise=0.05, random_state=seed)
    points, angle = points - points.mean(0), np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return torch.tensor(points @ turn, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture(scope="session")
def adapted() -> Callable[..., float]:
    """Techniques, a seed and two domains -> accuracy in the second of a network that saw labels of the first alone."""

    def learn(
        techniques: Sequence[Technique], seed: int, source: Domain, target: Domain, steps: int = 300, noise: float = 0.0
    ) -> float:
        torch.manual_seed(seed)
        network, (x, labels), (u, truth) = Points(), source, target
        callbacks = [each for technique in techniques for each in technique.callbacks()]
        args, state = SimpleNamespace(num_train_epochs=1, max_steps=steps), SimpleNamespace(max_steps=steps)
        for callback in callbacks:
            callback.on_init_end(args, state, None, model=network)
            callback.on_train_begin(args, SimpleNamespace(global_step=0), None, model=network)
        groups: Any = [{"params": list(network.parameters()), "lr": 1e-2}]
        for technique in using(techniques, "param_groups"):
            groups = technique.param_groups(groups, network)
        optimizer = torch.optim.Adam(groups)
        for state.global_step in range(steps):
            for callback in callbacks:
                callback.on_step_begin(args, state, None, model=network)
            outputs = network(x)
            batch = {"labels": nn.functional.one_hot(labels).float(), "unlabelled": {"x": u},
                     "strong": {"x": u + noise * torch.randn(u.shape)}}  # fmt: skip
            loss = soft_cross_entropy(outputs.logits, batch["labels"])
            for technique in techniques:
                loss = loss + technique.penalty(network, batch, outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for callback in callbacks:
                callback.on_step_end(args, state, TrainerControl(), model=network)
        for callback in callbacks:
            callback.on_train_end(args, state, None, model=network)
        assert {name.split(".")[0] for name, _ in network.named_parameters()} == {"body", "classifier"}
        return float((network(u).logits.argmax(-1) == truth).float().mean())

    return learn


@pytest.fixture(scope="session")
def turned_moons(adapted: Callable[..., float]) -> Callable[..., int]:
    """A technique and seeds -> how many times it does better than none on moons that are turned by 35 degrees."""

    @cache
    def accuracy(technique: Technique | None, seed: int) -> float:
        techniques = [] if technique is None else [technique]
        return adapted(techniques, seed, moons(seed, 0), moons(seed + 1000, 35))

    return lambda technique, seeds: sum(accuracy(technique, seed) > accuracy(None, seed) for seed in range(seeds))


@pytest.fixture(scope="session")
def few_moons(adapted: Callable[..., float]) -> Callable[..., float]:
    """A technique and seeds -> its mean gain in accuracy where 3 points of each moon have labels, and 100 have none."""

    def accuracy(techniques: Sequence[Technique], seed: int) -> float:
        points, labels = moons(seed, 0)
        some = torch.cat([torch.nonzero(labels == label).flatten()[:3] for label in (0, 1)])
        return adapted(techniques, seed, (points[some], labels[some]), moons(seed + 1000, 0), 200, noise=0.2)

    plain = cache(partial(accuracy, ()))

    def gain(technique: Technique, seeds: int) -> float:
        return float(np.mean([accuracy([technique], seed) - plain(seed) for seed in range(seeds)]))

    return gain

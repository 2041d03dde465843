"""A trainer of a few steps around a network and the techniques at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

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

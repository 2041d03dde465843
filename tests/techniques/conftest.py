"""A trainer of a few steps around a network and the techniques at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

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

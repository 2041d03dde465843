"""Trackers (`train.report_to`: tensorboard, trackio, wandb): each training is a run of its own, in its study's group.

Nothing is tracked unless a recipe asks for it, and what a tracker sends anywhere is the user's own setting of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = "huggingface"  # what transformers calls a trackio project that has no name


@dataclass(frozen=True)
class Tracking:
    """Where trackers file a training."""

    group: str  # e.g. the name of the study
    name: str  # e.g. its recipe and seed
    folder: Path  # for TensorBoard's event files


def reports(train: Mapping[str, Any]) -> bool:
    """Whether the `train:` section names a tracker."""
    named = train.get("report_to") or "none"
    return named not in ("none", ["none"])


@contextmanager
def tracked(tracking: Tracking | None, train: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Within: trackers file what is logged as one run of the group.

    Yields:
        Training arguments to add: the run's name and, where none is given, the project.
    """
    if tracking is None or not reports(train):
        yield {}
        return
    settings = {
        "WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", tracking.group),
        "TENSORBOARD_LOGGING_DIR": str(tracking.folder / tracking.name.replace("/", "-").replace(", ", "_")),
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    named = train.get("project", PROJECT) != PROJECT
    try:
        yield {"run_name": tracking.name} | ({} if named else {"project": tracking.group})
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        wandb: Any = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:  # transformers leaves it open, and would log the next run there
            wandb.finish()

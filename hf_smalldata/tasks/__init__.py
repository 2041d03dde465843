"""The modalities: a task's name -> where its task lives. Nothing is imported until it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hf_smalldata.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hf_smalldata.tasks.task import Task

TASKS: dict[str, str] = {
    "text-classification": "hf_smalldata.tasks.text:TextClassification",
    "token-classification": "hf_smalldata.tasks.token:TokenClassification",
    "image-classification": "hf_smalldata.tasks.image:ImageClassification",
    "audio-classification": "hf_smalldata.tasks.audio:AudioClassification",
    "sequence-classification": "hf_smalldata.tasks.sequence:SequenceClassification",
}


def get_task(name: str) -> Task:
    """The task behind a name.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise UserError(f"unknown task '{name}'{did_you_mean(name, TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    found: Task = getattr(importlib.import_module(module), attribute)()
    return found

"""How long the inputs are, and how many of them a model would see in part only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from datasets import Dataset

from hf_smalldata.data.audio import sound_facts
from hf_smalldata.doctor.findings import Finding, fine, of_all
from hf_smalldata.doctor.sample import Sample

if TYPE_CHECKING:  # tasks import torch, which takes seconds
    from hf_smalldata.tasks.task import Task

MUCH_CUT = 0.05  # share of the rows
UNITS = {"text": "words", "tokens": "words", "sequence": "letters"}


class Lengths(NamedTuple):
    """How a model measures rows."""

    unit: str  # 'tokens', 'seconds'
    measure: Callable[[Dataset], Sequence[float]]  # a number a row
    most: float | None = None  # what the model takes; None for no limit
    windows: bool = False  # longer rows are cut into windows, so that nothing is lost

    @property
    def setting(self) -> str:
        """What a recipe calls `most`."""
        return {"tokens": "model.max_length", "seconds": "model.seconds"}[self.unit]


def lengths_of(task: Task, processor: Any) -> Lengths | None:
    """How a task's model measures rows: tokens, or seconds; None for images, which are all scaled to one size."""
    if task.processor_argument == "image_processor":
        return None
    if task.processor_argument == "feature_extractor":
        return Lengths("seconds", lambda rows: [sound_facts(value).seconds for value in rows["audio"]],
                       processor.max_seconds)  # fmt: skip

    def tokens(rows: Dataset) -> list[int]:
        given = task.pipeline_inputs(rows, processor)
        pairs = isinstance(given[0], dict)
        texts = [[each["text"] for each in given], [each["text_pair"] for each in given]] if pairs else [given]
        return [len(ids) for ids in processor(*texts, truncation=False, verbose=False)["input_ids"]]

    return Lengths("tokens", tokens, processor.model_max_length, windows=task.kind != "text")


def lengths(data: Sample, model: Lengths | None) -> Finding:
    """Median, 95th percentile and longest; a warning where much is cut.

    Args:
        data: rows of text, tokens or sequences.
        model: how a model counts; words or letters without one.
    """
    unit = model.unit if model else UNITS[data.modality.kind]
    if model is not None:
        values = [value for part in data.parts.values() for value in model.measure(part.rows)]
    elif unit == "words":
        values = [len(text.split()) for texts in data.texts.values() for text in texts]
    else:
        values = [len(text) for texts in data.texts.values() for text in texts]
    return judged(values, [row_id for part in data.parts.values() for row_id in part.ids], unit, model)


def judged(values: Sequence[float], ids: Sequence[str], unit: str, model: Lengths | None) -> Finding:
    """The finding on lengths (N,) of rows `ids`."""
    half, most_of_them, longest = np.percentile(values, [50, 95, 100])
    sentence = f"{_number(half)} {unit} (median), 95 % up to {_number(most_of_them)}, longest {_number(longest)}"
    if model is None or model.most is None:
        return fine("lengths", sentence)
    cut = tuple(row_id for row_id, value in zip(ids, values, strict=True) if value > model.most)
    sentence += f"; {of_all(len(cut), len(ids))} above the model's {_number(model.most)}"
    if model.windows or len(cut) < MUCH_CUT * len(ids):
        return Finding("lengths", "pass", sentence + (", read as windows" if cut and model.windows else ""), cut)
    return Finding("lengths", "warn", f"{sentence}: what lies beyond is not seen", cut,
                   f"raise {model.setting} if the model takes more, take one for longer inputs, or put what "
                   "matters first")  # fmt: skip


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or value >= 100 else f"{value:.3g}"

"""`export`: files of a Run's model for other places, each beside the model itself: size, latency, agreement."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from datasets import Dataset
from torch import nn

from hf_smalldata.bundle import share_weights
from hf_smalldata.data.load import load
from hf_smalldata.data.modality import get_modality
from hf_smalldata.data.rows import apply_rows
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import ragged, references
from hf_smalldata.evaluation.metrics import score
from hf_smalldata.export.graph import FILES, WRITERS, OnnxNetwork, Program, write_onnx, write_program
from hf_smalldata.nn.losses import probabilities
from hf_smalldata.publish.card import recipe_of
from hf_smalldata.run import Run, write_json
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import ModelSpec, Predictions, Task
from hf_smalldata.training.batching import EncodedRows, collator
from hf_smalldata.training.predict import predict_logits
from hf_smalldata.whole import check_makeable, whole

SUMMARY, WEIGHTS, CONFIG = "export.json", "model.safetensors", "config.json"
FULL = ("fp32", "torch.export")  # of full precision
TOLERANCE = 1e-3  # of their probabilities
LIBRARIES = ("torch", "transformers", "onnx", "onnxruntime")
BATCH = 8
TIMED_ROWS = 30


class ExportError(RuntimeError):
    """The exported model does not do what the model does: a defect, never to be shipped."""


@dataclass(frozen=True)
class Subject:
    """A Run's model with its processor and the rows that judge."""

    run: Run
    task: Task
    processor: Any
    network: Any
    rows: Dataset
    labelled: bool  # whether the rows tell their labels

    @classmethod
    def of(cls, run: Run, given: Sequence[Any] | None = None) -> Subject:
        """The model of a Run, and its test rows or others.

        Args:
            run: finished.
            given: inputs without labels, in place of the Run's own rows.

        Raises:
            UserError: the Run's rows are gone or have changed.
        """
        recipe, task = recipe_of(run), get_task(run.metrics["task"])
        folder, trusts = str(run.folder), recipe.model.trust_remote_code
        processor = task.load_processor(ModelSpec(name=folder, trust_remote_code=trusts))
        network = getattr(transformers, task.model_class).from_pretrained(
            folder, dtype="float32", use_safetensors=True, trust_remote_code=trusts
        )
        rows = get_modality(task.kind).given(list(given), recipe.data) if given is not None else _judges(run)
        return cls(run, task, processor, network.eval(), rows, given is None)

    def windows(self) -> Dataset:
        """The rows, cut to what the model takes."""
        return self.task.cut(self.rows, self.processor)

    def encoded(self, windows: Dataset) -> EncodedRows:
        """Windows as features; what has no label gets one that is never looked at."""
        if self.labelled:
            return EncodedRows(windows, self.task, self.processor)
        none = [[0] * len(row["tokens"]) if self.task.kind == "tokens" else self._no_label() for row in windows]
        return EncodedRows(windows.add_column("label", none), self.task, self.processor)

    def _no_label(self) -> Any:
        problem, labels = self.run.metrics["problem_type"], self.run.metrics["labels"]
        return [0.0] * len(labels) if problem == "multi_label_classification" else 0

    def collate(self) -> Callable[[Sequence[Any]], Any]:
        """Of the features with labels."""
        metrics = self.run.metrics
        return collator(self.task, self.processor, max(len(metrics["labels"]), 1), metrics["problem_type"], multiple=1)

    def batch(self, encoded: EncodedRows, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """Some rows as the network's inputs."""
        batch = self.collate()([encoded[index] for index in indices])
        return {name: tensor for name, tensor in batch.items() if name != "labels"}

    def predict(self, network: nn.Module, encoded: EncodedRows, windows: Dataset) -> Predictions:
        """Probabilities (N, C), values (N, 1), or for tokens (N,) of (words, C)."""
        size = 1 if self.task.same_length(self.processor) else BATCH
        logits, problem = predict_logits(network, encoded, self.collate(), size), self.run.metrics["problem_type"]
        if logits.dtype == object:
            found = ragged([probabilities(torch.from_numpy(each), problem).numpy() for each in logits])
        else:
            found = probabilities(torch.from_numpy(logits), problem).numpy()
        return self.task.merge(found, windows, self.rows)


def export(subject: Subject, out: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """Write the files of a model, whole or not at all, and what was measured of each.

    Args:
        subject: model and rows.
        out: a folder, replaced where it is one of ours.
        kinds: names of `graph.FILES`; `fp16` and `int8` are made of `fp32`, which comes before them.

    Raises:
        ExportError: in full precision it does not do what the model does.
    """
    windows = subject.windows()
    encoded = subject.encoded(windows)
    longest = int(np.argmax(encoded.lengths))  # twice the same, for some models batch rows of one length alone
    batch = subject.batch(encoded, [longest, longest])
    with whole(out) as partial:
        partial.mkdir()
        expected = subject.predict(subject.network, encoded, windows)
        lines = [_line("torch", subject.run.folder / WEIGHTS, subject.network, subject, encoded, expected, expected)]
        for kind in kinds:
            network = _written(kind, subject, batch, partial)
            lines.append(_line(kind, partial / FILES[kind], network, subject, encoded,
                               subject.predict(network, encoded, windows), expected))  # fmt: skip
            if kind in FULL and not lines[-1]["largest_difference"] <= TOLERANCE:
                raise ExportError(
                    f"the exported model differs from the model by up to {lines[-1]['largest_difference']:.2g}"
                )
        if not (partial / CONFIG).is_file():
            subject.network.config.save_pretrained(partial)
        subject.processor.save_pretrained(partial)
        summary = {
            "rows": len(subject.rows),
            "labelled": subject.labelled,
            "labels": subject.run.metrics["labels"],
            "main_metric": subject.run.metrics["main_metric"],
            "inputs": list(batch),
            "threads": torch.get_num_threads(),
            "models": lines,
            "versions": {name: version(name) for name in LIBRARIES if find_spec(name)},
        }
        write_json(partial / SUMMARY, summary)
    return summary


def _written(kind: str, subject: Subject, batch: Mapping[str, torch.Tensor], folder: Path) -> nn.Module:
    """Write one file; what is read back from it."""
    file = folder / FILES[kind]
    if kind == "safetensors fp16":
        halved = copy.deepcopy(subject.network).half()
        halved.save_pretrained(folder)
        share_weights(folder)
        return cast(nn.Module, type(halved).from_pretrained(folder, dtype="float32", use_safetensors=True).eval())
    if kind == "torch.export":
        write_program(subject.network, batch, file)
        return Program(file, list(batch))
    if kind == "fp32":
        write_onnx(subject.network, batch, file)
    else:
        WRITERS[kind](folder / FILES["fp32"], file)
    return OnnxNetwork(file)


def check_out(out: Path, overwrite: bool) -> None:
    """A folder of an export must be new; nothing but an export is ever replaced.

    Raises:
        UserError: it is there, or cannot be made.
    """
    if out.exists() and not overwrite:
        raise UserError(f"--out: {out} exists; choose another folder or pass --overwrite")
    if out.exists() and not (out / SUMMARY).is_file():
        raise UserError(f"--overwrite: {out} is no export, so it is left alone; choose another folder")
    check_makeable(out, "--out")


def _judges(run: Run) -> Dataset:
    """The Run's test rows; of a model that learnt from every row those."""
    recipe = recipe_of(run)
    spec = recipe.data.model_copy(update={"rows": str(run.part("rows.json"))})
    try:
        data = apply_rows(load(recipe.data, get_task(recipe.task).kind), spec)
    except UserError as error:
        raise UserError(f"the Run's rows cannot be read again; name others with --rows. {error}") from error
    return data.train if data.test is None else data.test


def _line(
    name: str, file: Path, network: nn.Module, subject: Subject, encoded: EncodedRows, found: Predictions,
    expected: Predictions,
) -> dict[str, Any]:  # fmt: skip
    """What is told of one model: bytes, milliseconds a row, and how far it is from the model itself."""
    problem, main = subject.run.metrics["problem_type"], subject.run.metrics["main_metric"]
    pairs = list(zip(found, expected, strict=True))
    same = [np.asarray(one.argmax(-1) == other.argmax(-1)).ravel() for one, other in pairs]
    value = None
    if subject.labelled:
        value = score(found[:, 0] if problem == "regression" else found, references(subject.rows), problem)[main]
    return {
        "model": name,
        "bytes": file.stat().st_size,
        "milliseconds_a_row": _latency(network, subject, encoded),
        "largest_difference": float(max(np.abs(one - other).max() for one, other in pairs)),
        "same_answer": None if problem == "regression" else float(np.concatenate(same).mean()),
        main: value,
    }


def _latency(network: nn.Module, subject: Subject, encoded: EncodedRows) -> float:
    """The median over rows, one at a time."""
    chosen = np.unique(np.linspace(0, len(encoded) - 1, min(len(encoded), TIMED_ROWS)).astype(int))
    batches = [subject.batch(encoded, [int(index)]) for index in chosen]
    taken = []
    with torch.no_grad():
        network(**batches[0])  # the first pass makes ready
        for batch in batches:
            begun = time.perf_counter()
            network(**batch)
            taken.append(time.perf_counter() - begun)
    return round(1000 * float(np.median(taken)), 3)

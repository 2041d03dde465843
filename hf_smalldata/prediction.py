"""Labels for new rows, by the stock pipeline that any other user of the model has."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers
import yaml
from datasets import Dataset

from hf_smalldata.bundle import all_scores
from hf_smalldata.data.columns import find_input
from hf_smalldata.data.delimited import inert
from hf_smalldata.data.files import read_table, suffixes
from hf_smalldata.data.modality import Modality, get_modality
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import is_missing
from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation.calibration import prediction_sets, with_temperature
from hf_smalldata.nn.fold import hasten
from hf_smalldata.run import Run
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import Answers, ModelSpec, Task
from hf_smalldata.training.adapt import MOST, Adaptation
from hf_smalldata.training.adapt import adapt as adapted
from hf_smalldata.whole import check_makeable

logger = logging.getLogger(__name__)

WRITERS = (".csv", ".jsonl")
AT_ONCE = 256  # inputs that are decoded at the same time


def predict(
    run: str | Path | Run,
    inputs: Sequence[Any],
    top_k: int | None = None,
    batch_size: int = 16,
    coverage: float | None = None,
    adapt: Adaptation | None = None,
) -> list[Answers]:
    """Labels and scores for new inputs, best first; for tokens the entities in the order of the text.

    What is longer than the model takes is read in windows and put together again.

    Args:
        run: a Run or its folder.
        inputs: texts ({"text": …, "text_pair": …} for pairs), sequences, images (paths or PIL images) or sounds (paths,
            or {"array", "sampling_rate"}).
        top_k: labels for each input; None for all. Entities are always all.
        batch_size: inputs a forward pass.
        coverage: give instead of the best labels a set that holds the right one in this share of rows, by the
            thresholds that cross-validation left (`evaluation.calibration`); more than one label means unsure.
        adapt: for inputs of another camera, scanner or room than the training rows, all given together: `statistics` of
            BatchNorm follow them, or `tent` also makes predictions for them surer (`training.adapt`). The Run stays.

    Returns:
        For each input its {label, score}; an entity has start, end (characters) and word as well.

    Raises:
        UserError: not a Run, an input that cannot be read, no threshold for this coverage, or nothing to adapt.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    if coverage is not None and adapt is not None:
        raise UserError("--coverage and --adapt: the thresholds hold for the model as it is, not for an adapted one; "
                        "give one of the two")  # fmt: skip
    calibration = None if coverage is None else _calibration(opened, coverage)
    task, recipe = get_task(opened.metrics["task"]), _recipe(opened)
    labels: list[str] = opened.metrics["labels"]
    rows = get_modality(task.kind).given(list(inputs), DataSpec(**recipe["data"]))
    trusts = bool(recipe["model"]["trust_remote_code"])
    processor = task.load_processor(ModelSpec(name=str(opened.folder), trust_remote_code=trusts))
    windows = task.cut(rows, processor)
    pipeline: Any = transformers.pipeline
    ask = pipeline(task.pipeline_tag, model=str(opened.folder), trust_remote_code=trusts)
    hasten(ask.model)
    if adapt is not None:
        _adapt(ask.model, windows, opened, task, processor, adapt)
    size = 1 if task.same_length(processor) else batch_size  # a pipeline pads, which would change what these models say
    order = longest_first(windows)
    said: list[Any] = [None] * len(windows)
    for start in range(0, len(windows), AT_ONCE):
        part = order[start : start + AT_ONCE]
        given = task.pipeline_inputs(windows.select(part), processor)
        for at, answer in zip(part, ask(given, batch_size=size, **all_scores(task, labels)), strict=True):
            said[at] = answer
    values = task.merge(task.read(said, windows, labels), windows, rows)
    answers = [task.answer(one, row, labels) for one, row in zip(values, rows, strict=True)]
    if calibration is not None and coverage is not None:
        return [_label_set(answer, calibration, coverage) for answer in answers]
    return answers if task.kind == "tokens" else [answer[:top_k] for answer in answers]


def longest_first(rows: Dataset) -> list[int]:
    """Places of rows in the order in which they are batched: texts and sequences by length, for little padding."""
    written = [column for column in ("text", "text_pair", "sequence") if column in rows.column_names]
    lengths = np.zeros(len(rows), dtype=int)
    for column in written:
        lengths += [len(cell) for cell in rows[column]]
    order: list[int] = np.argsort(-lengths, kind="stable").tolist()
    return order


def read_inputs(run: Run, given: Sequence[str]) -> tuple[list[str], list[Any]]:
    """What a user names on the command line -> names and inputs: texts, files, one table or one folder.

    Raises:
        UserError: no such file, or nothing in it that this Run could label.
    """
    task, spec = get_task(run.metrics["task"]), DataSpec(**_recipe(run)["data"])
    modality, tables = get_modality(task.kind), suffixes(task.kind)
    path = Path(given[0]).expanduser()
    if len(given) == 1 and path.suffix.lower() in tables:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        table = read_table(path, spec, task.kind)
        cells = table.columns[find_input(table, spec, task.kind)]
        if modality.a_file_each:
            return list(table.ids), [path.parent / cell if isinstance(cell, str) else cell for cell in cells]
        if spec.text_pair_column:
            if spec.text_pair_column not in table.columns:
                raise UserError(f"{path}: no column '{spec.text_pair_column}' for the second text; found "
                                f"{listed(list(table.columns))}")  # fmt: skip
            pairs = table.columns[spec.text_pair_column]
            return list(table.ids), [
                {"text": _text(a), "text_pair": _text(b)} for a, b in zip(cells, pairs, strict=True)
            ]
        return list(table.ids), [cell if isinstance(cell, list) else _text(cell) for cell in cells]
    if not modality.a_file_each:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; expected texts, or one file ({listed(tables)})")
        return list(given), list(given)
    files = [found for name in given for found in _files(Path(name).expanduser(), modality)]
    return [str(file) for file in files], list(files)


def check_output_file(file: Path, overwrite: bool) -> None:
    """A file of predictions must be new, and its ending says how it is written.

    Raises:
        UserError: it is there, has another ending, or cannot be made.
    """
    if file.suffix not in WRITERS:
        raise UserError(f"--output: expected a {' or '.join(WRITERS)} file, got {file.name}")
    if file.exists() and not overwrite:
        raise UserError(f"--output: {file} exists; choose another file or pass --overwrite")
    check_makeable(file)


def write_predictions(file: Path, names: Sequence[str], answers: Sequence[Answers]) -> None:
    """Csv or jsonl, by the file's ending: a line an input with its answers, in a csv of entities a line an entity.

    A cell of a csv that a spreadsheet would take for a formula begins with an apostrophe; jsonl has all as it is.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    entities = any("word" in each for answer in answers for each in answer)
    if file.suffix == ".jsonl":
        kind = "entities" if entities else "labels"
        documents = [json.dumps({"id": name, kind: answer}, ensure_ascii=False)
                 for name, answer in zip(names, answers, strict=True)]  # fmt: skip
        partial.write_text("\n".join(documents) + "\n", encoding="utf-8")
    else:
        with partial.open("w", encoding="utf-8", newline="") as out:
            lines = _entity_lines(names, answers) if entities else _label_lines(names, answers)
            csv.writer(out).writerows(map(inert, line) for line in lines)
    os.replace(partial, file)


def _entity_lines(names: Sequence[str], answers: Sequence[Answers]) -> Iterator[list[Any]]:
    parts = ("label", "score", "start", "end", "word")
    yield ["id", *parts]
    yield from ([name, *(each[part] for part in parts)]
                for name, answer in zip(names, answers, strict=True) for each in answer)  # fmt: skip


def _label_lines(names: Sequence[str], answers: Sequence[Answers]) -> Iterator[list[Any]]:
    width = max(map(len, answers), default=1)
    yield ["id", *(f"{part}{index or ''}" for index in range(width) for part in ("label", "score"))]
    for name, answer in zip(names, answers, strict=True):
        yield [name, *(value for each in answer for value in (each["label"], each["score"]))]


def _adapt(model: Any, windows: Dataset, run: Run, task: Task, processor: Any, kind: Adaptation) -> None:
    problem = run.metrics["problem_type"]
    if kind == "tent" and problem != "single_label_classification":
        raise UserError(f"adapt: tent is for rows of one class each, and this Run is for {problem}; choose statistics")
    if all(each["steps"] == 0 or each["trained_parameters"] < each["parameters"] / 2 for each in run.metrics["runs"]):
        logger.warning("adapt: most of this network was not trained, and its norms do not know the training rows; "
                       "following the inputs made such networks worse where we measured it")  # fmt: skip
    if len(windows) > MOST:  # before they are decoded
        windows = windows.select(np.sort(np.random.default_rng(0).permutation(len(windows))[:MOST]).tolist())
    adapted(model, task.encode(windows, processor), partial(task.collate, processor=processor), kind)


def _calibration(run: Run, coverage: float) -> dict[str, Any]:
    found: dict[str, Any] | None = run.metrics.get("calibration")
    if found is None:
        raise UserError(
            f"--coverage: {run.folder} has no thresholds; `hf-smalldata study --folds 5 --refit` leaves them"
        )
    known = [each["coverage"] for each in found["conformal"]]
    if coverage not in known:
        raise UserError(f"--coverage: expected one of {listed(known)}, got {coverage}")
    return found


def _label_set(answer: list[dict[str, Any]], calibration: dict[str, Any], coverage: float) -> list[dict[str, Any]]:
    """Labels whose score is high enough, best first."""
    scores = np.array([[each["score"] for each in answer]])
    if not calibration["in_weights"]:
        scores = with_temperature(scores, calibration["temperature"])
    (threshold,) = [each["threshold"] for each in calibration["conformal"] if each["coverage"] == coverage]
    chosen = prediction_sets(scores, np.inf if threshold is None else threshold)[0]
    return [{**each, "score": float(score)} for each, score, inside in zip(answer, scores[0], chosen, strict=True)
            if inside]  # fmt: skip


def _text(cell: Any) -> str:
    return "" if is_missing(cell) else str(cell)


def _recipe(run: Run) -> dict[str, Any]:
    """What was trained: columns, delimiter and encoding of its rows, and whether its model's own code is trusted."""
    found: dict[str, Any] = yaml.safe_load(run.part("recipe.yaml").read_text(encoding="utf-8"))
    return found


def _files(path: Path, modality: Modality) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and modality.accepts(file))
        if not found:
            raise UserError(f"{path}: holds no {modality.a_file_each}")
        return found
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    return [path]

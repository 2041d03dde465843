"""Labels for new rows, by the stock pipeline that any other user of the model has."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers
import yaml

from hf_smalldata.data.columns import find_input
from hf_smalldata.data.files import SUFFIXES as TABLES
from hf_smalldata.data.files import read_table
from hf_smalldata.data.images import SUFFIXES as IMAGES
from hf_smalldata.data.images import open_image
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import is_missing
from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation.calibration import prediction_sets, with_temperature
from hf_smalldata.run import Run
from hf_smalldata.tasks import get_task

WRITERS = (".csv", ".jsonl")
Answers = list[list[dict[str, Any]]]  # a row's {label, score}, best first


def predict(
    run: str | Path | Run,
    inputs: Sequence[Any],
    top_k: int | None = None,
    batch_size: int = 16,
    coverage: float | None = None,
) -> Answers:
    """Labels and scores for new inputs, best first.

    Args:
        run: a Run or its folder.
        inputs: texts ({"text": …, "text_pair": …} for pairs), or images: paths or PIL images.
        top_k: labels for each input; None for all.
        batch_size: inputs a forward pass.
        coverage: give instead of the best labels a set that holds the right one in this share of rows, by the
            thresholds that cross-validation left (`evaluation.calibration`); more than one label means unsure.

    Raises:
        UserError: not a Run, an image that cannot be read, or no threshold for this coverage.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    calibration = None if coverage is None else _calibration(opened, coverage)
    task = get_task(opened.metrics["task"])
    arguments = dict(task.pipeline_arguments)
    values = [open_image(value) for value in inputs] if task.input_column == "image" else list(inputs)
    count = top_k or max(len(opened.metrics["labels"]), 1)
    arguments["top_k"] = count
    pipeline: Any = transformers.pipeline
    classify = pipeline(task.name, model=str(opened.folder))
    answers = [one if isinstance(one, list) else [one] for one in classify(values, batch_size=batch_size, **arguments)]
    if calibration is not None and coverage is not None:
        return [_label_set(answer, calibration, coverage) for answer in answers]
    return [answer[:count] for answer in answers]


def read_inputs(run: Run, given: Sequence[str]) -> tuple[list[str], list[Any]]:
    """What a user names on the command line -> names and inputs: texts, image files, one table or one folder.

    Raises:
        UserError: no such file, or nothing in it that this Run could label.
    """
    task, spec = get_task(run.metrics["task"]), _data_spec(run)
    path = Path(given[0]).expanduser()
    is_table = path.suffix.lower() in TABLES
    if len(given) == 1 and is_table:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        table = read_table(path, spec)
        cells = table.columns[find_input(table, spec, task.input_column)]
        if spec.text_pair_column:
            if spec.text_pair_column not in table.columns:
                raise UserError(f"{path}: no column '{spec.text_pair_column}' for the second text; found "
                                f"{listed(list(table.columns))}")  # fmt: skip
            pairs = table.columns[spec.text_pair_column]
            return list(table.ids), [
                {"text": _text(a), "text_pair": _text(b)} for a, b in zip(cells, pairs, strict=True)
            ]
        if task.input_column == "image":
            return list(table.ids), [path.parent / cell if isinstance(cell, str) else cell for cell in cells]
        return list(table.ids), [_text(cell) for cell in cells]
    if task.input_column == "text":
        if path.is_dir():
            raise UserError(f"{path}: is a folder; expected texts, or one file ({listed(TABLES)})")
        return list(given), list(given)
    files = [found for name in given for found in _image_files(Path(name).expanduser())]
    return [str(file) for file in files], list(files)


def check_output_file(file: Path, overwrite: bool) -> None:
    """A file of predictions must be new, and its ending says how it is written.

    Raises:
        UserError: it is there, or has another ending.
    """
    if file.suffix not in WRITERS:
        raise UserError(f"--output: expected a {' or '.join(WRITERS)} file, got {file.name}")
    if file.exists() and not overwrite:
        raise UserError(f"--output: {file} exists; choose another file or pass --overwrite")


def write_predictions(file: Path, names: Sequence[str], answers: Answers) -> None:
    """One line an input: its name, then label and score of each answer. csv or jsonl, by the file's ending."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    if file.suffix == ".jsonl":
        lines = [
            json.dumps({"id": name, "labels": answer}, ensure_ascii=False) for name, answer in _pairs(names, answers)
        ]
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        width = max(map(len, answers), default=1)
        header = ["id", *(f"{part}{index or ''}" for index in range(width) for part in ("label", "score"))]
        with partial.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(header)
            for name, answer in _pairs(names, answers):
                writer.writerow([name, *(value for each in answer for value in (each["label"], each["score"]))])
    os.replace(partial, file)


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


def _pairs(names: Sequence[str], answers: Answers) -> list[tuple[str, list[dict[str, Any]]]]:
    return list(zip(names, answers, strict=True))


def _text(cell: Any) -> str:
    return "" if is_missing(cell) else str(cell)


def _data_spec(run: Run) -> DataSpec:
    """How the Run's rows were read: columns, delimiter, encoding."""
    return DataSpec(**yaml.safe_load(run.part("recipe.yaml").read_text(encoding="utf-8"))["data"])


def _image_files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
        if not found:
            raise UserError(f"{path}: holds no image files ({listed(sorted(IMAGES))})")
        return found
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    return [path]

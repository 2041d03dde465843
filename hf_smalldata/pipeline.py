"""The trunk: rows and a pretrained model in, a Run out. It reads from top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from accelerate.utils import release_memory
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments

from hf_smalldata import bundle, report
from hf_smalldata.data.domains import apart, with_domains
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.modality import get_modality
from hf_smalldata.data.rows import apply_rows
from hf_smalldata.data.sample import draw_for, split
from hf_smalldata.doctor import examine, lengths_of
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.metrics import metric_names
from hf_smalldata.fitting import Fitting
from hf_smalldata.outcome import Outcome, baselines_of, test_rows, write_part
from hf_smalldata.publish.card import model_card
from hf_smalldata.recipe import Recipe
from hf_smalldata.reporting import content_of, inputs_of, shown_ids
from hf_smalldata.run import OURS, Run, check_output, environment, writing
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import Predictions, Task
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.energy import metered
from hf_smalldata.training.selection import LAST, selects
from hf_smalldata.training.tracking import Tracking
from hf_smalldata.whole import alone

logger = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    objects: Mapping[str, Any] | None = None,
) -> Run:
    """Train a recipe for each of its seeds, score it beside baselines, and write the Run.

    The model of the first seed is saved; the results are over all seeds.

    Args:
        recipe: what to train.
        output: the Run's folder; default `runs/<name of the data>`.
        overwrite: replace a Run that is there.
        resume: go on with an interrupted training.
        objects: rows from Python instead of files: {"train": rows, "test": rows, ...}; each is a pandas DataFrame, a
            `datasets.Dataset` or a dict of lists.

    Raises:
        UserError: something in the recipe or the rows has to be mended; nothing was written.
    """
    place = Path(output or default_output(recipe)).expanduser().resolve()
    check_output(place, overwrite)
    arguments = training_arguments(recipe.train, place, seed=recipe.seeds[0])  # joins the other processes
    task, state = get_task(recipe.task), PartialState()
    data = read_rows(recipe, task, objects)
    check_processes(arguments, recipe, data)
    draws = {seed: draw_for(data, recipe.data, seed) for seed in recipe.seeds}
    for warning in data.warnings:
        logger.warning(warning)
    saves = recipe.train["save_strategy"] != "no"
    main = state.is_main_process
    with alone(place, main), writing(place, overwrite, resume, keep_partial=saves, main=main) as folders:
        state.wait_for_everyone()
        shared = Fitting.of(recipe, data, folders.work, resume=resume)
        recipe = shared.recipe
        others = baselines_of(data, draws, partial(shared.beside, folders.work))  # what is wrong there is said at once
        predicted: dict[int, Predictions] = {}
        facts: list[dict[str, Any]] = []
        for seed, rows in draws.items():
            fitting = replace(shared, tracking=Tracking(place.name, f"seed {seed}", folders.run / OURS / "tracker"))
            with metered(main) as energy:
                learnt = fitting.learn(rows, seed)
            logger.info("seed %d: trained in %.0f s, now judged by %d test rows", seed, learnt.facts["train_seconds"],
                        len(test_rows(data)))  # fmt: skip
            predicted[seed] = fitting.predict(learnt.model, test_rows(data))
            facts.append({**learnt.facts, **energy})
            if len(facts) == 1:
                proof = rows_to_prove(learnt.model, fitting, test_rows(data), predicted[seed])
                if state.is_main_process:
                    facts[0]["reload"] = save_and_prove(learnt.model, fitting, *proof, folders.run)
            state.wait_for_everyone()
            release_memory(learnt.model)
        if state.is_main_process:
            outcome = Outcome(recipe, data, draws, predicted, facts, others)
            write_run(folders.run, place.name, recipe, data, draws, outcome.measure(), outcome.predictions())
            keep_provenance(folders.work, folders.run / OURS)
        state.wait_for_everyone()
    state.wait_for_everyone()
    return Run(place)


def read_rows(recipe: Recipe, task: Task, objects: Mapping[str, Any] | None = None) -> Splits:
    """Load and split: validation and test rows are fixed here, before anything learns or is made.

    Raises:
        UserError: the rows are wrong, or do not have what the recipe asks of them.
    """
    with PartialState().main_process_first():
        data = load_and_examine(recipe, task, objects)
        data = apply_rows(data, recipe.data) if recipe.data.rows else split(data, recipe.data)
        data = apart(data, recipe.data)
    check_rows(recipe, data)
    return data


def load_and_examine(recipe: Recipe, task: Task, objects: Mapping[str, Any] | None = None) -> Splits:
    """Rows as the source has them; what the doctor says of them joins their warnings.

    Raises:
        UserError: the rows cannot be read, or there is no such model.
    """
    data = with_domains(load(recipe.data, task.kind, objects=objects), recipe.data, task.kind)
    if not PartialState().is_main_process:
        return data
    lengths = lengths_of(task, task.load_processor(recipe.model))
    found = examine(data, get_modality(task.kind), lengths).of("warn", "fail")
    mended: set[str] = set()  # said where `split` leaves such rows out
    if recipe.data.rows is None:
        mended = {"leaks", "groups"} | ({"near leaks"} if recipe.data.keep_together == "near" else set())
    said = [finding.told() for finding in found if finding.name not in mended]
    return replace(data, warnings=(*data.warnings, *said))


def check_rows(recipe: Recipe, data: Splits) -> None:
    """The rows have what the recipe asks of them.

    Raises:
        UserError: they do not.
    """
    metric, known = recipe.train.get("metric_for_best_model"), metric_names(data.problem_type)
    weights = recipe.data.class_weights
    select_by = recipe.train["select_by"]
    if select_by != "validation" and data.problem_type != "single_label_classification":
        raise UserError(f"train.select_by: {select_by} is of rows with one class each, not for {data.problem_type}; "
                        "leave it out, and set data.validation")  # fmt: skip
    by_validation = select_by == "validation"
    if recipe.train["early_stopping_patience"] is not None and by_validation and data.validation is None:
        raise UserError("train.early_stopping_patience: there are no validation rows; set data.validation or "
                        "data.validation_fraction")  # fmt: skip
    if metric is not None and metric not in known:
        raise UserError(f"train.metric_for_best_model: {metric} is not for {data.problem_type}; use {', '.join(known)}")
    if weights != "none" and data.problem_type == "regression":
        raise UserError("data.class_weights: regression has no classes; leave it out")
    unknown = sorted(set(weights) - set(data.labels)) if isinstance(weights, dict) else []
    if unknown:
        raise UserError(f"data.class_weights: no label {', '.join(unknown)}; found {', '.join(data.labels)}")


def default_output(recipe: Recipe) -> Path:
    """runs/<name of the data>."""
    source = str(recipe.data.name or recipe.data.train).rstrip("/")
    return Path("runs") / (Path(source).stem or "run")


def check_processes(arguments: TrainingArguments, recipe: Recipe, data: Splits) -> None:
    """A batch of the Trainer is shared out over the processes, so its size must divide by their number."""
    evaluates = selects(recipe.train["select_by"], data.validation) != LAST
    names = ["per_device_train_batch_size", *(["per_device_eval_batch_size"] if evaluates else [])]
    for name in names:
        size, count = getattr(arguments, name), arguments.world_size
        if size % count:
            raise UserError(
                f"train.{name}: {size} rows cannot be shared evenly over {count} processes; use a multiple of {count}"
            )


def rows_to_prove(
    model: nn.Module, fitting: Fitting, rows: Dataset, predicted: Predictions
) -> tuple[Dataset, Predictions]:
    """Some rows, spread over all, cut to what the model takes, with their predictions. Called by every process."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), bundle.MOST_ROWS)).astype(int))
    some = rows.select(chosen)
    windows = fitting.task.cut(some, fitting.processor)
    return windows, predicted[chosen] if windows is some else fitting.predict(model, windows)


def save_and_prove(
    model: nn.Module, fitting: Fitting, rows: Dataset, expected: Predictions, folder: Path
) -> dict[str, float]:
    """Save, and prove by a fresh process on rows of `rows_to_prove`; the largest difference by folder."""
    logger.info("saving, and loading it in a fresh process")
    task, processor, labels = fitting.task, fitting.processor, fitting.data.labels
    trusts, tolerance = fitting.recipe.model.trust_remote_code, bundle.tolerance_of(model)
    return {
        str(made.relative_to(folder)): bundle.prove(made, task, processor, rows, expected, labels, trusts, tolerance)
        for made in bundle.save(model, processor, folder)
    }


def keep_provenance(work: Path, folder: Path) -> None:
    """The lines that keepers wrote of made rows, of all seeds, in one file; none where nothing was made."""
    found = [file.read_text(encoding="utf-8") for file in sorted(work.glob("seed-*/*.jsonl"))]
    if found:
        (folder / "provenance.jsonl").write_text("".join(found), encoding="utf-8")


def write_run(
    folder: Path,
    title: str,
    recipe: Recipe,
    data: Splits,
    draws: Mapping[int, Dataset],
    metrics: dict[str, Any],
    predictions: pd.DataFrame,
) -> None:
    """Beside a saved model: the part that is ours, its report, and the card."""
    write_part(folder / OURS, recipe, data, draws, metrics, predictions)
    content = content_of(title, metrics, predictions, environment(), recipe)
    report.write(content, inputs_of(data, shown_ids(content)), folder / OURS)
    model_card(Run(folder), recipe=recipe).save(folder / "README.md")

"""Few-shot learning of classes that no model was trained on: the trunk of `hf-smalldata episodes`.

All rows are embedded once, then episodes are drawn from them (`evaluation.episodes`). A network as it is, the same one
after training on background classes, and plain features without any network answer the same episodes.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from accelerate import PartialState
from datasets import Dataset, concatenate_datasets
from torch import nn
from transformers import set_seed

from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.modality import get_modality, modality_of
from hf_smalldata.errors import UserError, listed
from hf_smalldata.evaluation.baselines import FEATURES
from hf_smalldata.evaluation.episodes import Episode, Metric, accuracies, draw_episodes
from hf_smalldata.evaluation.fixed_runs import read_runs
from hf_smalldata.evaluation.intervals import Array, Interval, paired_difference, t_interval
from hf_smalldata.nn.fold import hasten
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import OURS, check_place, environment, read_json, write_json
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import Task
from hf_smalldata.technique import Context, using
from hf_smalldata.techniques.fewshot.rows import features_of
from hf_smalldata.whole import whole

logger = logging.getLogger(__name__)

PRETRAINED, TRAINED = "as it is", "trained on background"
UNTRAINED = ("pooling",)  # techniques that learn nothing from classes: the network as it is has them too
FIXED = "fixed runs"


class Protocol(NamedTuple):
    """Which episodes are drawn: `ways` classes, each with some of `shots` rows to learn from and `queries` to ask."""

    ways: int = 5
    shots: tuple[int, ...] = (1, 5)
    queries: int = 15
    episodes: int = 600


@dataclass(frozen=True)
class Asked:
    """Rows, their episodes, and at how many shots these are judged, by title. The rows' labels are hidden: all 0."""

    rows: Dataset
    episodes: list[Episode]
    shots: dict[str, int]
    classes: tuple[str, ...]  # of all rows; names of the runs where these are fixed


def evaluate(
    recipe: Recipe,
    protocol: Protocol | None,
    *,
    background: str | None = None,
    runs: Path | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
    output: Path | None = None,
) -> dict[str, Any]:
    """Judge a network by episodes of new classes.

    Args:
        recipe: its `data` are the new classes, all splits together. Of its techniques those of `UNTRAINED` make the
            embedding, all with a `model` hook are applied in training on the background.
        protocol: of the episodes that are drawn; None to judge by fixed runs alone, `data` is not read then.
        background: a source of rows of other classes to train on first; it is read as `data` is.
        runs: a folder of fixed runs, see `evaluation.fixed_runs`.
        metric: by which the nearest prototype is found.
        seed: of the training and the draws.
        output: a new folder for results.json and the episodes.

    Returns:
        What results.json holds.

    Raises:
        UserError: something in the recipe or the rows has to be mended; nothing was written.
    """
    if output is not None:
        check_new(output)
    task = get_task(recipe.task)
    if task.kind not in FEATURES:
        raise UserError(f"episodes: rows need one class each, which those of {recipe.task} have not")
    learn = [each for each in using(recipe.techniques, "model") if each.name not in UNTRAINED]
    if learn and background is None:
        raise UserError(f"techniques.{learn[0].name}: learns from classes, and must not from those that are asked; "
                        "give --background")  # fmt: skip
    asked = [
        *([drawn(recipe, task, protocol, seed)] if protocol else []),
        *([fixed(runs, recipe, task)] if runs else []),
    ]
    known = None if background is None else load(recipe.data.model_copy(update={"name": background}), task.kind)
    check_new_classes(recipe, asked, known)
    measured: dict[str, dict[str, Array]] = {}
    seconds: dict[str, float] = {}
    for name in [PRETRAINED, *([TRAINED] if known is not None else [])]:
        began = time.perf_counter()
        features = embedded(recipe, task, asked, known if name == TRAINED else None, seed)
        measured[name] = _judged(asked, features, metric)
        seconds[name] = round(time.perf_counter() - began, 1)
    plain, make = FEATURES[task.kind]
    # images' features learn nothing from the first rows, so that these need not be read twice
    features = [make(each.rows.select([0]) if task.kind == "image" else each.rows, each.rows)[1] for each in asked]
    measured[plain] = _judged(asked, features, metric)
    results = _results(recipe, protocol, background, metric, seed, asked, measured, seconds)
    if output is not None and PartialState().is_main_process:
        write(output, results, asked, measured)
    return results


def drawn(recipe: Recipe, task: Task, protocol: Protocol, seed: int) -> Asked:
    """The labelled rows of all splits, and episodes drawn from them."""
    data = load(recipe.data, task.kind)
    rows = concatenate_datasets([part for part in (data.train, data.validation, data.test) if part is not None])
    for warning in data.warnings:
        logger.warning(warning)
    if data.problem_type != "single_label_classification":
        raise UserError(f"episodes: rows need one class each, these are for {data.problem_type}")
    labels: list[int] = rows["label"][:]
    most = max(protocol.shots)
    episodes = draw_episodes(labels, data.labels, protocol.ways, most, protocol.queries, protocol.episodes, seed)
    shots = {f"{protocol.ways}-way {count}-shot": count for count in protocol.shots}
    return Asked(_hidden(rows), episodes, shots, data.labels)


def fixed(folder: Path, recipe: Recipe, task: Task) -> Asked:
    """The files of fixed runs."""
    modality = get_modality(task.kind)
    if not modality.a_file_each:
        raise UserError(f"--runs: holds images or sounds, a file each, not rows of {recipe.task}")
    names, files, episodes = read_runs(folder)
    rows = modality.given([folder / file for file in files], recipe.data)
    rows = rows.remove_columns("id").add_column("id", files)
    return Asked(_hidden(rows), episodes, {FIXED: 1}, tuple(names))


def embedded(recipe: Recipe, task: Task, asked: Sequence[Asked], known: Splits | None, seed: int) -> list[Array]:
    """Embeddings (N, d) of the rows that are asked, by the network as it is, or once it has learnt from `known`."""
    learns = known.train if known is not None else asked[0].rows
    labels, problem = (known.labels, known.problem_type) if known is not None else (("class",), None)
    set_seed(seed)
    recipe = recipe if known is None else recipe.settled()  # what is not trained needs no place in the inputs
    processor = task.load_processor(recipe.model)
    spec = task.settled(recipe.model, processor, learns)
    processor = task.load_processor(spec) if spec != recipe.model else processor
    model: nn.Module = task.load_model(spec, labels, problem or "single_label_classification")
    model = model.to(PartialState().device)
    with tempfile.TemporaryDirectory(prefix="episodes-") as work:
        context = Context(task, spec, processor, learns, None, labels, problem or "single_label_classification", seed,
                          Path(work), _refuse)  # fmt: skip
        pools = hasten(model)
        for technique in using(recipe.techniques, "model"):
            if technique.name in UNTRAINED:
                model = model if pools else technique.model(model, context)
            elif known is not None:
                model = technique.model(model, context)
        return [features_of(model, context, each.rows)[0].double().numpy() for each in asked]


def check_new_classes(recipe: Recipe, asked: Sequence[Asked], known: Splits | None) -> None:
    """Classes that were trained on say nothing of new ones.

    Names are only warned of, since `1` may mean two things; equal rows are refused.

    Raises:
        UserError: rows of the background are asked.
    """
    metrics = Path(recipe.model.name) / OURS / "metrics.json"
    names = {name for each in asked if FIXED not in each.shots for name in each.classes}
    learnt = {"the background": known.labels if known is not None else (),
              "the Run": read_json(metrics)["labels"] if metrics.is_file() else ()}  # fmt: skip
    for where, labels in learnt.items():
        if shared := sorted(names.intersection(labels)):
            logger.warning("%d classes have names of classes that %s was trained on, so they may be no new ones: %s",
                           len(shared), where, listed(shared, 5))  # fmt: skip
    if known is None:
        return
    modality = modality_of(known.train)
    of_background = set(modality.ties(known.train))
    for each in asked:
        ties = zip(each.rows["id"], modality.ties(each.rows), strict=True)
        both = [name for name, tie in ties if tie in of_background]
        if both:
            raise UserError(
                f"--background: {len(both)} of {len(each.rows)} rows that are asked are among its rows too, so their "
                f"classes are not new: {listed(both, 5)}; leave these rows out of one of them"
            )


def write(output: Path, results: dict[str, Any], asked: Sequence[Asked], measured: Mapping[str, Any]) -> None:
    """results.json, and a line an episode in episodes.jsonl: the ids of its rows and what everyone scored."""
    with whole(output) as partial:
        partial.mkdir()
        write_json(partial / "results.json", {**results, "environment": environment()})
        with (partial / "episodes.jsonl").open("w", encoding="utf-8") as out:
            for each in asked:
                ids = np.asarray(each.rows["id"][:], dtype=object)
                for at, episode in enumerate(each.episodes):
                    scores = {
                        name: {title: found[title][at] for title in each.shots} for name, found in measured.items()
                    }
                    line = {"support": ids[episode.support].tolist(), "query": ids[episode.query].tolist(),
                            "target": episode.target.tolist(), "accuracy": scores}  # fmt: skip
                    out.write(json.dumps(line, ensure_ascii=False) + "\n")


def check_new(output: Path) -> None:
    """Nothing may lie where results are to be written.

    Raises:
        UserError: something does, or nothing may be written there.
    """
    check_place(output)
    if output.exists():
        raise UserError(f"--output: {output} exists; choose another folder")


def _judged(asked: Sequence[Asked], features: Sequence[Any], metric: Metric) -> dict[str, Array]:
    """The accuracy in each episode, by title."""
    return {
        title: accuracies(own, each.episodes, count, metric)
        for each, own in zip(asked, features, strict=True)
        for title, count in each.shots.items()
    }


def _results(
    recipe: Recipe,
    protocol: Protocol | None,
    background: str | None,
    metric: Metric,
    seed: int,
    asked: Sequence[Asked],
    measured: Mapping[str, Mapping[str, Array]],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    best = TRAINED if TRAINED in measured else PRETRAINED
    versus = [
        {"title": title, "a": best, "b": other,
         "difference": _bounds(paired_difference(measured[best][title], found[title]))}
        for other, found in measured.items() if other != best for title in found
    ]  # fmt: skip
    return {
        "task": recipe.task, "model": recipe.model.name, "data": recipe.data.name if protocol else None,
        "background": background, "metric": metric, "seed": seed,
        "protocol": protocol._asdict() if protocol else None,
        "techniques": [{each.name: each.model_dump(mode="json")} for each in recipe.techniques],
        "classes": len(asked[0].classes) if protocol else None, "rows": len(asked[0].rows) if protocol else None,
        "results": {name: {title: _bounds(t_interval(values)) for title, values in found.items()}
                    for name, found in measured.items()},
        "errors_by_run": {name: dict(zip(asked[-1].classes, (1 - found[FIXED]).round(6).tolist(), strict=True))
                          for name, found in measured.items() if FIXED in found},
        "versus": versus,
        "seconds": dict(seconds),
    }  # fmt: skip


def _bounds(interval: Interval) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in interval._asdict().items()}


def _hidden(rows: Dataset) -> Dataset:
    """Rows whose labels no technique can see."""
    bare = rows.remove_columns("label") if "label" in rows.column_names else rows
    return bare.add_column("label", [0] * len(bare))


def _refuse(rows: Dataset) -> NoReturn:
    raise UserError("episodes: techniques that train models of their own are of no use here; leave them out")

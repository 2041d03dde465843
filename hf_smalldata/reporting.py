"""The report of a Run or a study: what they hold is shown, nothing is computed anew but what a Run alone lacks."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image

from hf_smalldata import report
from hf_smalldata.data.load import Splits, load
from hf_smalldata.data.modality import modality_of
from hf_smalldata.data.rows import contents
from hf_smalldata.destination import public_name
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.diagnosis import diagnose
from hf_smalldata.evaluation.metrics import metric_names
from hf_smalldata.evaluation.report import disclosed, made_rows, verdict
from hf_smalldata.evaluation.summary import MODEL, ROW_SCORE, from_table
from hf_smalldata.public import public_recipe
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import OURS, Run, read_json
from hf_smalldata.tasks import get_task
from hf_smalldata.whole import check_makeable

SHOWN_PX = 640  # an image for a report, which shows it smaller still

logger = logging.getLogger(__name__)


def write_report(
    folder: str | Path,
    objects: Mapping[str, Any] | None = None,
    rows: bool = True,
    output: str | Path | None = None,
    plots: bool = False,
) -> list[Path]:
    """report.html and report.md of a Run (in its `smalldata/`) or a study, from what lies in its folder.

    Texts and images of the rows that are shown are read again from where the recipe says; rows that are gone or have
    changed since are shown by their id.

    Args:
        folder: of a Run or a study.
        objects: rows from Python, where the Run or study was made of such.
        rows: show texts and images; without, a report can be handed on where the rows may not.
        output: another folder to write to.
        plots: write each plot as a PNG as well.

    Raises:
        UserError: neither a Run nor a study, or an output that cannot be made.
    """
    if output is not None:
        check_makeable(Path(output).expanduser())
    place = Path(folder).expanduser()
    if (place / "results.json").is_file():
        content = read_json(place / "results.json")
        plan = read_json(place / "study.json")
        recipe = Recipe.parse(plan["recipes"][content["diagnosis"]["variant"]])
        recorded, target = content["row_contents"], place
    else:
        run = Run.open(place, model=False)
        content = run_content(run)
        recipe = Recipe.parse(yaml.safe_load(run.part("recipe.yaml").read_text(encoding="utf-8")))
        recorded, target = run.rows["content"], place / OURS
    inputs = _inputs_again(recipe, shown_ids(content), recorded, objects) if rows else {}
    target = target if output is None else Path(output).expanduser()
    files = [*report.write(content, inputs, target)]
    for name in _plots(content) if plots else ():
        files.append(target / f"{name}.png")
        report.figure_png(content, name, files[-1])
    return files


def _plots(content: Mapping[str, Any]) -> list[str]:
    """Plots that there is something to draw for."""
    there = {
        "results": content["results"],
        "comparisons": content["comparisons"],
        "curves": content["curves"],
        "reliability": content["diagnosis"]["reliability"],
    }
    return [name for name, found in there.items() if found]


def run_content(run: Run) -> dict[str, Any]:
    """What a Run says, in the form that a report takes."""
    environment = read_json(run.part("environment.json"))
    recipe = Recipe.parse(yaml.safe_load(run.part("recipe.yaml").read_text(encoding="utf-8")))
    return content_of(run.folder.resolve().name, run.metrics, run.predictions, environment, recipe)


def content_of(
    title: str, metrics: Mapping[str, Any], predictions: pd.DataFrame, environment: Mapping[str, Any], recipe: Recipe
) -> dict[str, Any]:
    """The same from its parts: metrics.json, predictions.parquet, environment.json and recipe.yaml."""
    labels, problem, rows = metrics["labels"], metrics["problem_type"], metrics["rows"]
    first = predictions[predictions["seed"] == metrics["seeds"][0]]
    train = {"budget": "all", "train_rows": rows["train"], "ensemble": None}
    facts = [{"repeat": 0, "fold": 0, **run} for run in metrics["runs"]]
    return {
        "kind": "run",
        "title": title,
        "task": metrics["task"],
        "model": public_name(metrics["model"]),
        "labels": labels,
        "problem_type": problem,
        "main_metric": metrics["main_metric"],
        "metrics": list(metric_names(problem)),
        "row_score": ROW_SCORE[problem],
        "setting": {
            "seeds": metrics["seeds"], "budgets": ["all"], "folds": 0, "repeats": 1, "rows": rows,
            "classes": metrics["classes"], "interval": metrics["interval"],
        },
        "results": [
            {"variant": title if who == MODEL else who, "baseline": who != MODEL, **train, "metrics": values,
             "runs": facts if who == MODEL else []}
            for who, values in metrics["results"].items()
        ],
        "comparisons": [
            {"kind": "baseline", "what": name, "a": title, "b": name, "budget": "all",
             "difference": found["over_rows_and_seeds"], "p": None, "adjusted_p": None,
             "verdict": verdict(found["over_rows_and_seeds"]), "needed": None}
            for name, found in metrics["versus"].items()
        ],
        "gate": None,
        "curves": [],
        "diagnosis": {
            "variant": title, "budget": "all",
            "rows": metrics.get("judged_by", f"test rows, seed {metrics['seeds'][0]}"),
            **diagnose(*from_table(first, labels, problem), labels, problem),
        },
        "calibration": metrics.get("calibration"),
        "label_errors": metrics.get("label_errors"),
        "notes": [*metrics.get("notes", []), *made_rows(metrics), *disclosed(metrics)],
        "environment": environment,
        "recipes": {title: public_recipe(recipe).to_yaml()},
    }  # fmt: skip


def shown_ids(content: Mapping[str, Any]) -> set[str]:
    """Rows that a report shows one by one."""
    errors = (content["diagnosis"] or {}).get("errors") or []
    return {each["id"] for each in [*errors, *(content["label_errors"] or [])]}


def inputs_of(data: Splits, ids: Collection[str]) -> dict[str, Any]:
    """Texts, pairs, images or sounds of rows by id."""
    found: dict[str, Any] = {}
    for rows in (data.train, data.validation, data.test):
        at = [index for index, row_id in enumerate(rows["id"][:] if rows is not None else ()) if row_id in ids]
        for row in rows.select(at) if rows is not None else ():
            found[row["id"]] = value = modality_of(rows).shown(row)
            if isinstance(value, Image.Image):  # forty photos of a camera are gigabytes
                value.thumbnail((SHOWN_PX, SHOWN_PX))
    return found


def _inputs_again(
    recipe: Recipe, ids: Collection[str], recorded: Mapping[str, str], objects: Mapping[str, Any] | None
) -> dict[str, Any]:
    try:
        data = load(recipe.data, get_task(recipe.task).kind, objects=objects)
    except UserError as error:
        logger.warning("rows are shown by their ids alone, since the data could not be read again: %s", error)
        return {}
    now: dict[str, str] = {}
    for rows in (data.train, data.validation, data.test):
        if rows is not None:
            chosen = [index for index, row_id in enumerate(rows["id"][:]) if row_id in ids]
            now |= contents(rows.select(chosen), data)
    same = {row_id for row_id, digest in now.items() if recorded.get(row_id) == digest[:16]}
    if len(same) < len(ids):
        logger.warning("%d rows are gone or have changed; they are shown by their ids alone", len(ids) - len(same))
    return inputs_of(data, same)

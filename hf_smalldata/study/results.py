"""results.json: all that a study says, made from its Runs alone. `report` shows it, nothing is computed there."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hf_smalldata.data.load import Splits
from hf_smalldata.data.rows import contents
from hf_smalldata.data.strata import class_counts
from hf_smalldata.destination import public_name
from hf_smalldata.evaluation.calibration import calibrate
from hf_smalldata.evaluation.curve import forecast, learning_curve
from hf_smalldata.evaluation.diagnosis import diagnose
from hf_smalldata.evaluation.intervals import Interval
from hf_smalldata.evaluation.label_errors import label_errors
from hf_smalldata.evaluation.metrics import greater_is_better, metric_names
from hf_smalldata.evaluation.report import show
from hf_smalldata.evaluation.summary import MODEL, ROW_SCORE, plain
from hf_smalldata.public import public_recipe
from hf_smalldata.reporting import shown_ids
from hf_smalldata.run import environment
from hf_smalldata.study.judged import Judged
from hf_smalldata.study.plan import ALL, Plan
from hf_smalldata.study.soup import soup_content
from hf_smalldata.study.verdicts import JudgedBy, comparisons, resolution_note

BAND_LEVEL = 0.9  # of learning curves and forecasts
BAND_POINTS = 40
FEWEST_BUDGETS = 3  # that a power law can be fitted to
RUN_FACTS = ("train_rows", "train_seconds", "epochs", "steps", "restarts", "collapsed", "parameters",
             "trained_parameters", "peak_memory_bytes", "peak_gpu_bytes")  # fmt: skip


def analyse(plan: Plan, data: Splits, judged: JudgedBy, title: str, more: int | None = None) -> dict[str, Any]:
    """What the Runs of a plan say together.

    Args:
        plan: what was studied.
        data: its rows, before folds were cut.
        judged: all its Runs.
        title: of the report.
        more: further labelled rows to forecast.
    """
    main, largest = judged[plan.main, plan.budgets[-1]], plan.budgets[-1]
    recipe = plan.variants[plan.main]
    compared = comparisons(plan, judged)
    one_model = main.of_one_model()
    inputs = (*main.arrays(one_model), main.labels)
    content = {
        "kind": "study",
        "title": title,
        "task": recipe.task,
        "model": ", ".join(dict.fromkeys(public_name(each.model.name) for each in plan.variants.values())),
        "labels": list(main.labels),
        "problem_type": main.problem_type,
        "main_metric": main.metrics[0]["main_metric"],
        "metrics": list(metric_names(main.problem_type)),
        "row_score": ROW_SCORE[main.problem_type],
        "setting": _setting(plan, data, main),
        "results": _results(plan, judged),
        "comparisons": compared,
        "gate": None,
        "curves": [_curve(name, plan, judged, more) for name in plan.variants] if len(plan.budgets) > 1 else [],
        "diagnosis": {
            "variant": plan.main,
            "budget": largest,
            "rows": "out-of-fold rows" if main.has_folds else f"test rows, seed {main.cells[0].seed}",
            **diagnose(*inputs, main.problem_type),
        },
        "calibration": calibration_of(main),
        "label_errors": label_errors_of(main),
        "notes": [*data.warnings, *_notes(plan, judged, compared)],
        "environment": environment(),
        "recipes": {name: public_recipe(each).to_yaml() for name, each in plan.variants.items()},
    }
    return {**content, "row_contents": _contents(data, shown_ids(content))}


def _setting(plan: Plan, data: Splits, main: Judged) -> dict[str, Any]:
    rows = main.metrics[0]["rows"]
    judged = {row_id for table in main.tables for row_id in table["id"]}
    pool = class_counts(data.train, data.labels, data.problem_type)
    test = pool if main.has_folds else class_counts(data.test, data.labels, data.problem_type)
    return {
        "seeds": list(plan.seeds),
        "budgets": list(plan.budgets),
        "folds": plan.folds,
        "repeats": plan.repeats,
        "rows": {"pool": len(data.train), "validation": rows["validation"], "test": len(judged)},
        "classes": {name: {"pool": pool[name], "test": test[name]} for name in pool},
        "interval": _interval_text(plan),
    }


def _interval_text(plan: Plan) -> str:
    seeds = f"{len(plan.seeds)} seed{'s' if len(plan.seeds) > 1 else ''}"
    if plan.folds:
        often = f" repeated {plan.repeats} times" if plan.repeats > 1 else ""
        return f"95 %, corrected resampled t over {plan.folds} folds{often}, mean of {seeds} in each"
    return f"95 %, Student's t over {seeds}" if len(plan.seeds) > 1 else "95 %, Wilson or bootstrap over test rows"


def _results(plan: Plan, judged: JudgedBy) -> list[dict[str, Any]]:
    """A line for each variant and budget, then the baselines: those of the first variant's rows."""
    lines = []
    for budget in plan.budgets:
        for name in plan.variants:
            one = judged[name, budget]
            lines.append(
                _line(name, budget, one, MODEL, [_facts(*each) for each in zip(one.cells, one.metrics, strict=True)])
            )
            lines[-1]["ensemble"] = one.ensemble_metrics()
        one = judged[plan.main, budget]
        lines += [_line(name, budget, one, name, []) for name in one.metrics[0]["results"] if name != MODEL]
    return lines


def _line(name: str, budget: str, one: Judged, who: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    metrics = metric_names(one.problem_type)
    return {
        "variant": name,
        "baseline": who != MODEL,
        "budget": budget,
        "train_rows": round(np.mean([each["rows"]["train"] for each in one.metrics])),
        "metrics": {metric: plain(one.interval(metric, who)) for metric in metrics},
        "ensemble": None,
        "runs": runs,
    }


def _facts(cell: Any, metrics: Mapping[str, Any]) -> dict[str, Any]:
    run = metrics["runs"][0]
    values = {name: each["value"] for name, each in metrics["results"][MODEL].items()}
    return {"seed": cell.seed, "repeat": max(cell.repeat, 0), "fold": max(cell.fold, 0),
            **{name: run[name] for name in RUN_FACTS if name in run}, **values}  # fmt: skip


def _curve(name: str, plan: Plan, judged: JudgedBy, more: int | None) -> dict[str, Any]:
    """The learning curve of a variant, with band and forecast where there are budgets enough for a power law."""
    ones = [judged[name, budget] for budget in plan.budgets]
    metric = ones[0].metrics[0]["main_metric"]
    rows = np.array([np.mean([each["rows"]["train"] for each in one.metrics]) for one in ones])
    values = np.array([[each["results"][MODEL][metric]["value"] for each in one.metrics] for one in ones]).T  # (S, K)
    points = [
        {"budget": budget, "train_rows": round(count), **plain(one.interval(metric))}
        for budget, count, one in zip(plan.budgets, rows, ones, strict=True)
    ]
    content: dict[str, Any] = {"variant": name, "level": BAND_LEVEL, "points": points, "band": [], "forecast": None}
    sizes, columns = np.unique(rows, return_index=True)  # "all" may draw no more rows than the budget before it
    if len(sizes) < FEWEST_BUDGETS or len(values) < 2:
        return content
    further = more or round(sizes[-1])
    at = np.geomspace(sizes[0], sizes[-1] + further, BAND_POINTS).clip(min=sizes[0])  # no rounding below the first
    best, worst = (1.0, 0.0) if greater_is_better(metric) else (0.0, math.inf)
    band = learning_curve(sizes, values[:, columns], at, best, worst, BAND_LEVEL)
    content["band"] = [
        {"train_rows": float(n), **plain(Interval(*bounds))} for n, *bounds in zip(at, *band, strict=True)
    ]
    gain = plain(forecast(sizes, values[:, columns], further, best, worst, BAND_LEVEL))
    content["forecast"] = {"more": further, "gain": gain, "sentence": f"{further} more labels: {show(gain, sign=True)}"}
    return content


def calibration_of(one: Judged) -> dict[str, Any] | None:
    """Temperature and conformal thresholds from the out-of-fold predictions of single models; None without folds."""
    if not one.has_folds or one.problem_type != "single_label_classification":
        return None
    runs = zip(one.cells, one.tables, strict=True)
    places = np.concatenate([np.full(len(table), f"{cell.repeat}:{cell.fold}") for cell, table in runs])
    ids, references, predictions = one.arrays(pd.concat(one.tables, ignore_index=True))
    return calibrate(predictions, references, places, np.array(ids))


def label_errors_of(one: Judged) -> list[dict[str, Any]] | None:
    """Candidates among rows judged by models that had not learnt from them; None for regression and tokens."""
    if one.problem_type in ("regression", "token_classification"):
        return None
    table = one.ensemble()
    table = one.tables[0] if table is None else table
    return label_errors(*one.arrays(table), one.labels, one.problem_type)


def _contents(data: Splits, ids: Collection[str]) -> dict[str, str]:
    """Digests of rows that a report shows, so that it can tell later whether they are still the same."""
    found: dict[str, str] = {}
    for rows in (data.train, data.validation, data.test):
        if rows is not None:
            found |= contents(rows.select([at for at, row_id in enumerate(rows["id"][:]) if row_id in ids]), data)
    return {row_id: digest[:16] for row_id, digest in found.items()}


def _notes(plan: Plan, judged: JudgedBy, compared: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    main = judged[plan.main, plan.budgets[-1]]
    if any(table is not None for table in main.soups):
        notes.append(soup_content(main)["sentence"])
    said = resolution_note(compared, judged, plan)
    if said is not None:
        notes.append(said)
    if len(plan.seeds) > 1 and plan.budgets != (ALL,):
        notes.append("An ensemble averages seeds that learnt from different draws: together from more rows than one.")
    if len(plan.seeds) == 1 and not plan.folds:
        notes.append("One seed says nothing of other draws of rows: no technique can be called helped or hurt.")
    for (name, budget), one in judged.items():
        runs = [each["runs"][0] for each in one.metrics]
        collapsed = sum(run["collapsed"] for run in runs)
        restarts = sum(run["restarts"] for run in runs)
        if collapsed:
            notes.append(f"{name}, {budget}: {collapsed} of {len(runs)} Runs gave one constant answer, twice.")
        elif restarts:
            notes.append(
                f"{name}, {budget}: {restarts} of {len(runs)} Runs were started once more: one constant answer."
            )
    return notes

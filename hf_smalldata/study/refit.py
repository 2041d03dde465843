"""The refit: what a study favours, trained on all labelled rows and saved as an ordinary Run.

Cross-validation measured a way of training on every row without spending one on a test; this trains once more that way
on all of them. Its figures are those out of fold (or of the source's own test rows), its logits are divided by the
temperature that the folds gave, and the thresholds for sets of labels lie beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_smalldata.data.load import Splits
from hf_smalldata.data.rows import rows_record
from hf_smalldata.data.sample import split_validation
from hf_smalldata.data.strata import class_counts, class_names
from hf_smalldata.evaluation.diagnosis import per_class
from hf_smalldata.evaluation.entities import per_type
from hf_smalldata.evaluation.metrics import MAIN_METRIC, metric_names
from hf_smalldata.evaluation.summary import MODEL, ROW_SCORE, plain, tags_of
from hf_smalldata.fitting import Fitting, Learnt
from hf_smalldata.outcome import Outcome, baselines_of
from hf_smalldata.pipeline import rows_to_prove, save_and_prove, write_run
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import Run, writing
from hf_smalldata.study.judged import Judged
from hf_smalldata.study.plan import ALL, Plan, budget_settings
from hf_smalldata.study.results import calibration_of, label_errors_of
from hf_smalldata.study.soup import soup_content, souped
from hf_smalldata.study.verdicts import JudgedBy
from hf_smalldata.study.workbench import Workbench
from hf_smalldata.training.average import Average

logger = logging.getLogger(__name__)


def refit(folder: Path, bench: Workbench, judged: JudgedBy, results: Mapping[str, Any], soup: bool = False) -> Run:
    """Train what the study favours on all labelled rows but test rows; `model/` in its folder becomes an ordinary Run.

    Args:
        folder: the study's.
        bench: with the plan, its gate chosen, and the rows.
        judged: the Runs of the study.
        results: what they say.
        soup: average the refits of all seeds, if the average of a fold's seeds was not worse out of fold.
    """
    plan, place, state = bench.plan, folder / "model", PartialState()
    variant = favoured(plan, results["comparisons"])
    one, recipe = judged[variant, plan.budgets[-1]], _on_all_rows(plan.variants[variant], plan.seeds[0])
    data = _rows(bench, recipe)
    seed, judges = recipe.seeds[0], data.train if data.test is None else data.test
    mixed = soup_content(one) if soup else None
    key = _key(recipe, data, one, mixed)
    if place.is_dir() and Run.open(place).metrics.get("key") == key:
        return Run(place)  # the very same is there
    logger.info("refit: %s on %d rows", variant, len(data.train))
    with writing(place, overwrite=True, resume=False, keep_partial=False, main=state.is_main_process) as folders:
        state.wait_for_everyone()
        fitting = Fitting.of(recipe, data, folders.work)
        recipe, draws = fitting.recipe, {seed: data.train}
        others = None if data.test is None else baselines_of(data, draws, partial(fitting.beside, bench.beside))
        learnt = _learn(fitting, data, plan.seeds if mixed and mixed["kept"] else [seed])
        one = souped(one) if mixed and mixed["kept"] else one
        calibration = calibration_of(one)
        if calibration is not None:
            calibration["in_weights"] = fitting.scale(learnt.model, calibration["temperature"])
        predicted = fitting.predict(learnt.model, judges)
        proof = rows_to_prove(learnt.model, fitting, judges, predicted)
        if state.is_main_process:
            learnt.facts["reload"] = save_and_prove(learnt.model, fitting, *proof, folders.run)
            if others is None:
                metrics, table = _out_of_fold(recipe, data, one, learnt.facts, results), one.of_one_model()
                table["seed"] = seed
            else:
                outcome = Outcome(recipe, data, draws, {seed: predicted}, [learnt.facts], others)
                metrics, table = outcome.measure(), outcome.predictions()
            metrics |= {"calibration": calibration, "label_errors": label_errors_of(one) if one.has_folds else None}
            metrics |= {"key": key, "soup": mixed}
            write_run(folders.run, variant, recipe, data, draws, metrics, table)
        state.wait_for_everyone()
    state.wait_for_everyone()
    return Run(place)


def favoured(plan: Plan, compared: Sequence[Mapping[str, Any]]) -> str:
    """The variant to ship: what the gate let through; of several recipes the first, unless one is better than it."""
    if plan.gate:
        return plan.gate
    better = [each for each in compared if (each["kind"], each["budget"], each["verdict"])
              == ("recipe", plan.budgets[-1], "better")]  # fmt: skip
    return str(max(better, key=lambda each: each["difference"]["value"])["a"]) if better else plan.main


def _learn(fitting: Fitting, data: Splits, seeds: Sequence[int]) -> Learnt:
    """The model of the one seed, or the average of several."""
    average = Average()
    for seed in seeds:
        one = replace(fitting, recipe=fitting.recipe.model_copy(update={"seeds": (seed,)}))
        learnt = one.learn(data.train, seed)
        average.add(learnt.model)
    if len(seeds) > 1:
        average.put_into(learnt.model)
        learnt.facts.update(seed=seeds[0], averaged_seeds=list(seeds))
    return learnt


def _key(recipe: Recipe, data: Splits, one: Judged, mixed: Mapping[str, Any] | None) -> str:
    """Digest of all that the refit depends on: recipe, rows, and what the study measured."""
    measured = [each["results"][MODEL] for each in one.metrics]
    rows = rows_record(data, {recipe.seeds[0]: data.train})
    return hashlib.sha256(json.dumps([recipe.as_dict(), rows, measured, mixed], sort_keys=True).encode()).hexdigest()


def _on_all_rows(recipe: Recipe, seed: int) -> Recipe:
    data = recipe.data.model_copy(update=budget_settings(ALL))
    return recipe.model_copy(update={"data": data, "seeds": (seed,)})


def _rows(bench: Workbench, recipe: Recipe) -> Splits:
    """All rows to learn from; validation rows held out where the recipe wants them."""
    if not bench.plan.folds:
        return bench.parts(recipe)[0]
    return split_validation(bench.whole(recipe), recipe.data)


def _out_of_fold(
    recipe: Recipe, data: Splits, one: Judged, facts: Mapping[str, Any], results: Mapping[str, Any]
) -> dict[str, Any]:
    """metrics.json of a model that learnt from every row: the figures are those of its fold models."""
    names, others = metric_names(data.problem_type), [name for name in one.metrics[0]["results"] if name != MODEL]
    whole = class_counts(data.train, data.labels, data.problem_type)
    table = one.of_one_model()
    _, references, predictions = one.arrays(table)
    differences = {name: plain(one.compare(one, other_who=name).difference) for name in others}
    metrics: dict[str, Any] = {
        "task": recipe.task,
        "model": recipe.model.name,
        "labels": list(data.labels),
        "rows": {"train": len(data.train), "pool": len(data.train),
                 "validation": 0 if data.validation is None else len(data.validation), "test": len(table)},
        "classes": {name: {"pool": count, "train": count, "test": count} for name, count in whole.items()},
        "notes": list(data.warnings),
        "problem_type": data.problem_type,
        "main_metric": MAIN_METRIC[data.problem_type],
        "seeds": list(recipe.seeds),
        "interval": f"{results['setting']['interval']}; out of fold: this model itself learnt from every row",
        "judged_by": "out-of-fold rows",
        "results": {who: {name: plain(one.interval(name, who)) for name in names} for who in (MODEL, *others)},
        "versus": {name: {"score": ROW_SCORE[data.problem_type], "over_rows_and_seeds": found, "over_seeds": found}
                   for name, found in differences.items()},
        "runs": [{**facts, **{name: one.interval(name).value for name in names}}],
        "baseline_seconds": 0.0,
        "peak_memory_bytes": facts["peak_memory_bytes"],
    }  # fmt: skip
    if data.problem_type == "single_label_classification":
        metrics["per_class"] = per_class(predictions.argmax(-1), references, data.labels)
    if data.problem_type == "token_classification":
        names = class_names(data.labels, data.problem_type)
        metrics["per_class"] = per_type(tags_of(predictions), references, names)
    return metrics

"""A study from beginning to end: its Runs, what they say together, and what to ship. It reads from top to bottom."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_smalldata.errors import Problems, UserError
from hf_smalldata.recipe import Recipe
from hf_smalldata.reporting import write_report
from hf_smalldata.run import check_place
from hf_smalldata.study import store
from hf_smalldata.study.executors import Executor, in_process
from hf_smalldata.study.gate import candidates, gate_content, gated_yaml, with_gate
from hf_smalldata.study.judged import Judged
from hf_smalldata.study.plan import Cell, Plan, check_rows, make_plan
from hf_smalldata.study.progress import Progress
from hf_smalldata.study.refit import refit
from hf_smalldata.study.results import analyse
from hf_smalldata.study.verdicts import JudgedBy, comparisons
from hf_smalldata.study.workbench import Workbench, rows_digest
from hf_smalldata.whole import alone

logger = logging.getLogger(__name__)


def study(
    recipes: Recipe | Mapping[str, Recipe],
    output: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    budgets: Sequence[str | int | float] | None = None,
    folds: int = 0,
    repeats: int = 1,
    ablate: bool = False,
    more: int | None = None,
    refit_model: bool = False,
    soup: bool = False,
    executor: Executor = in_process,
    objects: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> store.Study:
    """Run recipes over seeds, label budgets and folds on the same rows, and say what helped.

    Called again with the same output it goes on: a finished Run is never run twice.

    Args:
        recipes: one, or several by name; the first is the one that others are compared with.
        output: the study's folder.
        seeds: default: the first recipe's, or 0 to 4 if it has fewer than three.
        budgets: labels a class, shares of the rows below 1, or "all".
        folds: of stratified, grouped cross-validation over the training rows; test rows of the source stay apart.
        repeats: of the cross-validation.
        ablate: compare the recipe with itself without each technique, and write gated.yaml.
        more: further labelled rows to forecast; default: as many again as the largest budget.
        refit_model: train what the study favours on all labelled rows, as an ordinary Run in `model/`.
        soup: with folds and a refit: average the refits of all seeds where that is not worse out of fold.
        executor: where Runs are made, see `executors`.
        objects: rows from Python instead of files, as in `pipeline.train`.
        progress: the live view.

    Raises:
        UserError: it cannot be done so, or Runs failed; those that are finished are kept.
    """
    folder, state = Path(output).expanduser().resolve(), PartialState()
    if not folder.is_dir():
        check_place(folder)
    named = {"recipe": recipes} if isinstance(recipes, Recipe) else dict(recipes)
    given = None if budgets is None else [str(budget) for budget in budgets]
    plan = make_plan(named, seeds, given, folds, repeats, ablate)
    if soup and not (folds and refit_model and executor is in_process):
        raise UserError("--soup needs --folds, to tell whether the average is worse, --refit, and one process")
    bench = Workbench(plan, folder / ".work", folder, objects, soup)
    check_rows(plan, {name: bench.all_parts(recipe) for name, recipe in plan.variants.items()})
    data = bench.whole(plan.variants[plan.main])
    for warning in data.warnings:
        logger.warning(warning)
    with alone(folder, state.is_main_process):
        if state.is_main_process:
            store.begin(folder, plan, rows_digest(data))
        state.wait_for_everyone()
        with progress or Progress() as shown:
            judged: JudgedBy = _make(folder, bench, executor, shown)
            if ablate:
                judged = _gate(folder, bench, executor, shown, judged)
        plan = bench.plan
        if state.is_main_process:
            results = analyse(plan, data, judged, folder.name, more)
            if ablate:
                results["gate"] = gate_content(plan, results["comparisons"])
                store.replace_text(folder / "gated.yaml", gated_yaml(plan, results))
            store.replace_json(folder / store.RESULTS, results)
        state.wait_for_everyone()
        if refit_model:
            refit(folder, bench, judged, store.Study(folder).results, soup)
        if state.is_main_process:
            write_report(folder, objects)
            shutil.rmtree(folder / ".work", ignore_errors=True)
        state.wait_for_everyone()
    return store.Study(folder)


def _make(folder: Path, bench: Workbench, executor: Executor, shown: Progress) -> JudgedBy:
    """Make the Runs that are not there, read all; on every process.

    Raises:
        Problems: Runs that failed.
    """
    state = PartialState()
    places = {cell: store.place_of(folder, cell, bench.key(cell)) for cell in bench.plan.cells()}
    pending = _pending(bench, places)
    state.wait_for_everyone()  # all have looked before any writes
    if state.is_main_process:
        shown.start(len(places), len(places) - len(pending))
        for cell, place in places.items():
            if cell not in pending:
                shown.note(cell, store.read_metrics(place))
    failed = []
    for cell, files in executor(bench, pending) if pending else ():
        if isinstance(files, UserError):
            failed.append(f"{cell}: {files}")
            if state.is_main_process:
                shown.failed(cell, str(files))
        elif state.is_main_process:
            store.put(places[cell], files)
            shown.finished(cell, store.read_metrics(places[cell]))
    state.wait_for_everyone()
    if failed:
        raise Problems(f"this study ({len(places) - len(failed)} of {len(places)} Runs are finished and kept)", failed)
    return _read(bench.plan, places)


def _pending(bench: Workbench, places: Mapping[Cell, Path]) -> list[Cell]:
    """Runs to make; for a soup all seeds of a fold whose average was not judged, one after the other."""
    if not bench.soup:
        return [cell for cell, place in places.items() if not store.is_made(place)]
    groups: dict[Cell, list[Cell]] = {}
    for cell in places:
        groups.setdefault(replace(cell, seed=-1), []).append(cell)
    return [
        cell
        for group in groups.values()
        if not all(store.is_made(places[each]) for each in group) or store.read_soup(places[group[-1]]) is None
        for cell in group
    ]


def _read(plan: Plan, places: Mapping[Cell, Path]) -> JudgedBy:
    found = {}
    for budget in plan.budgets:
        for variant in plan.variants:
            cells = tuple(cell for cell in places if (cell.variant, cell.budget) == (variant, budget))
            metrics, tables = zip(*(store.read(places[cell]) for cell in cells), strict=True)
            soups = tuple(store.read_soup(places[cell]) for cell in cells)
            found[variant, budget] = Judged(cells, metrics, tables, soups)
    return found


def _gate(folder: Path, bench: Workbench, executor: Executor, shown: Progress, judged: JudgedBy) -> JudgedBy:
    """Try the recipe without what did not help, where need be as one more variant, until one is not worse."""
    for techniques in candidates(bench.plan, comparisons(bench.plan, judged, "technique")):
        bench.plan = with_gate(bench.plan, techniques)
        judged = _make(folder, bench, executor, shown)
        said = [each for each in comparisons(bench.plan, judged, "gate") if each["budget"] == bench.plan.budgets[-1]]
        if not said or said[0]["verdict"] != "worse":
            break
    return judged

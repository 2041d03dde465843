"""What a recipe or a study will take on this machine, from a few steps of it: time, peak memory, disk.

The work is begun in a folder that is thrown away: rows are read, hooks run, a few steps are timed, and what comes once
(baselines, judging, saving, the proof of reloading, the report) is done and timed. What techniques do before the first
step is done whole, so a plan of contrastive learning takes as long as a seed of it. With early stopping the time is
what it takes at most; where later steps cost more than the first ones, as in gradual unfreezing, it takes longer.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset
from pydantic import PrivateAttr
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_smalldata.data.sample import draw_for
from hf_smalldata.errors import UserError
from hf_smalldata.fitting import COLLAPSE_ROWS, Fitting
from hf_smalldata.outcome import Outcome, baselines_of, test_rows
from hf_smalldata.pipeline import read_rows, rows_to_prove, save_and_prove, write_run
from hf_smalldata.recipe import Recipe
from hf_smalldata.report.formats import duration, plural, size
from hf_smalldata.run import OURS
from hf_smalldata.study.plan import Cell, Plan, check_rows
from hf_smalldata.study.workbench import Workbench
from hf_smalldata.tasks import get_task
from hf_smalldata.technique import ALL_TASKS, Context, Technique
from hf_smalldata.training.arguments import training_arguments

WARM_STEPS, TIMED_STEPS = 2, 3  # the first ones compile and allocate
TIMED_SECONDS = 5.0  # steps that are short are timed for as long as this: batches differ in length
BYTES_A_STATE = 8  # of AdamW's two moments, for each parameter that learns
EACH_SEED = ("baselines", "training", "judging")


@dataclass
class Times:
    """When a training began, and when its steps and evaluations ended, in seconds."""

    began: float = 0.0
    steps: list[float] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)
    steps_in_all: int = 0
    evaluations_in_all: float = 0.0

    @property
    def step(self) -> float:
        """Seconds of a step, once warm."""
        warm = self.steps[WARM_STEPS - 1 :] if len(self.steps) > WARM_STEPS else [self.began, *self.steps]
        return (warm[-1] - warm[0]) / max(len(warm) - 1, 1)

    @property
    def evaluation(self) -> float:
        """Seconds of an evaluation by validation rows; 0 where there are none."""
        return self.evaluated[0] - self.steps[-1] if self.evaluated and self.steps else 0.0

    @property
    def to_come(self) -> float:
        """Seconds of the steps and evaluations that were not made."""
        if not self.steps:
            return 0.0
        evaluations = max(self.evaluations_in_all - len(self.evaluated), 0)
        return (self.steps_in_all - len(self.steps)) * self.step + evaluations * self.evaluation


class _Clock(TrainerCallback):
    """Looks at the clock, and ends the training once it has seen enough."""

    def __init__(self, times: Times) -> None:
        self.times = times

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        times = self.times
        times.began, times.steps, times.evaluated = time.perf_counter(), [], []
        times.steps_in_all = state.max_steps
        by_steps = state.max_steps / state.eval_steps if args.eval_strategy == "steps" and state.eval_steps else 0.0
        times.evaluations_in_all = float(state.num_train_epochs) if args.eval_strategy == "epoch" else by_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        steps = self.times.steps
        steps.append(time.perf_counter())
        if len(steps) >= WARM_STEPS + TIMED_STEPS and steps[-1] - steps[WARM_STEPS - 1] > TIMED_SECONDS:
            control.should_training_stop = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.times.evaluated.append(time.perf_counter())


class _Timed(Technique):
    """Adds the clock to a training. It has a `rows` hook so that teachers, which are trained whole, are without it."""

    name = "timed"
    tasks = ALL_TASKS
    paper: ClassVar[str] = ""
    _times: Times = PrivateAttr(default_factory=Times)

    def rows(self, train: Dataset, ctx: Context) -> Dataset:
        return train

    def callbacks(self) -> list[TrainerCallback]:
        return [_Clock(self._times)]


@dataclass(frozen=True)
class Estimate:
    """What is to come."""

    parts: Mapping[str, float]  # seconds
    steps: int
    runs: int
    memory_bytes: int
    gpu_bytes: int | None
    disk_bytes: int
    planning_seconds: float

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return sum(self.parts.values())


def plan_training(recipe: Recipe, objects: Mapping[str, Any] | None = None) -> Estimate:
    """What `train` will take.

    Raises:
        UserError: what `train` would refuse.
    """
    seed, task, begun = recipe.seeds[0], get_task(recipe.task), time.perf_counter()
    laps: dict[str, float] = {}

    def lap(name: str) -> None:
        laps[name] = time.perf_counter() - begun - sum(laps.values())

    if training_arguments(recipe.train, Path("runs"), seed).world_size > 1:
        raise UserError("--plan times one process; leave `accelerate launch` out")
    data = read_rows(recipe, task, objects)
    drawn = draw_for(data, recipe.data, seed)
    lap("reading rows")
    with tempfile.TemporaryDirectory() as name:
        run, timed = Path(name) / "run", _Timed()
        (run / OURS).mkdir(parents=True)
        fitting = Fitting.of(_with(recipe, timed), data, Path(name) / "work")
        others = baselines_of(data, {seed: drawn}, partial(fitting.beside, fitting.work))
        lap("baselines")
        learnt = fitting.attempt(drawn, seed, seed)
        lap("training")
        predicted = fitting.predict(learnt.model, test_rows(data))
        fitting.predict(learnt.model, drawn.select(range(min(len(drawn), COLLAPSE_ROWS))))
        lap("judging")
        proof = rows_to_prove(learnt.model, fitting, test_rows(data), predicted)
        reload = save_and_prove(learnt.model, fitting, *proof, run)
        lap("saving, and the proof of reloading")
        facts = {"seed": seed, **learnt.facts, "collapsed": False, "reload": reload}
        outcome = Outcome(recipe, data, {seed: drawn}, {seed: predicted}, [facts], others)
        metrics = outcome.measure()
        write_run(run, "plan", recipe, data, {seed: drawn}, metrics, outcome.predictions())
        lap("results and report")
        disk = _size(run)
    taken, seeds = sum(laps.values()), len(recipe.seeds)
    laps["training"] += timed._times.to_come
    return Estimate(
        parts={name: value * (seeds if name in EACH_SEED else 1) for name, value in laps.items()},
        steps=timed._times.steps_in_all * seeds,
        runs=seeds,
        memory_bytes=metrics["peak_memory_bytes"],
        gpu_bytes=facts["peak_gpu_bytes"],
        disk_bytes=disk + _checkpoints(recipe, facts, timed._times),
        planning_seconds=taken,
    )


def plan_study(plan: Plan, jobs: int = 1, objects: Mapping[str, Any] | None = None) -> Estimate:
    """What the Runs of a study will take. One of each recipe at each budget is begun.

    Args:
        plan: of the study; recipes that its gate adds, and a refit, come on top.
        jobs: Runs at a time.
        objects: rows from Python.

    Raises:
        UserError: what `study` would refuse.
    """
    begun, timed = time.perf_counter(), {name: _Timed() for name in plan.variants}
    short = replace(plan, variants={name: _with(recipe, timed[name]) for name, recipe in plan.variants.items()})
    parts: dict[str, float] = {}
    facts: list[dict[str, Any]] = []
    steps = disk = 0
    with tempfile.TemporaryDirectory() as name:
        bench = Workbench(short, Path(name) / "work", Path(name), objects)
        check_rows(short, {name: bench.all_parts(recipe) for name, recipe in short.variants.items()})
        parts["reading rows"] = time.perf_counter() - begun
        cells = short.cells()
        for budget in plan.budgets:
            for variant in plan.variants:
                same = [cell for cell in cells if (cell.variant, cell.budget) == (variant, budget)]
                # What is encoded once weighs on the first Run alone.
                first = not facts and len(same) > 1
                begins = [_begin(bench, cell, timed[variant]._times) for cell in same[: 1 + first]]
                seconds = [taken for taken, _, _ in begins]
                seconds += seconds[-1:] * (len(same) - len(seconds))
                where = f"{variant}, budget {budget}" if len(plan.budgets) > 1 else variant
                parts[f"{len(same)} Runs of {where}"] = sum(seconds) / jobs
                facts += [found for _, found, _ in begins]
                steps += timed[variant]._times.steps_in_all * len(same)
                disk += begins[-1][2] * len(same)
    peaks = [each["peak_gpu_bytes"] for each in facts if each["peak_gpu_bytes"] is not None]
    return Estimate(
        parts=parts,
        steps=steps,
        runs=len(cells),
        memory_bytes=jobs * max(each["peak_memory_bytes"] or 0 for each in facts),
        gpu_bytes=jobs * max(peaks) if peaks else None,
        disk_bytes=disk,
        planning_seconds=time.perf_counter() - begun,
    )


def told(estimate: Estimate) -> Iterator[str]:
    """What a plan says, a line each: time, memory, disk, and where the time goes."""
    yield f"about {duration(estimate.seconds)} for {plural(estimate.runs, 'Run')} of {estimate.steps:,} steps in all"
    yield f"at most {size(estimate.memory_bytes)} of memory" + (
        f", {size(estimate.gpu_bytes)} of GPU memory" if estimate.gpu_bytes is not None else ""
    )
    yield f"{size(estimate.disk_bytes)} on disk"
    yield from (f"  {name}: {duration(seconds)}" for name, seconds in estimate.parts.items())
    yield f"(planned in {duration(estimate.planning_seconds)}; nothing was kept)"


def _begin(bench: Workbench, cell: Cell, times: Times) -> tuple[float, dict[str, Any], int]:
    """Seconds of a whole Run, the facts of its training, and the bytes it leaves."""
    begun = time.perf_counter()
    files = bench.run(cell)
    taken = time.perf_counter() - begun
    (found,) = json.loads(files["metrics.json"])["runs"]
    once_more = found["restarts"] * found["train_seconds"]  # after so few steps a model is often constant
    return taken - once_more + times.to_come, found, sum(map(len, files.values()))


def _with(recipe: Recipe, timed: _Timed) -> Recipe:
    return recipe.model_copy(update={"techniques": (*recipe.techniques, timed)})


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _checkpoints(recipe: Recipe, facts: Mapping[str, Any], times: Times) -> int:
    """Bytes of what a training that saves leaves while it lasts: weights and the optimiser's states, each time."""
    train, strategy = recipe.train, str(recipe.train["save_strategy"])
    if strategy == "no":
        return 0
    every = train.get("save_steps") or 500  # as in TrainingArguments
    count = float(train["num_train_epochs"]) if strategy == "epoch" else times.steps_in_all / every
    kept = min(train.get("save_total_limit") or count, count)
    return int(kept * (4 * facts["parameters"] + BYTES_A_STATE * facts["trained_parameters"]))

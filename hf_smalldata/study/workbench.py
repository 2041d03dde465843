"""One process that makes Runs of a study, and what they share: rows, tokens, images, frozen states, baselines."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import release_memory
from datasets import Dataset
from torch import nn

from hf_smalldata.data.domains import apart
from hf_smalldata.data.folds import folds
from hf_smalldata.data.load import Splits
from hf_smalldata.data.rows import rows_record
from hf_smalldata.data.sample import draw_for, split_validation
from hf_smalldata.evaluation.intervals import Array
from hf_smalldata.evaluation.summary import predictions_table
from hf_smalldata.fitting import Fitting
from hf_smalldata.kept import CAP_BYTES, EMBEDDED_BYTES, Kept
from hf_smalldata.outcome import Baselines, Outcome, baselines_of, test_rows, write_part
from hf_smalldata.pipeline import check_processes, check_rows, load_and_examine, read_rows
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import write_json
from hf_smalldata.study.plan import Cell, Plan
from hf_smalldata.tasks import get_task
from hf_smalldata.tasks.task import ModelSpec
from hf_smalldata.technique import using
from hf_smalldata.training.arguments import training_arguments
from hf_smalldata.training.average import Average
from hf_smalldata.training.tracking import Tracking

Files = dict[str, bytes]  # name -> content, of the part of a Run that is ours


@dataclass
class Workbench:
    """Makes the Runs of a plan, one after the other.

    Args:
        plan: what is studied.
        work: a folder for what a training needs while it lasts.
        output: the study's folder; trackers group its Runs by its name.
        objects: rows from Python instead of files, as in `pipeline.train`.
        soup: judge the average of a fold's seeds too; they must then be made one after the other.
    """

    plan: Plan
    work: Path
    output: Path
    objects: Mapping[str, Any] | None = None
    soup: bool = False
    _loaded: dict[str, Splits] = field(default_factory=dict)
    _cut: dict[tuple[str, int], list[Splits]] = field(default_factory=dict)
    _kept: dict[str, tuple[Any, Kept]] = field(default_factory=dict)
    _embedded: Kept = field(default_factory=partial(Kept, EMBEDDED_BYTES))
    _baselines: dict[tuple[str, ...], Baselines] = field(default_factory=dict)
    _averages: dict[Cell, Average] = field(default_factory=dict)

    def run(self, cell: Cell) -> Files:
        """Train and judge one Run. On the main process its files, elsewhere nothing.

        Raises:
            UserError: training diverged, or a recipe that does not fit its rows.
        """
        recipe, data, state = self.plan.recipe(cell), self.data(cell), PartialState()
        task, rows = get_task(recipe.task), draw_for(data, recipe.data, cell.seed)
        check_processes(training_arguments(recipe.train, self.work, cell.seed), recipe, data)
        work = self.work / key_of(recipe, data, rows, cell)[:12]
        work.mkdir(parents=True, exist_ok=True)
        recipe, processor, kept = self._model(recipe, data)
        try:
            fitting = Fitting(
                recipe,
                task,
                processor,
                data,
                work,
                kept=kept,
                embedded=self._embedded,
                tracking=Tracking(self.output.name, str(cell), self.output / "tracker"),
            )
            others = self._others(fitting, rows, cell.seed)
            learnt = fitting.learn(rows, cell.seed)
            predicted = fitting.predict(learnt.model, test_rows(data))
            mixed = self._mixed(cell, fitting, learnt.model, test_rows(data)) if self.soup else None
            release_memory(learnt.model)
            if not state.is_main_process:
                return {}
            outcome = Outcome(recipe, data, {cell.seed: rows}, {cell.seed: predicted}, [learnt.facts], others)
            folder = Path(tempfile.mkdtemp(dir=work))  # what a killed study left there is in nobody's way
            write_part(folder, recipe, data, {cell.seed: rows}, outcome.measure(), outcome.predictions())
            write_json(folder / "cell.json", vars(cell))
            if mixed is not None:
                table = predictions_table(test_rows(data), data.labels, data.problem_type, {cell.seed: mixed},
                                          {cell.seed: {}})  # fmt: skip
                table.to_parquet(folder / "soup.parquet")
            return {file.name: file.read_bytes() for file in folder.iterdir()}
        finally:
            state.wait_for_everyone()
            if state.is_main_process:
                shutil.rmtree(work)

    @property
    def beside(self) -> Path:
        """A folder for what all Runs share of the methods that stand beside the model."""
        return self.work / "beside"

    def data(self, cell: Cell) -> Splits:
        """The rows of a Run, validation and test rows held out."""
        return self.parts(self.plan.recipe(cell), cell.repeat)[max(cell.fold, 0)]

    def parts(self, recipe: Recipe, repeat: int = 0) -> list[Splits]:
        """The rows of a recipe: one entry, or one for each fold of a repeat."""
        place = (self._source(recipe), repeat)
        if place not in self._cut:
            self._cut[place] = self._cut_rows(recipe, repeat)
        return self._cut[place]

    def all_parts(self, recipe: Recipe) -> list[Splits]:
        """The rows of a recipe in every fold of every repeat."""
        return [part for repeat in range(self.plan.repeats) for part in self.parts(recipe, repeat)]

    def key(self, cell: Cell) -> str:
        """Digest of all that a Run's result depends on: the resolved recipe and the rows."""
        recipe, data = self.plan.recipe(cell), self.data(cell)
        return key_of(recipe, data, draw_for(data, recipe.data, cell.seed), cell)

    def whole(self, recipe: Recipe) -> Splits:
        """The rows of a recipe; under cross-validation before they are cut into folds."""
        if not self.plan.folds:
            return self.parts(recipe)[0]
        place = self._source(recipe)
        if place not in self._loaded:
            with PartialState().main_process_first():
                self._loaded[place] = load_and_examine(recipe, get_task(recipe.task), self.objects)
        return self._loaded[place]

    def _cut_rows(self, recipe: Recipe, repeat: int) -> list[Splits]:
        if not self.plan.folds:
            return [read_rows(recipe, get_task(recipe.task), self.objects)]
        whole, spec = self.whole(recipe), recipe.data
        parts = []
        for fold in folds(whole, self.plan.folds, repeat, spec.split_seed, spec.keep_together):
            part = apart(split_validation(replace(fold, validation=whole.validation), spec), spec)
            check_rows(recipe, part)
            parts.append(part)
        return parts

    def _source(self, recipe: Recipe) -> str:
        """What rows are read and how they are held out, whatever is drawn from them."""
        plain = recipe.data.model_copy(update={"labels_per_class": None, "fraction": None, "class_weights": "none"})
        return f"{recipe.task} {plain.model_dump_json()}"

    def _model(self, recipe: Recipe, data: Splits) -> tuple[Recipe, Any, Kept]:
        """A recipe with what its rows decide of its model, the model's processor, and what is kept of rows for it."""
        task, source, recipe = get_task(recipe.task), self._source(recipe), recipe.settled()

        def loaded(spec: ModelSpec) -> tuple[Any, Kept]:
            place = f"{source} {spec.model_dump_json()}"
            if place not in self._kept:
                self._kept[place] = task.load_processor(spec), Kept(cap_bytes=CAP_BYTES // self._models)
            return self._kept[place]

        model = task.settled(recipe.model, loaded(recipe.model)[0], data.train)
        return recipe.model_copy(update={"model": model}), *loaded(model)

    @cached_property
    def _models(self) -> int:
        recipes = self.plan.variants.values()
        return len({(self._source(recipe), recipe.model.model_dump_json()) for recipe in recipes})

    def _mixed(self, cell: Cell, fitting: Fitting, model: nn.Module, rows: Dataset) -> Array | None:
        """What the average of a fold's seeds predicts, once the last of them is trained."""
        group = replace(cell, seed=-1)
        if cell.seed == self.plan.seeds[0]:
            self._averages[group] = Average()
        self._averages[group].add(model)
        if cell.seed != self.plan.seeds[-1]:
            return None
        self._averages.pop(group).put_into(model)
        return fitting.predict(model, rows)

    def _others(self, fitting: Fitting, rows: Dataset, seed: int) -> Baselines:
        """The baselines on the same rows, once for all variants that have the same ones."""
        data, recipe = fitting.data, fitting.recipe
        own = [f"{each.name} {each.model_dump_json()}" for each in using(recipe.techniques, "baseline")]
        model = [recipe.model.model_dump_json()] if own else []
        place = (*own, *model, *rows["id"][:], "judged by", *test_rows(data)["id"][:])
        if place not in self._baselines:
            self._baselines[place] = baselines_of(data, {seed: rows}, partial(fitting.beside, self.beside))
        found = self._baselines[place]
        return Baselines({seed: next(iter(found.predicted.values()))}, found.seconds)


def key_of(recipe: Recipe, data: Splits, rows: Dataset, cell: Cell) -> str:
    """sha256 of a resolved recipe with its one seed, and of the ids and contents of its rows."""
    content = {"recipe": recipe.as_dict(), "rows": rows_record(data, {cell.seed: rows})}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def rows_digest(data: Splits) -> str:
    """sha256 of all rows: other rows, another study."""
    return hashlib.sha256(json.dumps(rows_record(data, {0: data.train}), sort_keys=True).encode()).hexdigest()

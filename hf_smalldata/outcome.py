"""What the seeds of a recipe came to: predictions beside baselines on the same rows, measured and written down."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState
from datasets import Dataset

from hf_smalldata.data.domains import REST
from hf_smalldata.data.load import Splits
from hf_smalldata.data.rows import rows_record
from hf_smalldata.data.strata import class_counts
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import references
from hf_smalldata.evaluation.baselines import baselines
from hf_smalldata.evaluation.summary import predictions_table, summarise
from hf_smalldata.public import hub_names
from hf_smalldata.recipe import Recipe
from hf_smalldata.run import environment, write_json

Array = np.ndarray[Any, Any]
Beside = Callable[[Dataset, int, Dataset], Mapping[str, Array]]  # drawn rows, seed, test rows -> predictions by name


@dataclass(frozen=True)
class Baselines:
    """Predictions (N, C) by name for each seed, and what they took."""

    predicted: Mapping[int, Mapping[str, Array]]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """By seed: the rows learnt from, the predictions for the test rows, and how training went."""

    recipe: Recipe
    data: Splits
    draws: Mapping[int, Dataset]
    predicted: Mapping[int, Array]
    facts: list[dict[str, Any]]
    others: Baselines

    def measure(self) -> dict[str, Any]:
        """metrics.json: results beside baselines on the same rows, and what they cost."""
        data, test = self.data, test_rows(self.data)
        return {
            "task": self.recipe.task,
            "model": self.recipe.model.name,
            "labels": list(data.labels),
            "rows": {
                "train": len(next(iter(self.draws.values()))),
                "pool": len(data.train),
                "validation": 0 if data.validation is None else len(data.validation),
                "test": len(test),
                **self._beside(),
            },
            "classes": self._classes(),
            "notes": list(data.warnings),
            **summarise(
                data.labels, data.problem_type, references(test), self.predicted, self.others.predicted, self.facts
            ),
            "baseline_seconds": round(self.others.seconds, 2),
            "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }

    def _beside(self) -> dict[str, int]:
        """Rows that stood beside the labelled ones of the target, where there were some."""
        data, drawn = self.data, next(iter(self.draws.values()))
        rest = len(data.train) - len(drawn) if self.recipe.data.unlabelled == REST else 0
        found = {name: rows for name, rows in (("unlabelled", data.unlabelled), ("source", data.source)) if rows}
        return {**{name: len(rows) for name, rows in found.items()}, **({"unlabelled": rest} if rest else {})}

    def _classes(self) -> dict[str, dict[str, int]]:
        """Rows by label: there to learn from, learnt from by the first seed, and tested."""
        names = self.data.labels
        parts = {"pool": self.data.train, "train": next(iter(self.draws.values())), "test": test_rows(self.data)}
        counts = {part: class_counts(rows, names, self.data.problem_type) for part, rows in parts.items()}
        return {name: {part: found[name] for part, found in counts.items()} for name in counts["pool"]}

    def predictions(self) -> pd.DataFrame:
        """predictions.parquet: a line for each test row and seed."""
        data = self.data
        return predictions_table(test_rows(data), data.labels, data.problem_type, self.predicted, self.others.predicted)


def write_part(
    folder: Path,
    recipe: Recipe,
    data: Splits,
    draws: Mapping[int, Dataset],
    metrics: Mapping[str, Any],
    predictions: pd.DataFrame,
) -> None:
    """The part of a Run that is ours, but for its report."""
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    write_json(folder / "rows.json", rows_record(data, draws))
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "environment.json", {**environment(), "on_hub": hub_names(recipe)})
    predictions.to_parquet(folder / "predictions.parquet")


def baselines_of(data: Splits, draws: Mapping[int, Dataset], beside: Beside) -> Baselines:
    """What the labels alone, a linear model and techniques' `baseline` hooks make of the same rows.

    Called by every process, for techniques may share their work out; the first two are made by the main process alone.
    """
    started = time.perf_counter()
    width, test, main = max(len(data.labels), 1), test_rows(data), PartialState().is_main_process
    found = {
        seed: {**(baselines(rows, test, width, data.problem_type) if main else {}), **beside(rows, seed, test)}
        for seed, rows in draws.items()
    }
    return Baselines(found, time.perf_counter() - started)


def test_rows(data: Splits) -> Dataset:
    """The rows that judge; `split` made them where the source had none."""
    if data.test is None:
        raise UserError("there are no test rows; set data.test or data.test_fraction")
    return data.test

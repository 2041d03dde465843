"""The Runs of one variant at one budget, read back: their metrics, and their predictions row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.evaluation.comparison import (
    Comparison,
    corrected_difference,
    corrected_interval,
    crossed_difference,
)
from hf_smalldata.evaluation.entities import linearised_f1
from hf_smalldata.evaluation.intervals import Array, Interval, t_interval
from hf_smalldata.evaluation.metrics import score, within_range
from hf_smalldata.evaluation.summary import MODEL, from_table, within_scores
from hf_smalldata.study.plan import Cell


@dataclass(frozen=True)
class Judged:
    """Runs of all folds and seeds, in the plan's order: each seed within each fold."""

    cells: tuple[Cell, ...]
    metrics: tuple[dict[str, Any], ...]  # metrics.json of each
    tables: tuple[pd.DataFrame, ...]  # predictions.parquet of each
    soups: tuple[pd.DataFrame | None, ...] = ()  # soup.parquet, which the last seed of each fold has

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; () for regression."""
        return tuple(self.metrics[0]["labels"])

    @property
    def problem_type(self) -> ProblemType:
        """As in a transformers config."""
        problem: ProblemType = self.metrics[0]["problem_type"]
        return problem

    @property
    def has_folds(self) -> bool:
        """Whether rows were judged out of fold, not as one set of test rows."""
        return self.cells[0].fold >= 0

    @property
    def test_share(self) -> float:
        """Test rows for each row that a fold leaves to learn from, 1 / (folds - 1): what folds have in common."""
        return float(np.mean([each["rows"]["test"] / each["rows"]["pool"] for each in self.metrics]))

    @property
    def rows(self) -> int:
        """Distinct rows that were judged."""
        return len({row_id for table in self.tables for row_id in table["id"]})

    def interval(self, metric: str, who: str = MODEL) -> Interval:
        """Mean of a metric over Runs: of the model, or of a baseline on the same rows."""
        values = np.array([each["results"][who][metric]["value"] for each in self.metrics])
        if self.has_folds:
            return within_range(corrected_interval(self._by_fold(values), self.test_share), metric)
        if len(values) > 1:
            return within_range(t_interval(values), metric)
        found = self.metrics[0]["results"][who][metric]
        low, high = (np.nan if found[bound] is None else found[bound] for bound in ("low", "high"))
        return Interval(found["value"], low, high)

    def compare(self, other: Judged, who: str = MODEL, other_who: str = MODEL) -> Comparison:
        """This one minus the other in the score of a row (`summary.row_score`), paired by seed, fold and row."""
        found = self._compare(other, who, other_who)
        return found._replace(difference=within_scores(found.difference, self.problem_type))

    def _compare(self, other: Judged, who: str, other_who: str) -> Comparison:
        if not self.has_folds:
            return crossed_difference(np.stack(self.row_scores(who)), np.stack(other.row_scores(other_who)))
        pairs = zip(self.row_scores(who), other.row_scores(other_who), strict=True)
        by_fold = self._by_fold(np.array([(a - b).mean() for a, b in pairs]))
        return corrected_difference(by_fold, self.test_share, rows=self.rows)

    def row_scores(self, who: str = MODEL) -> list[Array]:
        """For each Run the score of each of its rows (N,); higher is better."""
        column = "prediction" if who == MODEL else f"baseline: {who}"
        return [_row_scores(table, column, self.labels, self.problem_type) for table in self.tables]

    def arrays(self, table: pd.DataFrame) -> tuple[list[str], Array, Array]:
        """Ids, references and predictions of a table's rows: see `summary.from_table`."""
        return from_table(table, self.labels, self.problem_type)

    def ensemble(self) -> pd.DataFrame | None:
        """Each row once, its scores averaged over all Runs that judged it; None where none was judged twice."""
        together = pd.concat(self.tables)
        if not together["id"].duplicated().any():
            return None
        first = together.drop_duplicates("id").set_index("id")[["label"]]
        if self.problem_type == "token_classification":
            scores = together.groupby("id")["scores"].apply(lambda each: np.mean(np.stack(each.tolist()), axis=0))
            return first.join(scores).reset_index()
        columns = ["prediction"] if self.problem_type == "regression" else [f"score: {name}" for name in self.labels]
        return first.join(together.groupby("id")[columns].mean()).reset_index()

    def ensemble_metrics(self) -> dict[str, float] | None:
        """Metrics of the averaged predictions."""
        table = self.ensemble()
        if table is None:
            return None
        _, references, predictions = self.arrays(table)
        return score(predictions, references, self.problem_type)

    def of_one_model(self) -> pd.DataFrame:
        """Each judged row once: by the first seed, and out of fold by the first repeat."""
        first = self.cells[0]
        chosen = [table for cell, table in zip(self.cells, self.tables, strict=True)
                  if (cell.seed, cell.repeat) == (first.seed, first.repeat)]  # fmt: skip
        return pd.concat(chosen, ignore_index=True)

    def _by_fold(self, values: Array) -> Array:
        """A value a Run -> the mean over seeds of each fold of each repeat: seeds on the same rows are one sample."""
        places = [(cell.repeat, cell.fold) for cell in self.cells]
        return np.asarray(pd.Series(values).groupby(pd.MultiIndex.from_tuples(places)).mean(), dtype=np.float64)


def _row_scores(table: pd.DataFrame, column: str, labels: Sequence[str], problem_type: ProblemType) -> Array:
    if problem_type == "single_label_classification":
        return np.asarray(table[column] == table["label"], dtype=np.float64)
    if problem_type == "token_classification":
        index = {name: at for at, name in enumerate(labels)}
        given, truth = (ragged([np.array([index[tag] for tag in tags], dtype=np.int64) for tags in table[name]])
                        for name in (column, "label"))  # fmt: skip
        return linearised_f1(given, truth)
    if problem_type == "regression":
        return np.asarray(-np.square(table[column] - table["label"]), dtype=np.float64)
    wrong = [len(set(given) ^ set(truth)) for given, truth in zip(table[column], table["label"], strict=True)]
    return np.asarray(1 - np.array(wrong, dtype=np.float64) / len(labels))

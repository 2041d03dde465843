"""Metrics of one set of predictions, and their intervals over the test rows.

The formulas live in `weighted`; here each is an `evaluate.Metric` of our own, because `evaluate.load` downloads a
script and fails offline. All metrics of a problem type take the same inputs, so `evaluate.combine` runs them together.

Predictions are probabilities (N, C) for classes and labels, values (N,) for regression, and for tokens (N,) of
probabilities (words, C). References are class indices (N,), multi-hot rows (N, C), values (N,), or (N,) of tag indices
(words,).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar

import evaluate
import numpy as np
from datasets import Features, Value
from datasets import Sequence as ListOf
from numpy.typing import ArrayLike

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation import entities, weighted
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.evaluation.intervals import Array, Interval, Statistic, bootstrap, wilson

MAIN_METRIC: dict[ProblemType, str] = {
    "single_label_classification": "accuracy",
    "multi_label_classification": "macro_f1",
    "regression": "rmse",
    "token_classification": "entity_f1",
}
_LESS_IS_BETTER = frozenset({"log_loss", "ece", "rmse"})
_RANGES = {"mcc": (-1.0, 1.0), "spearman": (-1.0, 1.0), "log_loss": (0.0, np.inf), "rmse": (0.0, np.inf)}


class _RowMetric(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """A metric of (N,) rows; `formula` is one of `weighted`, taken at weights 1."""

    metric: ClassVar[str]
    formula: ClassVar[staticmethod[..., Statistic]]
    features_of_rows: ClassVar[Mapping[str, Any]]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="",
            features=Features(self.features_of_rows),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        statistic = self.formula(*(self.array(values) for values in (predictions, references)))
        return {self.metric: _value(statistic, len(references))}

    @staticmethod
    def array(values: Any) -> Any:
        """What `evaluate` hands over, as the formulas take it."""
        return np.asarray(values)


class _SingleLabel(_RowMetric):
    features_of_rows = {"predictions": ListOf(Value("float64")), "references": Value("int64")}


class _MultiLabel(_RowMetric):
    features_of_rows = {"predictions": ListOf(Value("float64")), "references": ListOf(Value("float64"))}


class _Regression(_RowMetric):
    features_of_rows = {"predictions": Value("float64"), "references": Value("float64")}


class _Tokens(_RowMetric):
    features_of_rows = {"predictions": ListOf(Value("int64")), "references": ListOf(Value("int64"))}

    @staticmethod
    def array(values: Any) -> Any:
        """Tags of sentences of any lengths."""
        return ragged([np.asarray(value) for value in values])


class Accuracy(_SingleLabel):
    """Share of rows whose most probable class is the reference."""

    metric = "accuracy"
    formula = staticmethod(weighted.accuracy)


class MacroF1(_SingleLabel):
    """Mean F1 over the classes that occur in references or predictions."""

    metric = "macro_f1"
    formula = staticmethod(weighted.macro_f1)


class MCC(_SingleLabel):
    """Matthews correlation coefficient of several classes; 0 where undefined."""

    metric = "mcc"
    formula = staticmethod(weighted.mcc)


class LogLoss(_SingleLabel):
    """Mean negative log-probability of the reference, in nats."""

    metric = "log_loss"
    formula = staticmethod(weighted.log_loss)


class ECE(_SingleLabel):
    """Expected calibration error, 15 equal-width bins of the top probability (https://arxiv.org/abs/1706.04599)."""

    metric = "ece"
    formula = staticmethod(weighted.ece)


class MultiLabelMicroF1(_MultiLabel):
    """F1 over all rows and labels together, at threshold 0.5."""

    metric = "micro_f1"
    formula = staticmethod(weighted.multi_label_micro_f1)


class MultiLabelMacroF1(_MultiLabel):
    """Mean F1, at threshold 0.5, over the labels that occur in references or predictions."""

    metric = "macro_f1"
    formula = staticmethod(weighted.multi_label_macro_f1)


class RMSE(_Regression):
    """Root mean squared error, in the units of the label."""

    metric = "rmse"
    formula = staticmethod(weighted.rmse)


class Spearman(_Regression):
    """Rank correlation; 0 where one side is constant."""

    metric = "spearman"
    formula = staticmethod(weighted.spearman)


class EntityF1(_Tokens):
    """F1 over all entities: right is an entity with the right words and type (as conlleval and seqeval count)."""

    metric = "entity_f1"
    formula = staticmethod(entities.entity_f1)


class EntityPrecision(_Tokens):
    """Share of the entities found that are right; 0 where none is found."""

    metric = "entity_precision"
    formula = staticmethod(entities.entity_precision)


class EntityRecall(_Tokens):
    """Share of the entities there that are found; 0 where there is none."""

    metric = "entity_recall"
    formula = staticmethod(entities.entity_recall)


class TokenAccuracy(_Tokens):
    """Share of words with the right tag; high where most words are O, whatever a model does."""

    metric = "token_accuracy"
    formula = staticmethod(entities.token_accuracy)


METRICS: dict[ProblemType, tuple[type[_RowMetric], ...]] = {
    "single_label_classification": (Accuracy, MacroF1, MCC, LogLoss, ECE),
    "multi_label_classification": (MultiLabelMacroF1, MultiLabelMicroF1),
    "regression": (RMSE, Spearman),
    "token_classification": (EntityF1, EntityPrecision, EntityRecall, TokenAccuracy),
}


def metric_names(problem_type: ProblemType) -> tuple[str, ...]:
    """Names of the metrics of a problem type, the main one first."""
    return tuple(metric.metric for metric in METRICS[problem_type])


def greater_is_better(metric: str) -> bool:
    """True for accuracy, F1 and correlations, False for errors and losses.

    Raises:
        KeyError: no metric of that name.
    """
    if not any(metric in metric_names(problem_type) for problem_type in METRICS):
        raise KeyError(metric)
    return metric not in _LESS_IS_BETTER


def within_range(interval: Interval, metric: str) -> Interval:
    """An interval without what no value of the metric can be, such as an accuracy above 1."""
    low, high = _RANGES.get(metric, (0.0, 1.0))
    return Interval(interval.value, *(float(np.clip(bound, low, high)) for bound in interval[1:]))


def score(predictions: ArrayLike, references: ArrayLike, problem_type: ProblemType) -> dict[str, float]:
    """All metrics of a problem type, each a finite number.

    Raises:
        UserError: no rows, or predictions that are not finite.
        ValueError: shapes do not match, logits given for probabilities, or a class index out of range.
    """
    given, wanted = _checked(predictions, references, problem_type)
    # In memory, and with a folder of its own: evaluate would make one in the user's cache, even if it writes nothing.
    with tempfile.TemporaryDirectory(prefix="hf_smalldata-") as folder:
        metrics = [metric(keep_in_memory=True, cache_dir=folder) for metric in METRICS[problem_type]]
        result: dict[str, float] = evaluate.combine(metrics).compute(predictions=given, references=wanted)
    return result


def intervals(
    predictions: ArrayLike, references: ArrayLike, problem_type: ProblemType, seed: int = 0
) -> dict[str, Interval]:
    """All metrics with their 95 % intervals over the test rows; the values are those of `score`.

    Wilson's for accuracy, a percentile bootstrap for the others, with the same 2,000 resamples for all. What it cannot
    tell (see `intervals.bootstrap`): it has no width where all rows are right, and ECE may lie below its own bounds.
    Cost: 0.1 s at 500 rows, below 1 s at 5,000, whatever the number of classes.
    """
    given, wanted = _checked(predictions, references, problem_type)
    rows = len(wanted)
    result = {m.metric: bootstrap(m.formula(given, wanted), rows, seed=seed) for m in METRICS[problem_type][1:]}
    main = METRICS[problem_type][0]
    statistic = main.formula(given, wanted)
    if main is Accuracy:
        first = wilson(round(_value(statistic, rows) * rows), rows)
    else:
        first = bootstrap(statistic, rows, seed=seed)
    return {main.metric: first, **result}


def _value(statistic: Statistic, rows: int) -> float:
    return float(statistic(np.ones((1, rows)))[0])


def _checked(predictions: ArrayLike, references: ArrayLike, problem_type: ProblemType) -> tuple[Array, Any]:
    """Both as arrays of the problem type's shapes (tags for tokens), or the error that names what is wrong."""
    if problem_type == "token_classification":
        return _checked_tokens(predictions, references)
    given = np.asarray(predictions, dtype=np.float64)
    single = problem_type == "single_label_classification"
    wanted = np.asarray(references, dtype=np.int64 if single else np.float64)
    if len(wanted) == 0:
        raise UserError("no rows to score: the test split is empty; give data.test or a larger data.test_fraction")
    rows, classes = len(wanted), given.shape[-1]
    expected: tuple[int, ...] = (rows,) if problem_type == "regression" else (rows, classes)
    if given.shape != expected or wanted.shape != ((rows,) if single else expected):
        raise ValueError(f"{problem_type}: predictions {given.shape} do not fit references {wanted.shape}")
    bad = int((~np.isfinite(given.reshape(rows, -1))).any(axis=1).sum())
    if bad:
        raise UserError(f"predictions of {bad} of {rows} rows are not finite: lower train.learning_rate")
    if problem_type != "regression" and (given.min() < 0 or given.max() > 1 + 1e-2):
        raise ValueError(f"expected probabilities, got values from {given.min():.3g} to {given.max():.3g}: logits?")
    if single and np.abs(given.sum(axis=1) - 1).max() > 1e-2:  # half-precision softmax is off by a few thousandths
        raise ValueError("expected probabilities that sum to 1 in each row; apply softmax to logits first")
    if single and not (wanted.min() >= 0 and wanted.max() < classes):
        raise ValueError(f"expected class indices below {classes}, got {wanted.min()} to {wanted.max()}")
    return given, wanted


def _checked_tokens(predictions: Any, wanted: Any) -> tuple[Array, Array]:
    """Most probable tags and true ones, both (N,) of (words,)."""
    if len(wanted) == 0:
        raise UserError("no rows to score: the test split is empty; give data.test or a larger data.test_fraction")
    if len(predictions) != len(wanted) or any(len(a) != len(b) for a, b in zip(predictions, wanted, strict=True)):
        raise ValueError("token_classification: predictions do not fit references word by word")
    bad = sum(not np.isfinite(each).all() for each in predictions)
    if bad:
        raise UserError(f"predictions of {bad} of {len(wanted)} rows are not finite: lower train.learning_rate")
    return ragged([np.asarray(each).argmax(-1) for each in predictions]), ragged(wanted)

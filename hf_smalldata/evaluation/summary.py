"""What a Run says of itself: results with intervals over seeds or test rows, beside the baselines on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.strata import class_names
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.evaluation.comparison import crossed_difference
from hf_smalldata.evaluation.diagnosis import per_class
from hf_smalldata.evaluation.entities import linearised_f1, per_type
from hf_smalldata.evaluation.intervals import (
    Array,
    Interval,
    paired_difference,
    t_interval,
)
from hf_smalldata.evaluation.metrics import MAIN_METRIC, intervals, metric_names, score, within_range

MODEL = "model"  # our own row among the results

ROW_SCORE: dict[ProblemType, str] = {  # whose mean over rows is compared; higher is better
    "single_label_classification": "accuracy",
    "multi_label_classification": "share of labels right",
    "regression": "minus squared error",
    "token_classification": "entity F1",
}

# seed -> probabilities (N, C), values (N, 1) for regression, or (N,) of probabilities (words, C) for tokens
Predictions = Mapping[int, Array]


def summarise(
    labels: Sequence[str],
    problem_type: ProblemType,
    references: Array,
    predicted: Predictions,
    others: Mapping[int, Mapping[str, Array]],
    facts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The results part of metrics.json.

    With one seed intervals speak of the test rows (Wilson for accuracy, bootstrap for the rest), with several of the
    seeds (Student's t). Differences are the model minus a baseline on the same rows, paired.

    Args:
        labels: class names, () for regression.
        problem_type: as in a transformers config.
        references: of the test rows, as `arrays.references` gives them.
        predicted: the model's predictions by seed.
        others: the baselines' predictions by seed and name.
        facts: one entry a seed, to which its metrics are added.
    """
    by_name: dict[str, Predictions] = {MODEL: predicted}
    for name in next(iter(others.values())):
        by_name[name] = {seed: others[seed][name] for seed in predicted}
    flat = {
        name: {seed: _flat(values, problem_type) for seed, values in each.items()} for name, each in by_name.items()
    }
    results = {name: _with_intervals(each, references, problem_type) for name, each in flat.items()}
    seeds = list(predicted)
    runs = [{**fact, **score(flat[MODEL][fact["seed"]], references, problem_type)} for fact in facts]
    summary: dict[str, Any] = {
        "problem_type": problem_type,
        "main_metric": MAIN_METRIC[problem_type],
        "seeds": seeds,
        "interval": "95 %, Student's t over seeds" if len(seeds) > 1 else "95 %, Wilson or bootstrap over test rows",
        "results": results,
        "versus": {name: _versus(flat[MODEL], flat[name], references, problem_type) for name in flat if name != MODEL},
        "runs": runs,
    }
    if problem_type == "single_label_classification":
        summary["per_class"] = per_class(flat[MODEL][seeds[0]].argmax(-1), references, labels)
    if problem_type == "token_classification":
        summary["per_class"] = per_type(tags_of(flat[MODEL][seeds[0]]), references, class_names(labels, problem_type))
    return summary


def predictions_table(
    test: Dataset,
    labels: Sequence[str],
    problem_type: ProblemType,
    predicted: Predictions,
    others: Mapping[int, Mapping[str, Array]],
) -> pd.DataFrame:
    """One line for each test row and seed.

    Columns: id, seed, label, prediction, a `score: <label>` for each label, a `baseline: <name>` (its prediction) for
    each baseline. For tokens label, prediction and baselines are lists of a tag a word, and one column `scores` holds
    all probabilities, word by word.
    """
    parts = []
    for seed, values in predicted.items():
        frame = pd.DataFrame({"id": test["id"], "seed": seed})
        if problem_type == "multi_label_classification":
            frame["label"] = [_names(np.asarray(row) > 0.5, labels) for row in test["label"]]
        elif problem_type == "token_classification":
            frame["label"] = [[labels[tag] for tag in row] for row in test["label"]]
            frame["scores"] = pd.Series([np.asarray(each, dtype=np.float64).ravel() for each in values])
        else:
            frame["label"] = [labels[index] for index in test["label"]] if labels else test["label"][:]
        frame["prediction"] = _answers(values, labels, problem_type)
        for index, label in enumerate(labels) if problem_type != "token_classification" else ():
            frame[f"score: {label}"] = np.asarray(values)[:, index]
        for name, guesses in others[seed].items():
            frame[f"baseline: {name}"] = _answers(guesses, labels, problem_type)
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def from_table(table: pd.DataFrame, labels: Sequence[str], problem_type: ProblemType) -> tuple[list[str], Array, Array]:
    """What `predictions_table` was made of: ids, references and predictions.

    Returns:
        ids (N,); class indices (N,), multi-hot rows (N, C) or values (N,); probabilities (N, C), or values (N,). For
        tokens both are (N,) of arrays: tag indices (words,), probabilities (words, C).
    """
    ids = table["id"].tolist()
    if problem_type == "token_classification":
        index = {name: at for at, name in enumerate(labels)}
        truth = ragged([np.array([index[tag] for tag in tags], dtype=np.int64) for tags in table["label"]])
        return ids, truth, ragged([np.asarray(each).reshape(-1, len(labels)) for each in table["scores"]])
    if problem_type == "regression":
        return ids, table["label"].to_numpy(dtype=np.float64), table["prediction"].to_numpy(dtype=np.float64)
    scores = table[[f"score: {name}" for name in labels]].to_numpy(dtype=np.float64)
    if problem_type == "single_label_classification":
        index = {name: at for at, name in enumerate(labels)}
        return ids, np.array([index[name] for name in table["label"]]), scores
    return ids, np.array([[name in row for name in labels] for row in table["label"]], dtype=np.float64), scores


def _answers(values: Array, labels: Sequence[str], problem_type: ProblemType) -> Any:
    if problem_type == "regression":
        return np.asarray(values).reshape(len(values))
    if problem_type == "single_label_classification":
        return [labels[index] for index in np.argmax(values, -1)]
    if problem_type == "token_classification":
        return [[labels[tag] for tag in tags] for tags in tags_of(values)]
    return [_names(row >= 0.5, labels) for row in np.asarray(values)]


def tags_of(values: Array) -> Array:
    """The most probable tag of each word: (N,) of (words, C) -> (N,) of (words,)."""
    return ragged([np.asarray(each).argmax(-1) for each in values])


def _names(chosen: Any, labels: Sequence[str]) -> list[str]:
    return [label for label, yes in zip(labels, chosen, strict=True) if yes]


def _flat(values: Array, problem_type: ProblemType) -> Array:
    if problem_type == "token_classification":
        return values
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(len(array)) if problem_type == "regression" else array


def _with_intervals(
    predictions: Mapping[int, Array], references: Array, problem_type: ProblemType
) -> dict[str, dict[str, float | None]]:
    """Metric -> value, low, high; bounds are None where they cannot be told."""
    if len(predictions) == 1:
        found = intervals(next(iter(predictions.values())), references, problem_type)
    else:
        scores = [score(each, references, problem_type) for each in predictions.values()]
        found = {
            name: within_range(t_interval([each[name] for each in scores]), name) for name in metric_names(problem_type)
        }
    return {name: plain(interval) for name, interval in found.items()}


def _versus(
    model: Mapping[int, Array], other: Mapping[int, Array], references: Array, problem_type: ProblemType
) -> dict[str, Any]:
    """Model minus baseline in the score of a row: over test rows and seeds together, and over seeds alone."""
    ours = np.stack([_row_scores(each, references, problem_type) for each in model.values()])
    theirs = np.stack([_row_scores(each, references, problem_type) for each in other.values()])
    both = plain(within_scores(crossed_difference(ours, theirs).difference, problem_type))
    return {
        "score": ROW_SCORE[problem_type],
        "over_rows_and_seeds": both,
        "over_seeds": plain(paired_difference(ours.mean(1), theirs.mean(1))),
    }


def within_scores(difference: Interval, problem_type: ProblemType) -> Interval:
    """A difference of row scores without what cannot be: two shares differ by 1 at most."""
    if problem_type == "regression":
        return difference
    return Interval(difference.value, *(float(np.clip(bound, -1, 1)) for bound in difference[1:]))


def _row_scores(predictions: Array, references: Array, problem_type: ProblemType) -> Array:
    """A score for each row (N,), whose mean is compared: `ROW_SCORE`."""
    if problem_type == "token_classification":
        return linearised_f1(tags_of(predictions), references)
    truth = np.asarray(references)
    if problem_type == "single_label_classification":
        return np.asarray(predictions.argmax(-1) == truth, dtype=np.float64)
    if problem_type == "multi_label_classification":
        return np.asarray(((predictions >= 0.5) == (truth >= 0.5)).mean(-1))
    return np.asarray(-np.square(predictions - truth))


def plain(interval: Interval) -> dict[str, float | None]:
    """An interval as JSON has it: bounds that cannot be told are null."""
    bounds = {"low": interval.low, "high": interval.high}
    return {"value": float(interval.value)} | {k: None if np.isnan(v) else float(v) for k, v in bounds.items()}

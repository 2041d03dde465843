"""What tells the best epoch where the rows that the model is meant for have no labels: how it answers on those rows.

A model that has adapted is sure of each of them (low entropy). One that calls all of them by one class is sure as well:
mutual information asks for many classes besides, and so is the safer of the two where classes are about as frequent.
Both may prefer a wrong model; a few labelled rows of the target as `data.validation` are better than either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from datasets import Dataset

from hf_smalldata.data.domains import with_labels
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.evaluation.metrics import MAIN_METRIC, greater_is_better
from hf_smalldata.technique import Context
from hf_smalldata.training.best import KeepBest

Array = np.ndarray[Any, Any]

Selection = Literal["validation", "entropy", "mutual_information"]
LAST = "the last epoch"  # nothing tells a better one
MOST_ROWS = 2000  # that are asked after each epoch


def entropy(probabilities: Array) -> float:
    """Mean entropy of answers (N, C), in nats; lower is better (Morerio et al., https://arxiv.org/abs/1711.10288)."""
    return float(-_times_log(probabilities).sum(axis=-1).mean())


def mutual_information(probabilities: Array) -> float:
    """Entropy of the mean answer less the mean entropy of answers (N, C), in nats; higher is better.

    Musgrave et al. (https://arxiv.org/abs/2208.07360) compare it with others as a validator (there: InfoMax).
    """
    return float(-_times_log(probabilities.mean(axis=0)).sum()) - entropy(probabilities)


CRITERIA = {"entropy": entropy, "mutual_information": mutual_information}


def selects(select_by: Selection, validation: Dataset | None) -> str:
    """The epoch whose weights are kept, in words of a report."""
    if select_by in CRITERIA:
        return f"the epoch with the best {select_by.replace('_', ' ')} on unlabelled rows"
    return "the best epoch on validation rows" if validation is not None else LAST


def rows_that_tell(select_by: Selection, validation: Dataset | None, ctx: Context) -> Dataset | None:
    """Rows that tell the best epoch: validation rows, or unlabelled ones with labels of no meaning."""
    if select_by not in CRITERIA:
        return validation
    assert ctx.unlabelled is not None  # the recipe was refused without them
    return with_labels(some(ctx.unlabelled, ctx.seed), ctx.labels, ctx.problem_type)


def best_of(train: Mapping[str, Any], problem_type: ProblemType) -> KeepBest:
    """What keeps the best weights, by the settings of a recipe."""
    if train["select_by"] in CRITERIA:
        metric, better = train["select_by"], train["select_by"] == "mutual_information"
    else:
        metric = train.get("metric_for_best_model") or MAIN_METRIC[problem_type]
        given = train.get("greater_is_better")
        better = greater_is_better(metric) if given is None else given
    return KeepBest(metric, better, train["early_stopping_patience"], train["early_stopping_threshold"])


def some(rows: Dataset, seed: int) -> Dataset:
    """At most MOST_ROWS of them, drawn by the seed."""
    if len(rows) <= MOST_ROWS:
        return rows
    chosen = np.random.default_rng([seed, MOST_ROWS]).permutation(len(rows))[:MOST_ROWS]
    return rows.select(np.sort(chosen))


def _times_log(values: Array) -> Array:
    product: Array = values * np.log(np.maximum(values, np.finfo(values.dtype).tiny))
    return product

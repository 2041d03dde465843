"""Cross-validation folds: every row is tested once, by a model that has not seen it.

With 200 rows a held-out fifth leaves 40 to judge by, and an accuracy known to some 10 points. Cross-validation judges
by all 200, for as many trainings as there are folds. It judges a way of training, not one model, and with thousands of
rows it costs more than it tells.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from hf_smalldata.data.holdout import key
from hf_smalldata.data.load import Splits
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.strata import carried, class_names
from hf_smalldata.data.ties import Together, bound
from hf_smalldata.errors import UserError, listed

_MOST_BINS = 10


def folds(data: Splits, count: int, repeat: int, seed: int, together: Together = "near") -> list[Splits]:
    """Cut the training rows into `count` folds; result i tests fold i, trains on the others and validates on nothing.

    Stratified by class, so that single rows are spread evenly, to one row; multi-label by a row's set of labels, or its
    rarest label where few rows share the set; regression by quantiles of the values. Rows of one group, and rows of
    identical (or nearly identical) input, stay in one fold. Folds depend on `seed`, `repeat` and the row ids, not on
    the order of the rows.

    Args:
        data: its training rows are cut; its validation and test rows are left out of the results.
        count: folds, 2 or more.
        repeat: other repeats of a seed cut anew.
        seed: as in `sample.split`.
        together: as `data.keep_together`.

    Raises:
        UserError: fewer than two folds, or a class without a row (with groups: without a group) for each of them.
    """
    if count < 2:
        raise UserError(f"--folds: expected 2 folds or more, got {count}")
    train = data.train
    ids: list[str] = train["id"][:]
    units = bound(train, together)
    classes = [list(row) for row in carried(train, data.problem_type)]
    names = class_names(data.labels, data.problem_type)
    _check_enough(units, classes, names, count)
    fold = _deal(ids, _strata(train, classes, data.problem_type, count), units, count, f"{seed}:folds:{repeat}")
    return [
        replace(
            data,
            train=train.select(np.flatnonzero(fold != at)),
            validation=None,
            test=train.select(np.flatnonzero(fold == at)),
            warnings=(*data.warnings, *_not_learnt(fold, at, classes, names)),
            draws={},
        )
        for at in range(count)
    ]


def _check_enough(
    bound: Sequence[Sequence[int]], carried: Sequence[Sequence[int]], labels: Sequence[str], count: int
) -> None:
    """Each class needs a unit for each fold, else a fold has none to test or, with one unit, none to learn from."""
    alone = max(map(len, bound)) == 1
    kind = "rows" if alone else "groups of rows (one group, or identical inputs)"
    has = Counter(label for unit in bound for label in {label for row in unit for label in carried[row]})
    few = {labels[label]: has[label] for label in sorted(has) if has[label] < count}
    if few:
        found = listed([f"{name} has {number}" for name, number in few.items()])
        raise UserError(f"--folds: {count} folds need {count} {kind} of each class; {found}; {_way_out(few.values())}")
    if len(bound) < count:
        raise UserError(f"--folds: {count} folds need {count} {kind}; found {len(bound)}; {_way_out([len(bound)])}")


def _way_out(numbers: Iterable[int]) -> str:
    least = min(numbers)
    if least < 2:
        return "two folds need two of each: add rows, or leave the class out"
    return f"use --folds {least}" + (" or fewer" if least > 2 else "")


def _strata(
    train: Dataset, carried: Sequence[Sequence[int]], problem_type: ProblemType, count: int
) -> NDArray[np.int64]:
    """The stratum (N,) by which each row is spread."""
    if problem_type == "regression":
        values = np.asarray(train["label"][:])
        bins = min(_MOST_BINS, max(1, len(values) // count))  # a row of each bin for each fold
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        return np.searchsorted(edges, values, side="right").astype(np.int64)
    sizes = Counter(label for row in carried for label in row)
    sets = Counter(tuple(row) for row in carried)
    chosen = [
        tuple(row) if sets[tuple(row)] >= count or not row else (min(row, key=lambda label: (sizes[label], label)),)
        for row in carried
    ]
    number = {stratum: at for at, stratum in enumerate(sorted(set(chosen)))}
    return np.array([number[stratum] for stratum in chosen], dtype=np.int64)


def _deal(
    ids: Sequence[str], strata: NDArray[np.int64], bound: Sequence[Sequence[int]], count: int, seed: str
) -> NDArray[np.int64]:
    """The fold of each row (N,)."""
    # scikit-learn deals units out in the order of their numbers. Class after class, each fold as large as the others
    # before the next class starts, keeps the sizes of the folds within a row of each other as well.
    first = [min(unit, key=lambda row: key(seed, ids[row])) for unit in bound]
    order = sorted(range(len(bound)), key=lambda at: (strata[first[at]], key(seed, ids[first[at]])))
    number = np.empty(len(ids), dtype=np.int64)
    for place, at in enumerate(order):
        number[list(bound[at])] = place
    fold = np.empty(len(ids), dtype=np.int64)
    with warnings.catch_warnings():
        # of strata with fewer rows than folds, which only multi-label and regression have here
        warnings.simplefilter("ignore", UserWarning)
        cuts = StratifiedGroupKFold(count).split(number, strata, number)
        for at, (_, rows) in enumerate(cuts):
            fold[rows] = at
    return fold


def _not_learnt(fold: NDArray[np.int64], at: int, carried: Sequence[Sequence[int]], labels: Sequence[str]) -> list[str]:
    """Groups of several classes can leave all rows of a class in one fold: said, for its model can't know the class."""
    learnt = {label for row, where in zip(carried, fold, strict=True) if where != at for label in row}
    missing = sorted({label for row in carried for label in row} - learnt)
    names = listed([labels[label] for label in missing])
    return [f"fold {at} is judged by a model that saw no row of {names}: all its groups fell there"] if missing else []

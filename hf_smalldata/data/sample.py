"""Which rows are held out and which few are learnt from: by seed and row id, never by the order of the rows.

A draw of 4 labels a class lies inside the draw of 8 with the same seed, so a learning curve compares like with like.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset

from hf_smalldata.data.holdout import hold_out, key
from hf_smalldata.data.load import Splits
from hf_smalldata.data.rows import apply_rows, rows_record
from hf_smalldata.data.spec import DataSpec, ProblemType
from hf_smalldata.data.strata import carried, class_names
from hf_smalldata.data.ties import bound, without_leaks
from hf_smalldata.errors import UserError, listed

__all__ = ["apply_rows", "draw", "draw_for", "rows_record", "split", "split_validation"]

_MOST_BINS = 10


def split(splits: Splits, spec: DataSpec) -> Splits:
    """Hold test rows out of the training rows where the source has none, then validation rows if asked for.

    Stratified by label (regression: by tenths of the values); rows of one group, and rows of identical input, stay
    together. Every class keeps a training row; with few rows a class the held-out share is larger than asked for, as
    each class gives one row where it can. `validation_fraction` is a share of the rows that remain after the test rows.

    Raises:
        UserError: nothing can be held out, e.g. because all rows are one group.
    """
    splits = without_leaks(splits, spec.keep_together)
    if splits.test is None:
        splits = _held_out(splits, "test", spec.test_fraction, spec)
    return split_validation(splits, spec)


def split_validation(splits: Splits, spec: DataSpec) -> Splits:
    """Hold validation rows out of the training rows where they are asked for and the source has none; as in `split`."""
    if splits.validation is None and spec.validation_fraction > 0:
        return _held_out(splits, "validation", spec.validation_fraction, spec)
    return splits


def draw(train: Dataset, spec: DataSpec, labels: tuple[str, ...], problem_type: ProblemType, seed: int) -> Dataset:
    """The training rows of one seed: `labels_per_class` rows a class, a `fraction` of them, or all, in their own order.

    Draws of one seed are nested. For multi-label sets `labels_per_class` takes that many rows which carry the label,
    for each label, so common labels have more; for tokens sentences until that many entities of each type are there. A
    class without any training row is passed over (`load` has warned of it).

    Raises:
        UserError: a class has fewer rows than `labels_per_class`; it lists them all with their counts.
    """
    if spec.labels_per_class is None and spec.fraction is None:
        return train
    if spec.labels_per_class is not None and problem_type == "regression":
        raise UserError("data.labels_per_class needs classes, and this is regression; use data.fraction")
    ids: list[str] = train["id"][:]
    order = sorted(range(len(ids)), key=lambda row: key(seed, ids[row]))
    members: dict[int, list[int]] = {}
    by_class = spec.labels_per_class is not None or problem_type == "single_label_classification"
    strata: Sequence[Mapping[int, int]] = carried(train, problem_type) if by_class else [{0: 1}] * len(ids)
    for row in order:
        for stratum in strata[row]:
            members.setdefault(stratum, []).append(row)
    if spec.labels_per_class is not None:
        has = {stratum: sum(strata[row][stratum] for row in rows) for stratum, rows in members.items()}
        _check_enough(has, spec.labels_per_class, class_names(labels, problem_type))
    chosen = {row for stratum, rows in members.items() for row in _first(rows, strata, stratum, spec)}
    return train.select(sorted(chosen))


def draw_for(splits: Splits, spec: DataSpec, seed: int) -> Dataset:
    """The training rows of one seed: as recorded where `apply_rows` brought a record, else drawn anew.

    Raises:
        UserError: the record has no such seed, or `draw` cannot draw.
    """
    if not splits.draws:
        return draw(splits.train, spec, splits.labels, splits.problem_type, seed)
    if seed not in splits.draws:
        raise UserError(f"{spec.rows} has no draw of seed {seed}; it has the seeds {listed(sorted(splits.draws))}")
    return splits.draws[seed]


def _held_out(splits: Splits, name: str, fraction: float, spec: DataSpec) -> Splits:
    train = splits.train
    ids: list[str] = train["id"][:]
    count = max(1, round(fraction * len(ids)))
    strata = _strata(train, splits.problem_type, count)
    together = bound(train, spec.keep_together)
    rows = hold_out(ids, strata, together, count, f"{spec.split_seed}:{name}")
    if not rows:
        largest = max(map(len, together))
        raise UserError(
            f"expected to hold {count} {name} rows out of {len(ids)} training rows, found none that could go: "
            f"the largest group of rows that stay together has {largest}, and each class keeps a training row; "
            f"set data.{name} to a source of its own"
        )
    kept = [row for row in range(len(ids)) if row not in rows]
    warnings = (*splits.warnings, *_left_out_classes(strata, rows, splits, name))
    parts: dict[str, Any] = {"train": train.select(kept), name: train.select(sorted(rows)), "warnings": warnings}
    return replace(splits, **parts)


def _left_out_classes(strata: Sequence[Sequence[int]], rows: set[int], splits: Splits, name: str) -> list[str]:
    held = {stratum for row in rows for stratum in strata[row]}
    missing = sorted({stratum for row in strata for stratum in row} - held) if splits.labels else []
    names = [class_names(splits.labels, splits.problem_type)[stratum] for stratum in missing]
    return [f"no {name} row could be held out for {listed(names)}: too few rows, kept for training"] if names else []


def _strata(train: Dataset, problem_type: ProblemType, count: int) -> Sequence[Sequence[int]]:
    """Classes a row; for regression the tenth of the values that it lies in, coarser where that is under a row each."""
    if problem_type != "regression":
        return [list(row) for row in carried(train, problem_type)]
    values = np.asarray(train["label"][:])
    edges = np.quantile(values, np.linspace(0, 1, min(_MOST_BINS, count) + 1)[1:-1])
    return [[int(stratum)] for stratum in np.searchsorted(edges, values, side="right")]


def _first(rows: Sequence[int], counts: Sequence[Mapping[int, int]], stratum: int, spec: DataSpec) -> Sequence[int]:
    """The rows drawn out of those of a class, in order; more with a larger budget, so draws are nested."""
    if spec.labels_per_class is None:
        return rows[: max(1, int((spec.fraction or 1.0) * len(rows) + 0.5))]
    reached = np.cumsum([counts[row].get(stratum, 1) for row in rows])
    return rows[: int(np.searchsorted(reached, spec.labels_per_class)) + 1]


def _check_enough(has: Mapping[int, int], wanted: int, labels: tuple[str, ...]) -> None:
    few = [f"{name} {has[at]}" for at, name in enumerate(labels) if 0 < has.get(at, 0) < wanted]
    if few:
        raise UserError(
            f"data.labels_per_class is {wanted}, these classes have fewer training rows: {listed(few)}; "
            "draw fewer, or leave labels_per_class out to learn from all rows"
        )

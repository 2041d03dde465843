"""Label cells to targets: the kind of problem, class names in a stable order, and the numbers."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.table import is_missing
from hf_smalldata.errors import UserError, listed

Cells = Mapping[str, Sequence[Any]]  # label cells by split; none is missing
_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MANY_CLASSES = 20  # from here on, more classes than half the rows are taken for a mistake


@dataclass(frozen=True)
class Targets:
    """Numbers a model learns from, by split, with the names of the classes they index."""

    by_split: Mapping[str, list[Any]]
    names: tuple[str, ...]  # () for regression
    problem_type: ProblemType
    warnings: tuple[str, ...]


def encode(cells: Cells, column: str, names: Sequence[str] | None = None, wanted: ProblemType | None = None) -> Targets:
    """Label cells to class indices, multi-hot lists or floats.

    Names are in order of the ClassLabel when the data brings one, else numbers by size and texts by alphabet: the order
    of the rows has no say. Lists are multi-label, numbers with a fraction regression unless `wanted` says otherwise.

    Args:
        cells: label cells by split, `train` among them, none missing.
        column: the label column, for messages.
        names: class names when cells are their indices.
        wanted: the problem type to read them as.

    Raises:
        UserError: labels that do not fit the problem type, several of them alike in every row, or nearly a class a row.
    """
    plain = {split: [_plain(cell) for cell in values] for split, values in cells.items()}
    _check_kinds(plain, column)
    if any(isinstance(cell, list) for values in plain.values() for cell in values):
        if wanted not in (None, "multi_label_classification"):
            raise UserError(
                f"label column '{column}' holds lists, which are multi-label; data.problem_type is {wanted}"
            )
        lists = {split: [_listed_or_one(cell) for cell in values] for split, values in plain.items()}
        return _multi_label(lists, column, names)
    typed = plain if names is not None else _typed(plain)
    if wanted == "multi_label_classification":
        return _multi_label({split: [[cell] for cell in values] for split, values in typed.items()}, column, names)
    fractions = names is None and all(_is_float(cell) for values in typed.values() for cell in values)
    if wanted == "regression" or (wanted is None and fractions and not _all_whole(typed)):
        return _regression(typed, column)
    return _single_label(typed, column, names, checked=wanted is None)


def split_cells(cells: Iterable[Any], separator: str) -> list[list[str]]:
    """`a; b` -> `[a, b]`; a missing cell is the empty list, a row to which no label applies."""
    return [
        [part.strip() for part in str(cell).split(separator) if part.strip()] if not is_missing(cell) else []
        for cell in cells
    ]


def columns_to_lists(columns: Mapping[str, Sequence[Any]], ids: Sequence[str], where: str) -> list[list[str]]:
    """Several 0/1 columns to one list a row: the names of the columns that hold a 1.

    Raises:
        UserError: a cell that is neither 0 nor 1; it names the rows.
    """
    ones, zeros = {1, "1", "1.0", "true"}, {0, "0", "0.0", "false"}
    rows: list[list[str]] = [[] for _ in ids]
    strange = []
    for name, cells in columns.items():
        for row, cell in enumerate(map(_plain, cells)):
            value = cell.strip().lower() if isinstance(cell, str) else cell
            if value in ones:
                rows[row].append(name)
            elif value not in zeros:
                strange.append(f"{ids[row]} {name}={cell!r}")
    if strange:
        raise UserError(
            f"{where}: expected 0 or 1 in the label columns {listed(list(columns))}, found {listed(strange)}; "
            "mend these cells, or name one data.label_column"
        )
    return rows


def _single_label(cells: Cells, column: str, names: Sequence[str] | None, checked: bool) -> Targets:
    warnings: list[str] = []
    found = {cell for values in cells.values() for cell in values}
    if names is None:
        order = sorted(found, key=_order)
        names, index = tuple(_shown(cell) for cell in order), {cell: at for at, cell in enumerate(order)}
        warnings += _look_alikes(cells)
    else:
        _check_indices(found, names, column)
        index = {cell: cell for cell in found}
    rows = sum(map(len, cells.values()))
    if checked and len(found) > max(_MANY_CLASSES, rows // 2):
        raise UserError(
            f"label column '{column}' has {len(found)} values in {rows} rows: expected a few classes with several rows "
            "each; name the right data.label_column, or set data.problem_type to regression (numbers) or to "
            "single_label_classification"
        )
    by_split = {split: [index[cell] for cell in values] for split, values in cells.items()}
    in_train = set(by_split["train"])
    unseen = [name for at, name in enumerate(names) if at not in in_train]
    warnings += _unseen(unseen)
    return Targets(by_split, tuple(names), "single_label_classification", tuple(warnings))


def _multi_label(cells: Mapping[str, list[list[Any]]], column: str, names: Sequence[str] | None) -> Targets:
    rows = [row for values in cells.values() for row in values]
    if names is None and _are_multi_hot(rows):
        names = tuple(str(at) for at in range(len(rows[0])))
        cells = {split: [[at for at, on in enumerate(row) if on] for row in values] for split, values in cells.items()}
    found = {cell for values in cells.values() for row in values for cell in row}
    if names is None:
        order = sorted(found, key=_order)
        names, index = tuple(_shown(cell) for cell in order), {cell: at for at, cell in enumerate(order)}
    else:
        by_name = {name: at for at, name in enumerate(names)}
        index = {cell: by_name.get(cell, cell) for cell in found}
        _check_indices(set(index.values()), names, column)
    width = len(names)
    by_split = {
        split: [_multi_hot({index[cell] for cell in row}, width) for row in values] for split, values in cells.items()
    }
    if len({tuple(row) for row in by_split["train"]}) < 2:
        raise UserError(
            f"label column '{column}': expected rows with different labels, found every training row labelled alike "
            f"({listed(names) or 'no label'})"
        )
    seen = np.asarray(by_split["train"]).sum(axis=0)
    warnings = [
        *_look_alikes({split: [cell for row in values for cell in row] for split, values in cells.items()}),
        *_unseen([name for name, count in zip(names, seen, strict=True) if not count]),
    ]
    return Targets(by_split, tuple(names), "multi_label_classification", tuple(warnings))


def _regression(cells: Cells, column: str) -> Targets:
    strange = [cell for values in cells.values() for cell in values if not _is_finite(cell)]
    if strange:
        raise UserError(
            f"label column '{column}': expected numbers for regression, "
            f"found {listed([repr(cell) for cell in strange])}; mend these cells or leave data.problem_type out"
        )
    by_split = {split: [float(cell) for cell in values] for split, values in cells.items()}
    if len(set(by_split["train"])) < 2:
        raise UserError(
            f"label column '{column}': expected different numbers, found {by_split['train'][0]} in every row"
        )
    return Targets(by_split, (), "regression", ())


def _plain(cell: Any) -> Any:
    """Numpy's scalars and arrays as Python's own."""
    if isinstance(cell, (np.generic, np.ndarray)):
        cell = cell.tolist()
    return list(cell) if isinstance(cell, (tuple, set, frozenset)) else cell


def _check_kinds(cells: Cells, column: str) -> None:
    singles = (cell for values in cells.values() for entry in values for cell in _listed_or_one(entry))
    strange = {type(cell).__name__ for cell in singles if not isinstance(cell, (str, int, float))}
    if strange:
        raise UserError(
            f"label column '{column}': expected texts, numbers, truth values or lists of them, "
            f"found {listed(sorted(strange))}"
        )


def _listed_or_one(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _multi_hot(on: set[int], width: int) -> list[float]:
    return [float(at in on) for at in range(width)]


def _typed(cells: Cells) -> Cells:
    """Texts that are all whole numbers, all numbers or all truth values become these (csv knows texts only)."""
    every = [cell for values in cells.values() for cell in values]
    if all(isinstance(cell, str) for cell in every):
        texts = {cell: cell.strip() for cell in every}
        if all(_INTEGER.fullmatch(text) for text in texts.values()):  # '007' is a name and stays one
            return {split: [int(texts[cell]) for cell in values] for split, values in cells.items()}
        if all(_NUMBER.fullmatch(text) for text in texts.values()) and any("." in text for text in texts.values()):
            every_cell = {split: [float(texts[cell]) for cell in values] for split, values in cells.items()}
            return _whole(every_cell)
        if all(text.lower() in ("true", "false") for text in texts.values()):
            return {split: [texts[cell].lower() == "true" for cell in values] for split, values in cells.items()}
        return cells
    return _whole(cells)


def _whole(cells: Cells) -> Cells:
    """1.0 and 2.0 as 1 and 2: pandas makes floats of whole numbers when a cell is missing."""
    every = [cell for values in cells.values() for cell in values]
    if every and all(_is_float(cell) for cell in every) and all(float(cell).is_integer() for cell in every):
        return {split: [int(cell) for cell in values] for split, values in cells.items()}
    return cells


def _all_whole(cells: Cells) -> bool:
    return all(isinstance(cell, int) for values in cells.values() for cell in values)


def _is_float(cell: object) -> bool:
    return isinstance(cell, (int, float)) and not isinstance(cell, bool)


def _is_finite(cell: object) -> bool:
    return _is_float(cell) and abs(cell) <= sys.float_info.max  # type: ignore[arg-type]


def _order(cell: Any) -> tuple[int, float, str]:
    """Numbers (and false, true) by size before texts by alphabet."""
    return (0, cell, "") if isinstance(cell, (int, float)) else (1, 0.0, str(cell))


def _shown(cell: Any) -> str:
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def _check_indices(found: set[Any], names: Sequence[str], column: str) -> None:
    strange = sorted(str(at) for at in found if not isinstance(at, int) or not 0 <= at < len(names))
    if strange:
        raise UserError(
            f"label column '{column}': expected class indices 0 to {len(names) - 1}, found {listed(strange)}"
        )


def _are_multi_hot(rows: Sequence[Sequence[Any]]) -> bool:
    """True of lists of 0 and 1, all of one length, some with a repeated value: a list of indices repeats none."""
    return (
        len({len(row) for row in rows}) == 1
        and all(isinstance(cell, (int, float)) and cell in (0, 1) for row in rows for cell in row)
        and any(len(set(row)) < len(row) for row in rows)
    )


def _look_alikes(cells: Cells) -> list[str]:
    """A warning for names that differ only in case or blanks, with the rows of each."""
    counts = Counter(cell for values in cells.values() for cell in values if isinstance(cell, str))
    alike: dict[str, list[str]] = {}
    for name in sorted(counts):
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    return [
        "labels that differ only in case or blanks are kept as different classes: "
        + " and ".join(f"{name!r} ({counts[name]} rows)" for name in names)
        for names in alike.values()
        if len(names) > 1
    ]


def _unseen(names: Sequence[str]) -> list[str]:
    return [f"no training row has the label {listed(names)}: it cannot be learnt"] if names else []

"""Which column is the input, which the label: as given, else by name, else by content; never one of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_smalldata.data.modality import LABEL_NAMES, Kind, Modality, get_modality
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, is_missing
from hf_smalldata.errors import Problems, did_you_mean, listed

_NEAR_LENGTH = 0.5  # a second text column of half the longest one's length is a rival
_MOST_CLASSES = 100


@dataclass(frozen=True)
class Columns:
    """The part that each column plays."""

    input: str
    labels: tuple[str, ...]  # several: 0/1 columns of a multi-label set
    pair: str | None = None
    group: str | None = None


def find_columns(tables: Mapping[str, Table], spec: DataSpec, kind: Kind) -> Columns:
    """Name the columns of a set by its training rows, and see that every split has them.

    Raises:
        Problems: columns that are missing, or that could be either; all of them at once.
    """
    train, modality = tables["train"], get_modality(kind)
    problems: list[str] = []
    given = {
        "data.input_column": (spec.input_column,),
        "data.text_pair_column": (spec.text_pair_column,),
        "data.label_column": spec.label_column if isinstance(spec.label_column, tuple) else (spec.label_column,),
        "data.group": (spec.group,),
    }
    taken = {name for names in given.values() for name in names if name}
    for key, names in given.items():
        problems += [f"{key}: {_absent(name, train)}" for name in names if name and name not in train.columns]
    label_names = tuple(name for name in given["data.label_column"] if name)
    input_name = spec.input_column
    if input_name is None:
        input_name, problem = _guess_input(train, taken, modality)
        problems += [problem] if problem else []
    if not label_names:
        label, problem = _guess_label(train, taken | {input_name or ""}, modality)
        problems += [problem] if problem else []
        label_names = (label,) if label else ()
    if input_name in label_names:
        problems.append(f"data.input_column and data.label_column are both '{input_name}'; name two columns")
    if problems or input_name is None:
        raise Problems(train.where, problems)
    columns = Columns(input_name, label_names, spec.text_pair_column, spec.group)
    _check_other_splits(tables, columns)
    return columns


def _check_other_splits(tables: Mapping[str, Table], columns: Columns) -> None:
    wanted = [columns.input, *columns.labels, columns.pair, columns.group]
    problems = [
        f"{table.where}: {_absent(name, table)} (it is in {tables['train'].where})"
        for table in tables.values()
        for name in wanted
        if name and name not in table.columns
    ]
    if problems:
        raise Problems("the columns of the splits", problems)


def _absent(name: str, table: Table) -> str:
    found = list(table.columns)
    return (
        f"no column '{name}', found {listed(found) or 'none'}{did_you_mean(name, found) if _near(name, found) else ''}"
    )


def _near(name: str, found: Sequence[str]) -> bool:
    return "did you mean" in did_you_mean(name, found)  # the names themselves are already in the message


def _guess_input(table: Table, taken: set[str], modality: Modality) -> tuple[str | None, str | None]:
    """The column, or the sentence that asks for it."""
    free = [name for name in table.columns if name not in taken]
    named = _by_name(free, modality.input_names)
    if not named and modality.of_text:
        labels = _by_name(free, LABEL_NAMES)
        lengths = {name: _mean_length(table.columns[name]) for name in free if name not in labels}
        longest = max(lengths.values(), default=0.0)
        named = [name for name, length in lengths.items() if length and length >= _NEAR_LENGTH * longest]
    return _only(named, modality.kind, "data.input_column", table)


def _guess_label(table: Table, taken: set[str], modality: Modality) -> tuple[str | None, str | None]:
    free = [name for name in table.columns if name not in taken]
    named = _by_name(free, modality.label_names)
    if not named and modality.kind != "tokens":  # a column of few values tags no words
        named = [name for name in free if _few_values(table.columns[name])]
    return _only(named, "label", "data.label_column", table)


def _only(names: Sequence[str], what: str, key: str, table: Table) -> tuple[str | None, str | None]:
    if len(names) == 1:
        return names[0], None
    if names:
        return None, f"{key}: the {what} column could be {' or '.join(names)}; set {key} to one of them"
    return None, f"{key}: found no {what} column among {listed(list(table.columns)) or 'none'}; set {key}"


def _by_name(names: Sequence[str], tiers: Sequence[Sequence[str]]) -> list[str]:
    for tier in tiers:
        found = [name for name in names if name.lower().strip() in tier]
        if found:
            return found
    return []


def _mean_length(cells: Sequence[Any]) -> float:
    """Mean characters of a column of texts; 0 when it holds anything else or numbers only."""
    texts = [cell for cell in cells if not is_missing(cell)]
    if not texts or not all(isinstance(text, str) for text in texts) or all(_is_number(text) for text in texts):
        return 0.0
    return sum(map(len, texts)) / len(texts)


def _is_number(text: str) -> bool:
    return text.strip().lstrip("+-").replace(".", "", 1).isdigit()


def _few_values(cells: Sequence[Any]) -> bool:
    """True of 2 to 100 values, each on two rows or more on average."""
    present = [cell for cell in cells if not is_missing(cell)]
    if not all(isinstance(cell, (str, int, bool)) for cell in present):
        return False
    return 2 <= len(set(present)) <= min(_MOST_CLASSES, max(2, len(present) // 2))


def find_input(table: Table, spec: DataSpec, kind: Kind) -> str:
    """The input column of rows that need no label, as `find_columns` would name it.

    Raises:
        Problems: it is missing, or could be either of several.
    """
    if spec.input_column is not None:
        if spec.input_column not in table.columns:
            raise Problems(table.where, [f"data.input_column: {_absent(spec.input_column, table)}"])
        return spec.input_column
    labels = spec.label_column if isinstance(spec.label_column, tuple) else (spec.label_column,)
    name, problem = _guess_input(table, {label for label in labels if label}, get_modality(kind))
    if name is None:
        raise Problems(table.where, [problem or "data.input_column: none of the columns looks like an input"])
    return name

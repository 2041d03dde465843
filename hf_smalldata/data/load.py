"""Rows from any source to the one form that everything else reads: id, text or image, label, group.

The first place where a small set goes wrong is here: an empty cell, a label with a space behind it, a second header.
With fifty rows each of them costs accuracy, so what can't be read is refused by name and what is left out is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, List, Value, concatenate_datasets

from hf_smalldata.data import labels
from hf_smalldata.data.columns import Columns, Input, find_columns
from hf_smalldata.data.images import check_images
from hf_smalldata.data.source import read_sources
from hf_smalldata.data.spec import DataSpec, ProblemType
from hf_smalldata.data.table import Table, is_missing, tables_of_objects
from hf_smalldata.errors import UserError, listed

_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can write half a character; nothing else can
_LABEL_FEATURES = {
    "single_label_classification": Value("int64"),
    "multi_label_classification": List(Value("float32")),
    "regression": Value("float64"),
}


@dataclass(frozen=True)
class Splits:
    """A labelled data set. Columns: id, text (and text_pair) or image, label, and group when `data.group` is given.

    Attributes:
        train: rows to learn from.
        validation: rows to choose by, or None.
        test: rows to judge by, or None.
        labels: class names by index; () for regression.
        problem_type: label is an int, a multi-hot list of floats, or a float.
        warnings: what was left out or looks wrong, a sentence each.
        draws: training rows by seed as `data.rows` records them; empty without it.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    labels: tuple[str, ...]
    problem_type: ProblemType
    warnings: tuple[str, ...] = ()
    draws: Mapping[int, Dataset] = field(default_factory=dict)


def load(
    spec: DataSpec, input_column: Input, problem_type_override: ProblemType | None = None, objects: Any = None
) -> Splits:
    """Read a data set; nothing is held out or drawn yet (see `sample`).

    Args:
        spec: the source and how to read it.
        input_column: what the task reads.
        problem_type_override: goes before `spec.problem_type`.
        objects: rows in memory instead of the source: a DataFrame, a Dataset or a dict of lists (training rows), or a
            DatasetDict / dict of these by split name. `spec.name` then only names the set.

    Raises:
        UserError: something a user can mend, in one message.
    """
    tables = read_sources(spec, input_column) if objects is None else tables_of_objects(objects)
    if "train" not in tables:
        raise UserError(f"expected training rows, found only {listed(sorted(tables))}")
    warnings = [warning for table in tables.values() for warning in table.warnings]
    columns = find_columns(tables, spec, input_column)
    cells = {split: _label_cells(table, columns, spec) for split, table in tables.items()}
    kept: dict[str, list[int]] = {}
    for split, table in list(tables.items()):
        kept[split], dropped = _complete_rows(table, columns, cells[split], split)
        warnings += dropped
        if not kept[split]:  # a test split without labels, as benchmarks publish
            del kept[split], tables[split], cells[split]
    present = {split: [cells[split][row] for row in rows] for split, rows in kept.items()}
    names = tables["train"].label_names.get(columns.labels[0]) if len(columns.labels) == 1 else columns.labels
    targets = labels.encode(present, " + ".join(columns.labels), names, problem_type_override or spec.problem_type)
    _check_problem_type(targets, problem_type_override or spec.problem_type)
    rows = {
        split: _dataset(table, columns, kept[split], targets.by_split[split], targets.problem_type, input_column)
        for split, table in tables.items()
    }
    if input_column == "image":
        for split, split_rows in rows.items():
            check_images(split_rows["image"], split_rows["id"], tables[split].where)
    return Splits(
        train=rows["train"],
        validation=rows.get("validation"),
        test=rows.get("test"),
        labels=targets.names,
        problem_type=targets.problem_type,
        warnings=(*warnings, *targets.warnings),
    )


def _label_cells(table: Table, columns: Columns, spec: DataSpec) -> Sequence[Any]:
    """One label cell a row, None where the label is missing."""
    if len(columns.labels) > 1:
        return labels.columns_to_lists({n: table.columns[n] for n in columns.labels}, table.ids, table.where)
    cells = table.columns[columns.labels[0]]
    if spec.label_separator is not None:
        return labels.split_cells(cells, spec.label_separator)
    if columns.labels[0] in table.label_names:  # benchmarks write -1 where they hide the label
        return [None if cell == -1 else cell for cell in cells]
    return cells


def _complete_rows(table: Table, columns: Columns, cells: Sequence[Any], split: str) -> tuple[list[int], list[str]]:
    """Rows that have an input and a label, and a warning that counts and names the others.

    Raises:
        UserError: no row of the training rows is complete, or no row of another split has an input.
    """
    inputs = [table.columns[name] for name in (columns.input, columns.pair) if name is not None]
    blank = {row for column in inputs for row, cell in enumerate(column) if is_missing(cell)}
    unlabelled = {row for row, cell in enumerate(cells) if is_missing(cell)} - blank
    rows = [row for row in range(len(table.ids)) if row not in blank and row not in unlabelled]
    input_names = "' or '".join(name for name in (columns.input, columns.pair) if name is not None)
    label_names = "' or '".join(columns.labels)
    causes = [(blank, f"an empty '{input_names}'"), (unlabelled, f"no '{label_names}'")]
    said = [
        f"{len(which)} of {len(table.ids)} rows have {what}: {listed([table.ids[row] for row in sorted(which)])}"
        for which, what in causes
        if which
    ]
    if rows:
        return rows, [f"{table.where}: {sentence}; left out" for sentence in said]
    if split != "train" and len(unlabelled) == len(table.ids):
        return [], [f"{table.where}: its rows carry no labels, so the {split} split is not used"]
    raise UserError(
        f"{table.where}: no row is left; " + ("; ".join(said) or "it holds no rows") + "; fill these cells in"
    )


def _check_problem_type(targets: labels.Targets, wanted: ProblemType | None) -> None:
    if wanted is not None and targets.problem_type != wanted:
        raise UserError(f"data.problem_type is {wanted}, the labels are {targets.problem_type}; correct one of them")


def _dataset(
    table: Table, columns: Columns, rows: list[int], targets: list[Any], problem_type: ProblemType, kind: Input
) -> Dataset:
    ids = [table.ids[row] for row in rows]
    data: dict[str, list[Any]] = {"id": ids}
    features: dict[str, Any] = {"id": Value("string")}
    if kind == "text":
        for name, column in (("text", columns.input), ("text_pair", columns.pair)):
            if column is not None:
                data[name] = _texts(table, column, rows)
                features[name] = Value("string")
    data["label"] = targets
    features["label"] = _LABEL_FEATURES[problem_type]
    if columns.group is not None:
        cells = table.columns[columns.group]
        group = [cells[row] for row in rows] if len(rows) < len(table.ids) else list(cells)
        # a row without a group stands alone
        data["group"] = [row_id if is_missing(cell) else str(cell) for cell, row_id in zip(group, ids, strict=True)]
        features["group"] = Value("string")
    dataset = Dataset.from_dict(data, features=Features(features))
    if kind == "text":
        return dataset
    order = ["id", "image", *(name for name in features if name != "id")]
    return concatenate_datasets([dataset, _images(table, columns.input, rows)], axis=1).select_columns(order)


def _texts(table: Table, column: str, rows: Sequence[int]) -> list[str]:
    cells = list(table.columns[column])
    strange = {type(cells[row]).__name__ for row in rows if isinstance(cells[row], (list, dict, bytes, bytearray))}
    if strange:
        raise UserError(f"{table.where}: expected texts in column '{column}', found {listed(sorted(strange))}")
    texts = [str(cells[row]) for row in rows]
    torn = [table.ids[row] for row, text in zip(rows, texts, strict=True) if _SURROGATES.search(text)]
    if torn:
        raise UserError(
            f"{table.where}: '{column}' holds halves of characters (\\ud800 to \\udfff) in {listed(torn)}; mend it"
        )
    return texts


def _images(table: Table, column: str, rows: Sequence[int]) -> Dataset:
    """The image column alone, undecoded; relative paths are taken from the folder of the file that names them."""
    if table.dataset is not None and table.folder is None:
        chosen = table.dataset.select_columns([column])
        chosen = chosen if column == "image" else chosen.rename_column(column, "image")
        return (chosen if len(rows) == len(chosen) else chosen.select(rows)).cast_column("image", Image(decode=False))
    cells = list(table.columns[column])
    encoder = Image()
    values = [encoder.encode_example(_absolute(cells[row], table.folder)) for row in rows]
    paths = [value if isinstance(value, Mapping) else {"bytes": None, "path": value} for value in values]
    return Dataset.from_dict({"image": paths}, features=Features({"image": Image(decode=False)}))


def _absolute(cell: Any, folder: Path | None) -> Any:
    if isinstance(cell, Mapping) and cell.get("bytes") is None and cell.get("path") is not None:
        cell = cell["path"]
    return str(folder / cell) if isinstance(cell, (str, Path)) and folder is not None else cell

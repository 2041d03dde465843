"""Rows from any source to the one form that everything else reads: id, text or image, label, group.

The first place where a small set goes wrong is here: an empty cell, a label with a space behind it, a second header.
With fifty rows each of them costs accuracy, so what can't be read is refused by name and what is left out is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, Features, List, Value, concatenate_datasets

from hf_smalldata.data import labels
from hf_smalldata.data.columns import Columns, find_columns
from hf_smalldata.data.modality import Kind, Modality, Read, get_modality
from hf_smalldata.data.source import read_sources
from hf_smalldata.data.spec import DataSpec, ProblemType
from hf_smalldata.data.table import Table, check_characters, is_missing, tables_of_objects
from hf_smalldata.errors import UserError, listed

LABEL_FEATURES = {
    "single_label_classification": Value("int64"),
    "multi_label_classification": List(Value("float32")),
    "regression": Value("float64"),
    "token_classification": List(Value("int64")),
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
        unlabelled: rows without labels: columns id, domain, input; or None (see `domains`).
        source: labelled rows of other domains, with the same labels: columns id, domain, input, label; or None.
        source_labels: class names of `source` by index, where they are its own; () where they are `labels`.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    labels: tuple[str, ...]
    problem_type: ProblemType
    warnings: tuple[str, ...] = ()
    draws: Mapping[int, Dataset] = field(default_factory=dict)
    unlabelled: Dataset | None = None
    source: Dataset | None = None
    source_labels: tuple[str, ...] = ()


def load(
    spec: DataSpec,
    kind: Kind,
    problem_type_override: ProblemType | None = None,
    objects: Any = None,
    fewest_classes: int = 2,
) -> Splits:
    """Read a data set; nothing is held out or drawn yet (see `sample`).

    Args:
        spec: the source and how to read it.
        kind: what the task reads.
        problem_type_override: goes before `spec.problem_type`.
        objects: rows in memory instead of the source: a DataFrame, a Dataset or a dict of lists (training rows), or a
            DatasetDict / dict of these by split name. `spec.name` then only names the set.
        fewest_classes: that the training rows must have: a model learns nothing from one, a look at rows does.

    Raises:
        UserError: something a user can mend, in one message.
    """
    spec = spec.model_copy(update={"problem_type": problem_type_override or spec.problem_type})
    modality = get_modality(kind)
    tables = read_sources(spec, kind) if objects is None else tables_of_objects(objects)
    if "train" not in tables:
        raise UserError(f"expected training rows, found only {listed(sorted(tables))}")
    warnings = [warning for table in tables.values() for warning in table.warnings]
    columns = find_columns(tables, spec, kind)
    spec = modality.settled(spec, [table.columns[columns.input] for table in tables.values()])
    for table in tables.values():
        for name in (*columns.labels, *([columns.group] if columns.group is not None else [])):
            check_characters(table.where, name, table.ids, table.columns[name])
    cells = {split: label_cells(table, columns, spec, kind) for split, table in tables.items()}
    kept: dict[str, list[int]] = {}
    for split, table in list(tables.items()):
        kept[split], dropped = _complete_rows(table, columns, cells[split], split)
        warnings += dropped
        if not kept[split]:  # a test split without labels, as benchmarks publish
            del kept[split], tables[split], cells[split]
    inputs: dict[str, Dataset] = {}
    for split, table in tables.items():
        inputs[split], changed = _inputs(table, columns, kept[split], modality, spec)
        warnings += changed + modality.check(inputs[split], table.where)
    present = {split: [cells[split][row] for row in rows] for split, rows in kept.items()}
    names = tables["train"].label_names.get(columns.labels[0]) if len(columns.labels) == 1 else columns.labels
    targets = modality.targets(inputs, present, " + ".join(columns.labels), names, spec)
    _check_problem_type(targets, spec.problem_type)
    _check_classes(targets, " + ".join(columns.labels), fewest_classes)
    groups = {split: _groups(rows, tables[split], columns, kept[split], modality) for split, rows in inputs.items()}
    rows = {
        split: _dataset(inputs[split], targets.by_split[split], targets.problem_type, groups[split]) for split in tables
    }
    return Splits(
        train=rows["train"],
        validation=rows.get("validation"),
        test=rows.get("test"),
        labels=targets.names,
        problem_type=targets.problem_type,
        warnings=(*warnings, *targets.warnings),
    )


def label_cells(table: Table, columns: Columns, spec: DataSpec, kind: Kind) -> Sequence[Any]:
    """One label cell a row, None where the label is missing."""
    if len(columns.labels) > 1:
        return labels.columns_to_lists({n: table.columns[n] for n in columns.labels}, table.ids, table.where)
    cells = table.columns[columns.labels[0]]
    if spec.label_separator is not None:
        return labels.split_cells(cells, spec.label_separator)
    if columns.labels[0] in table.label_names and kind != "tokens":  # benchmarks write -1 where they hide the label
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


def _check_classes(targets: labels.Targets, column: str, fewest: int) -> None:
    if targets.problem_type != "single_label_classification":
        return
    found = sorted(set(targets.by_split["train"]))
    if len(found) < fewest:
        names = listed([repr(targets.names[at]) for at in found])
        raise UserError(f"label column '{column}': expected two classes or more in the training rows, found {names}")


def _inputs(table: Table, columns: Columns, rows: list[int], modality: Modality, spec: DataSpec) -> Read:
    """Ids and input columns of the rows that are kept."""
    ids = Dataset.from_dict({"id": [table.ids[row] for row in rows]}, features=Features({"id": Value("string")}))
    made, changed = modality.inputs(table, columns.input, columns.pair, rows, spec)
    return concatenate_datasets([ids, made], axis=1), changed


def _groups(inputs: Dataset, table: Table, columns: Columns, rows: list[int], modality: Modality) -> list[str] | None:
    """The group of each row: of the column that is given, else what the inputs carry themselves."""
    if columns.group is None:
        return modality.groups(inputs)
    cells = table.columns[columns.group]
    group = [cells[row] for row in rows] if len(rows) < len(table.ids) else list(cells)
    # a row without a group stands alone
    return [row_id if is_missing(cell) else str(cell) for cell, row_id in zip(group, inputs["id"][:], strict=True)]


def _dataset(inputs: Dataset, targets: list[Any], problem_type: ProblemType, groups: Sequence[str] | None) -> Dataset:
    """Ids, inputs, labels and groups."""
    data: dict[str, Sequence[Any]] = {"label": targets}
    features: dict[str, Any] = {"label": LABEL_FEATURES[problem_type]}
    if groups is not None:
        data["group"], features["group"] = groups, Value("string")
    return concatenate_datasets([inputs, Dataset.from_dict(data, features=Features(features))], axis=1)

"""A source as it was read: columns of cells and an id for each row, before anyone says what the columns mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Image, IterableDataset, List, Value

from hf_smalldata.errors import UserError, listed

_SURROGATES = re.compile("[\ud800-\udfff]")
SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


FILE = {"bytes": Value("binary"), "path": Value("string")}  # a sound of a row; one of them is None


@dataclass(frozen=True)
class Table:
    """Rows of one split, unjudged.

    Attributes:
        where: what messages call it, e.g. `train.csv`.
        ids: a stable id of origin for each row, unique in the table.
        columns: cells by column name, each as long as `ids`.
        label_names: class names of the columns that hold class indices (a Hub dataset's ClassLabel).
        folder: what relative image paths are relative to; the working directory when None.
        dataset: the rows themselves where they came as a Dataset, so that files need not pass through memory.
        origin: the file or folder it was read from, to tell when two splits are one.
        warnings: what reading it left out.
    """

    where: str
    ids: Sequence[str]
    columns: Mapping[str, Sequence[Any]]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folder: Path | None = None
    dataset: Dataset | None = None
    origin: Path | None = None
    warnings: tuple[str, ...] = ()


def split_of(name: str) -> str | None:
    """`dev` -> `validation`: the split that a file, folder or Hub split of this name holds, or None."""
    return next((split for split, names in SPLIT_NAMES.items() if name.lower() in names), None)


def is_missing(cell: object) -> bool:
    """True of None, NaN and text without a visible character: nothing a model can learn from."""
    if isinstance(cell, str):
        return not cell.strip()
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return True
    return isinstance(cell, (float, np.floating)) and bool(np.isnan(cell))


def check_characters(where: str, column: str, ids: Sequence[str], cells: Iterable[Any]) -> None:
    r"""No cell holds half of a character, such as the \ud800 that JSON can spell and no file can hold.

    Args:
        where: as messages call the table.
        column: its name.
        ids: of the rows.
        cells: of these rows; texts, lists and objects of texts, or anything else.

    Raises:
        UserError: some do.
    """
    torn = [row_id for row_id, cell in zip(ids, cells, strict=True) if _is_torn(cell)]
    if torn:
        raise UserError(
            f"{where}: '{column}' holds halves of characters (\\ud800 to \\udfff) in {listed(torn)}; mend it"
        )


def _is_torn(cell: object) -> bool:
    if isinstance(cell, str):
        return _SURROGATES.search(cell) is not None
    if isinstance(cell, Mapping):
        return any(_is_torn(part) for both in cell.items() for part in both)
    return isinstance(cell, (list, tuple)) and any(_is_torn(part) for part in cell)


def first_of(problems: Sequence[str], most: int = 20) -> list[str]:
    """At most `most` problems; the last of them says how many more there are."""
    rest = len(problems) - most
    return list(problems) if rest <= 0 else [*problems[: most - 1], f"{problems[most - 1]}; and {rest} more like it"]


def refusal(where: str, broken: Sequence[str], count: int, what: str) -> UserError:
    """The error of files that cannot be used: how many of them, the first 20 by name, each with its reason."""
    shown = "\n  ".join(first_of(broken))
    return UserError(f"{where}: {len(broken)} of {count} {what}; mend them or take them out:\n  {shown}")


def table_of_dataset(rows: Dataset, where: str, prefix: str) -> Table:
    """A Dataset as a Table; images and sounds stay undecoded, ids are `<prefix>:<index>`."""
    for name, feature in rows.features.items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
        if isinstance(feature, Audio):  # which needs FFmpeg's libraries even where it decodes nothing
            rows = rows.cast_column(name, FILE)
    return Table(
        where=where,
        ids=[f"{prefix}:{index}" for index in range(len(rows))],
        columns={  # what needs no decoding at once, which is a hundred times faster than row by row
            name: rows[name][:] if isinstance(feature, (Value, ClassLabel, List)) else rows[name]
            for name, feature in rows.features.items()
        },
        label_names={name: names for name, feature in rows.features.items() if (names := _class_names(feature))},
        dataset=rows,
    )


def tables_of_objects(objects: Any) -> dict[str, Table]:
    """Tables by split name out of what a Python user has in hand.

    Args:
        objects: a DataFrame, a Dataset or a dict of equally long lists (training rows), or a DatasetDict / dict of
            such things by split name.

    Raises:
        UserError: none of these, or lists of different lengths.
    """
    if isinstance(objects, Mapping) and objects and all(_is_rows(value) for value in objects.values()):
        by_split = {split: rows for name, rows in objects.items() if (split := split_of(str(name)))}
        if not by_split:
            raise UserError(f"expected rows by split name (train, validation, test), found {listed(list(objects))}")
    else:
        by_split = {"train": objects}
    return {split: _table_of_object(rows, split) for split, rows in by_split.items()}


def _is_rows(value: object) -> bool:
    return isinstance(value, (pd.DataFrame, Dataset, Mapping))


def _table_of_object(rows: Any, split: str) -> Table:
    where = f"the {split} rows"
    if isinstance(rows, Dataset):
        return table_of_dataset(rows, where, split)
    if isinstance(rows, pd.DataFrame):
        names = [str(name) for name in rows.columns]
        if len(set(names)) < len(names):
            raise UserError(f"{where}: expected each column name once, found {listed(names)}; rename the repeated ones")
        columns: dict[str, list[Any]] = {name: rows.iloc[:, at].tolist() for at, name in enumerate(names)}
        return Table(where, [f"{split}:{index}" for index in range(len(rows))], columns)
    is_columns = isinstance(rows, Mapping) and not isinstance(rows, DatasetDict)
    if not is_columns or not all(isinstance(cells, (list, tuple, np.ndarray, pd.Series)) for cells in rows.values()):
        hint = "; load it whole first" if isinstance(rows, IterableDataset) else ""
        raise UserError(
            f"{where}: expected a pandas DataFrame, a datasets.Dataset or a dict of lists, "
            f"found {type(rows).__name__}{hint}"
        )
    columns = {str(name): list(cells) for name, cells in rows.items()}
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        found = listed([f"{name} {length}" for name, length in lengths.items()])
        raise UserError(f"{where}: expected lists of one length, found {found}")
    return Table(where, [f"{split}:{index}" for index in range(next(iter(lengths.values()), 0))], columns)


def _class_names(feature: object) -> tuple[str, ...] | None:
    if isinstance(feature, List):
        feature = feature.feature
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None

"""What images and sounds have in common: a row's input is a file, undecoded until it is needed."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from datasets import Dataset, Features

from hf_smalldata.data.modality import Modality, Read
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table


class FilesModality(Modality):
    """Rows whose input column holds {"bytes", "path"}, one of them None."""

    feature: ClassVar[Any]  # a `datasets` feature that does not decode

    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """The input column; relative paths are taken from the folder of the file that names them."""
        if table.dataset is not None and table.folder is None:
            chosen = table.dataset.select_columns([column])
            chosen = chosen if column == self.kind else chosen.rename_column(column, self.kind)
            chosen = chosen if len(rows) == len(chosen) else chosen.select(rows)
            return chosen.cast_column(self.kind, self.feature), []
        cells = list(table.columns[column])
        return self._rows([_absolute(cells[row], table.folder) for row in rows]), []

    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Paths, bytes or decoded inputs, as rows."""
        rows = self._rows(values)
        return rows.add_column("id", [self.name_of(value, at) for at, value in enumerate(values)])

    def contents(self, rows: Dataset) -> list[str]:
        """sha256 of the files."""
        return [hashlib.sha256(read_bytes(value)).hexdigest() for value in rows[self.kind]]

    def name_of(self, value: Any, at: int) -> str:
        """A path as it is, else the place in the list."""
        return str(value) if isinstance(value, (str, Path)) else str(at)

    @abstractmethod
    def encoded(self, value: Any) -> Mapping[str, Any]:
        """One value as {"bytes", "path"}."""

    def _rows(self, values: Sequence[Any]) -> Dataset:
        encoded = [self.encoded(value) for value in values]
        return Dataset.from_dict({self.kind: encoded}, features=Features({self.kind: self.feature}))


def read_bytes(value: Mapping[str, Any]) -> bytes:
    """The file's own bytes of one row's input: what makes two of them identical."""
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def _absolute(cell: Any, folder: Path | None) -> Any:
    if isinstance(cell, Mapping) and cell.get("bytes") is None and cell.get("path") is not None:
        cell = cell["path"]
    return str(folder / cell) if isinstance(cell, (str, Path)) and folder is not None else cell

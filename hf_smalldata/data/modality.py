"""What the rows of a modality are: under which names their input is known, how it is read, checked and told apart.

The other half of a modality, how rows become a model's input, is a task (`hf_smalldata.tasks`).
"""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from datasets import Dataset

from hf_smalldata.data import labels
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table

Kind = Literal["text", "tokens", "image", "audio", "sequence"]
Names = tuple[tuple[str, ...], ...]  # tiers: the first that a table has decides

# A row's kind is told by its columns, in this order: rows of tokens carry their text as well.
MODALITIES: dict[Kind, str] = {
    "tokens": "hf_smalldata.data.modalities.tokens:Tokens",
    "image": "hf_smalldata.data.modalities.image:Images",
    "audio": "hf_smalldata.data.modalities.audio:Sounds",
    "sequence": "hf_smalldata.data.modalities.sequence:Sequences",
    "text": "hf_smalldata.data.modalities.text:Texts",
}
LABEL_NAMES: Names = (
    ("label", "labels"),
    ("class", "category", "target", "intent", "sentiment", "y", "topic", "emotion", "coarse_label"),
    ("rating", "score", "stars", "tag", "tags", "classes", "type", "genre", "polarity"),
)

Read = tuple[Dataset, list[str]]


class Modality(ABC):
    """One kind of input. Stateless; what a user sets comes with the `DataSpec`."""

    kind: ClassVar[Kind]  # also the column of a row that holds the input
    input_names: ClassVar[Names]  # columns of a source that are the input
    label_names: ClassVar[Names] = LABEL_NAMES
    of_text: ClassVar[bool] = False  # whether a source's columns of text may be the input, whatever their name
    tied_from: ClassVar[float] = 0.0  # similarity of pairs that must not be parted; below, a pair is only worth a look
    a_file_each: ClassVar[str] = ""  # 'images': the rows are files in class folders; the word for messages

    def settled(self, spec: DataSpec, cells: Sequence[Sequence[Any]]) -> DataSpec:
        """How to read inputs, with what only all cells of all splits together can tell."""
        return spec

    @abstractmethod
    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """The input columns of some rows of a source, undecoded, and what was changed in reading them.

        Raises:
            UserError: cells that are no such input; all of them named, up to 20.
        """

    @abstractmethod
    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Inputs from Python (or named on the command line) as rows without labels: column id and the input columns.

        Raises:
            UserError: values that are no such input.
        """

    @abstractmethod
    def contents(self, rows: Dataset) -> list[str]:
        """The whole of each row's input as a text: equal for equal inputs only."""

    def ties(self, rows: Dataset) -> list[bytes]:
        """Digests that are equal for inputs that are the same to a reader."""
        return [hashlib.sha256(content.encode()).digest() for content in self.contents(rows)]

    @abstractmethod
    def similar(self, rows: Dataset) -> list[Pair]:
        """Pairs of rows whose inputs are nearly the same, equal ones among them."""

    def check(self, rows: Dataset, where: str) -> list[str]:
        """What is unusual about the inputs, a sentence each.

        Raises:
            UserError: inputs that cannot be read.
        """
        return []

    def groups(self, rows: Dataset) -> list[str] | None:
        """A value a row that the inputs carry themselves and that must not be in two splits, such as a patient's id."""
        return None

    def targets(
        self,
        inputs: Mapping[str, Dataset],
        cells: Mapping[str, Sequence[Any]],
        column: str,
        names: Sequence[str] | None,
        spec: DataSpec,
    ) -> labels.Targets:
        """Label cells to what a model learns from; arguments as in `labels.encode`.

        Raises:
            UserError: labels that do not fit.
        """
        return labels.encode(cells, column, names, spec.problem_type)

    def accepts(self, file: Path) -> bool:
        """Whether a file in a class folder is an input; only of those that are a file each."""
        return False

    @abstractmethod
    def shown(self, row: Mapping[str, Any]) -> Any:
        """What a report shows of a row: text, a pair of texts, a PIL image, or a sound."""


def get_modality(kind: Kind) -> Modality:
    """The modality of a kind of input."""
    module, _, attribute = MODALITIES[kind].partition(":")
    found: Modality = getattr(importlib.import_module(module), attribute)()
    return found


def modality_of(rows: Dataset) -> Modality:
    """The modality of rows, by their columns."""
    return get_modality(next(kind for kind in MODALITIES if kind in rows.column_names))

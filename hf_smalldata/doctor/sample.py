"""The rows as the checks see them: splits with labels by name, compared by what a reader would call equal."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datasets import Dataset, concatenate_datasets

from hf_smalldata.data.holdout import key
from hf_smalldata.data.load import Splits
from hf_smalldata.data.modality import Modality
from hf_smalldata.data.spec import ProblemType
from hf_smalldata.data.strata import class_names, named

MOST_ROWS = 20_000  # of a split, for what looks at rows one by one or at pairs

Label = Any  # a name, a tuple of names, a tuple of tags, or a number


@dataclass(eq=False)
class Part:
    """One split. Columns of `rows`: id, the modality's input, group if there is one."""

    split: str
    rows: Dataset
    labels: Sequence[Label]

    @cached_property
    def ids(self) -> list[str]:
        """Row ids."""
        return list(self.rows["id"][:])

    def select(self, at: Sequence[int]) -> Part:
        """Some rows, in the order given."""
        if len(at) == len(self.labels):
            return self
        return Part(self.split, self.rows.select(at), [self.labels[row] for row in at])


@dataclass(eq=False)
class Sample:
    """A data set.

    Attributes:
        modality: of the inputs.
        problem: of the labels.
        parts: splits by name, train first.
        names: classes; types of entities; () for regression.
    """

    modality: Modality
    problem: ProblemType
    parts: Mapping[str, Part]
    names: Sequence[str]

    @cached_property
    def same(self) -> dict[str, list[Hashable]]:
        """For each split a value a row that is equal for inputs which are the same to a reader."""
        return {split: list(self.modality.ties(part.rows)) for split, part in self.parts.items()}

    @cached_property
    def groups(self) -> dict[str, list[str]] | None:
        """For each split the group of each row, if rows have groups."""
        found = {}
        for split, part in self.parts.items():
            own = part.rows["group"][:] if "group" in part.rows.column_names else self.modality.groups(part.rows)
            if own is not None:
                found[split] = list(own)
        return found if len(found) == len(self.parts) else None

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """For each split the input of each row as one text; for text, tokens and sequences."""
        return {split: self._texts(part) for split, part in self.parts.items()}

    def classes(self, label: Label) -> set[str]:
        """Classes that a label names: one, several, or types of entities."""
        if self.problem == "token_classification":
            return {tag[2:] for tag in label if tag != "O"}
        if self.problem == "multi_label_classification":
            return set(label)
        return set() if self.problem == "regression" else {label}

    def capped(self) -> Sample:
        """At most `MOST_ROWS` of each split, drawn by their ids alone; itself where none has more."""
        if all(len(part.labels) <= MOST_ROWS for part in self.parts.values()):
            return self
        return self.with_parts({split: part.select(_drawn(part.ids)) for split, part in self.parts.items()})

    def without(self, gone: Collection[str]) -> Sample:
        """Less some rows; a split that had no others is gone too."""
        if not gone:
            return self
        kept = {split: part.select([at for at, row_id in enumerate(part.ids) if row_id not in gone])
                for split, part in self.parts.items()}  # fmt: skip
        return self.with_parts({split: part for split, part in kept.items() if len(part.labels)})

    def with_parts(self, parts: Mapping[str, Part]) -> Sample:
        """The same with other rows."""
        return Sample(self.modality, self.problem, parts, self.names)

    def pool(self) -> Dataset:
        """Ids and inputs of all splits, one after another."""
        rows = [part.rows.remove_columns("group") if "group" in part.rows.column_names else part.rows
                for part in self.parts.values()]  # fmt: skip
        return rows[0] if len(rows) == 1 else concatenate_datasets(rows)

    def count(self) -> int:
        """Rows of all splits."""
        return sum(len(part.labels) for part in self.parts.values())

    def _texts(self, part: Part) -> list[str]:
        column = "sequence" if self.modality.kind == "sequence" else "text"
        if "text_pair" in part.rows.column_names:
            return [f"{a}\0{b}" for a, b in zip(part.rows["text"][:], part.rows["text_pair"][:], strict=True)]
        return list(part.rows[column][:])


def sample_of(splits: Splits, modality: Modality) -> Sample:
    """Loaded rows, with their labels by name."""
    held = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = {
        split: Part(split, rows.remove_columns("label"), by_name(rows["label"][:], splits.labels, splits.problem_type))
        for split, rows in held.items()
        if rows is not None and len(rows)
    }
    return Sample(modality, splits.problem_type, parts, class_names(splits.labels, splits.problem_type))


def by_name(targets: Sequence[Any], names: Sequence[str], problem: ProblemType) -> list[Label]:
    """Targets as `load` makes them, with names in place of numbers; lists as tuples, for sets."""
    labels = (named(target, names, problem) for target in targets)
    return [tuple(label) if isinstance(label, list) else label for label in labels]


def _drawn(ids: Sequence[str]) -> list[int]:
    return sorted(sorted(range(len(ids)), key=lambda at: key(0, ids[at]))[:MOST_ROWS])

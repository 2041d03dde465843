"""Sequences of DNA, RNA and proteins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, Value

from hf_smalldata.data.modalities.text import texts
from hf_smalldata.data.modality import Modality, Read
from hf_smalldata.data.sequences import clean, guess_alphabet
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_texts import similar_sequences
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, is_missing


class Sequences(Modality):
    """Rows with `sequence`: upper-case letters of one alphabet."""

    kind = "sequence"
    of_text = True
    input_names = (("sequence", "seq", "dna", "rna", "protein", "dna_sequence", "protein_sequence"), ("text",))

    def settled(self, spec: DataSpec, cells: Sequence[Sequence[Any]]) -> DataSpec:
        """The alphabet: a protein may happen to have the letters of DNA alone."""
        if spec.alphabet is not None:
            return spec
        every = [str(cell).upper() for column in cells for cell in column if not is_missing(cell)]
        return spec.model_copy(update={"alphabet": guess_alphabet(every)})

    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """Column sequence."""
        ids = [table.ids[row] for row in rows]
        found, changed = clean(texts(table, column, rows), ids, table.where, spec.alphabet)
        return Dataset.from_dict({"sequence": found}, features=Features({"sequence": Value("string")})), changed

    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Sequences as texts."""
        ids = [str(at) for at in range(len(values))]
        found, _ = clean([str(value) for value in values], ids, "the sequences", spec.alphabet)
        return Dataset.from_dict({"id": ids, "sequence": found})

    def contents(self, rows: Dataset) -> list[str]:
        """The letters."""
        return list(rows["sequence"][:])

    def similar(self, rows: Dataset) -> list[Pair]:
        """By shared k-mers."""
        return similar_sequences(rows["sequence"][:])

    def shown(self, row: Mapping[str, Any]) -> Any:
        """The letters."""
        return row["sequence"]

"""Texts and pairs of texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, Value

from hf_smalldata.data.modality import Modality, Read
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_texts import similar_texts
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, check_characters, is_missing
from hf_smalldata.errors import UserError, listed


class Texts(Modality):
    """Rows with `text`, and `text_pair` where `data.text_pair_column` is given."""

    kind = "text"
    of_text = True
    tied_from = 0.9  # short texts of one pattern reach 0.8
    input_names = (
        ("text",),
        ("sentence", "review", "content", "tweet", "question", "utterance", "comment", "body", "document", "article"),
        ("message", "review_text", "text_clean", "description", "query", "post", "sequence", "premise", "sms"),
        ("title", "headline", "subject", "summary"),
    )

    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """Columns text and text_pair."""
        data = {"text": texts(table, column, rows)}
        if pair is not None:
            data["text_pair"] = texts(table, pair, rows)
        return Dataset.from_dict(data, features=Features({name: Value("string") for name in data})), []

    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Texts, or {"text": …, "text_pair": …} for pairs."""
        pairs = [value if isinstance(value, Mapping) else {"text": value} for value in values]
        wrong = [str(at) for at, one in enumerate(pairs) if not all(isinstance(text, str) for text in one.values())]
        if wrong:
            raise UserError(f"expected texts, found something else at {listed(wrong)}")
        data = {name: [one[name] for one in pairs] for name in pairs[0]} if pairs else {"text": []}
        return Dataset.from_dict({"id": [str(at) for at in range(len(pairs))], **data})

    def contents(self, rows: Dataset) -> list[str]:
        """Text and second text."""
        return [json.dumps(list(both)) for both in _both(rows, None)]

    def ties(self, rows: Dataset) -> list[bytes]:
        """Equal for texts that differ in blanks or case only."""
        normal = ("\0".join(" ".join(part.casefold().split()) for part in both) for both in _both(rows, ""))
        return [hashlib.sha256(text.encode()).digest() for text in normal]

    def similar(self, rows: Dataset) -> list[Pair]:
        """By shared shingles of both texts."""
        return similar_texts(["\n".join(both) for both in _both(rows, "")])

    def shown(self, row: Mapping[str, Any]) -> Any:
        """The text, or both of a pair."""
        return (row["text"], row["text_pair"]) if "text_pair" in row else row["text"]


def texts(table: Table, column: str, rows: Sequence[int]) -> list[str]:
    """Cells of a column as texts.

    Raises:
        UserError: lists, objects or bytes among them, or texts with halves of characters.
    """
    cells = list(table.columns[column])
    strange = {type(cells[row]).__name__ for row in rows if isinstance(cells[row], (list, dict, bytes, bytearray))}
    if strange:
        raise UserError(f"{table.where}: expected texts in column '{column}', found {listed(sorted(strange))}")
    found = ["" if is_missing(cells[row]) else str(cells[row]) for row in rows]
    check_characters(table.where, column, [table.ids[row] for row in rows], found)
    return found


def _both(rows: Dataset, none: str | None) -> list[tuple[Any, ...]]:
    pairs = rows["text_pair"][:] if "text_pair" in rows.column_names else [none] * len(rows)
    return list(zip(rows["text"][:], pairs, strict=True))

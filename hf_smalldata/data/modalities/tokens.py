"""Texts whose words carry tags: entities marked as in CoNLL files, or as spans of characters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from hf_smalldata.data import labels, spans, tags
from hf_smalldata.data.modalities.text import texts
from hf_smalldata.data.modality import Modality, Read
from hf_smalldata.data.similar import Pair
from hf_smalldata.data.similar_texts import similar_texts
from hf_smalldata.data.spec import DataSpec
from hf_smalldata.data.table import Table, check_characters
from hf_smalldata.errors import UserError, listed

ROW = Features({"text": Value("string"), "tokens": List(Value("string")), "starts": List(Value("int64"))})


class Tokens(Modality):
    """Rows with `text`, its words `tokens`, and the place of each word's first character, `starts`."""

    kind = "tokens"
    of_text = True
    tied_from = 0.9  # short texts of one pattern reach 0.8
    input_names = (("tokens", "words", "token"), ("text", "sentence"))
    label_names = (
        ("tags", "ner_tags", "labels", "label", "ner"),
        ("spans", "entities", "ents", "annotations"),
        ("pos_tags", "chunk_tags", "tag"),
    )

    def inputs(self, table: Table, column: str, pair: str | None, rows: Sequence[int], spec: DataSpec) -> Read:
        """Lists of words are joined by blanks; texts are cut into words."""
        cells = table.columns[column]
        given = [cells[row] for row in rows]
        if not any(_is_list(cell) for cell in given):
            found = texts(table, column, rows)
            if column.lower() not in self.input_names[0]:
                return _rows_of_texts(found), []
            given = _lists(found, [table.ids[row] for row in rows], f"{table.where}, '{column}'")
        strange = [table.ids[row] for row, cell in zip(rows, given, strict=True) if not _is_list(cell)]
        if strange:
            raise UserError(f"{table.where}: expected lists of words in '{column}', found other things in "
                            f"{listed(strange)}")  # fmt: skip
        words = [[str(word) for word in cell] for cell in given]
        empty = [
            table.ids[row] for row, each in zip(rows, words, strict=True) if not all(word.strip() for word in each)
        ]
        if empty:
            raise UserError(f"{table.where}: empty words in {listed(empty)}; take them and their tags out")
        check_characters(table.where, column, [table.ids[row] for row in rows], words)
        return _rows_of_words(words), []

    def given(self, values: Sequence[Any], spec: DataSpec) -> Dataset:
        """Texts, or lists of words."""
        words = [_is_list(value) for value in values]
        made = [_rows_of_words([value]) if each else _rows_of_texts([value])
                for value, each in zip(values, words, strict=True)]  # fmt: skip
        columns = {name: [one[name][0] for one in made] for name in ROW}
        ids = [str(at) for at in range(len(made))]
        return Dataset.from_dict({"id": ids, **columns}, features=Features({"id": Value("string"), **ROW}))

    def contents(self, rows: Dataset) -> list[str]:
        """The words."""
        return [json.dumps(words) for words in rows["tokens"][:]]

    def targets(
        self,
        inputs: Mapping[str, Dataset],
        cells: Mapping[str, Sequence[Any]],
        column: str,
        names: Sequence[str] | None,
        spec: DataSpec,
    ) -> labels.Targets:
        """A tag a word, as indices of O, B-a, I-a, B-b, …; every scheme of tags, or spans, is read to IOB2."""
        parsed = {split: _lists(each, inputs[split]["id"][:], f"{split} rows, '{column}'")
                  for split, each in cells.items()}  # fmt: skip
        for split, each in parsed.items():
            check_characters(f"{split} rows", column, inputs[split]["id"][:], each)
        as_spans = any(
            isinstance(one, (Mapping, list, tuple)) for each in parsed.values() for cell in each for one in cell
        )
        if not as_spans and names is not None:
            parsed = {split: [[names[at] for at in cell] for cell in each] for split, each in parsed.items()}
        strange = set() if as_spans else {str(tag) for each in parsed.values() for cell in each for tag in cell
                                          if not isinstance(tag, str)}  # fmt: skip
        if strange:
            raise UserError(f"'{column}': expected tags by their names, such as O and B-drug, found "
                            f"{listed(sorted(strange))}; write the name in the place of each")  # fmt: skip
        scheme = spec.tag_scheme or (None if as_spans else tags.detect(parsed["train"]))
        read: dict[str, list[list[str]]] = {}
        warnings: list[str] = []
        for split, rows in inputs.items():
            where = f"{split} rows, '{column}'"
            if as_spans:
                made, said = _tags_of_spans(rows, parsed[split], where, spec)
            else:
                tags.check_lengths(rows["tokens"][:], parsed[split], rows["id"][:], where)
                made, said = tags.to_iob2(parsed[split], rows["id"][:], where, scheme, spec.broken_tags)
            read[split] = made
            warnings += said
        known = tags.tag_names(sentence for sentences in read.values() for sentence in sentences)
        if len(known) < 2:
            raise UserError(f"'{column}': no word has a tag other than O, so there is nothing to learn")
        index = {name: at for at, name in enumerate(known)}
        by_split = {split: [[index[tag] for tag in sentence] for sentence in sentences]
                    for split, sentences in read.items()}  # fmt: skip
        return labels.Targets(by_split, known, "token_classification", tuple(warnings))

    def similar(self, rows: Dataset) -> list[Pair]:
        """By shared shingles of the texts."""
        return similar_texts(rows["text"][:])

    def shown(self, row: Mapping[str, Any]) -> Any:
        """The text."""
        return row["text"]


def _tags_of_spans(
    rows: Dataset, given: Sequence[Sequence[Any]], where: str, spec: DataSpec
) -> tuple[list[list[str]], list[str]]:
    """Spans of one split -> IOB2 tags of its words, and what was mended."""
    tokens, _, made, said = spans.tags_of_spans(rows["text"][:], given, rows["id"][:], where, spec.broken_tags)
    other = [row_id for row_id, mine, theirs in zip(rows["id"][:], tokens, rows["tokens"][:], strict=True)
             if mine != theirs]  # fmt: skip
    if other:
        raise UserError(f"{where}: spans mark characters of texts, and these rows are lists of words: {listed(other)}; "
                        "give a tag a word, or the texts")  # fmt: skip
    return made, said


def _lists(cells: Sequence[Any], ids: Sequence[str], where: str) -> list[list[Any]]:
    """Lists of cells; those of texts hold JSON or words with spaces between them, as tables write lists."""
    found = [_parsed(cell) for cell in cells]
    if strange := [name for name, each in zip(ids, found, strict=True) if each is None]:
        raise UserError(f"{where}: expected a list a row, found other things or broken JSON in {listed(strange)}")
    return [each for each in found if each is not None]


def _parsed(cell: Any) -> list[Any] | None:
    if not isinstance(cell, str):
        return list(cell) if _is_list(cell) else None
    if not cell.lstrip().startswith("["):
        return cell.split()
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _is_list(cell: Any) -> bool:
    return isinstance(cell, (list, tuple, np.ndarray))


def _rows_of_texts(given: Sequence[str]) -> Dataset:
    places = [spans.words(text) for text in given]
    words = [[text[start:end] for start, end in each] for text, each in zip(given, places, strict=True)]
    starts = [[start for start, _ in each] for each in places]
    return Dataset.from_dict({"text": list(given), "tokens": words, "starts": starts}, features=ROW)


def _rows_of_words(given: Sequence[Sequence[str]]) -> Dataset:
    starts = [np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist() if words else [] for words in given]
    texts_of = [" ".join(words) for words in given]
    return Dataset.from_dict(
        {"text": texts_of, "tokens": [list(words) for words in given], "starts": starts}, features=ROW
    )

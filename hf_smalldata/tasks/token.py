"""Token classification: names, places, diseases … marked in a text, for any `AutoModelForTokenClassification`.

Few labels go further here than the number of texts says, since every word of a sentence is one; but rare types of
entities stay rare, so a draw counts entities, not sentences. Every sub-word is trained (its word's tag, `I-` after the
first), which is what a pipeline's `aggregation_strategy="simple"` reads; a word is judged by its first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor, nn

from hf_smalldata.data.spec import ProblemType
from hf_smalldata.errors import UserError
from hf_smalldata.evaluation.arrays import ragged
from hf_smalldata.evaluation.entities import entities
from hf_smalldata.tasks.pretrained import load_classifier
from hf_smalldata.tasks.task import Answers, Batch, Features, ModelSpec, Predictions, Task
from hf_smalldata.tasks.text import load_tokenizer, pad_tokens
from hf_smalldata.tasks.windows import owners

OVERLAP = 0.25  # of a window, shared with the next
SURE = 30.0  # the logit of O for a word that the tokenizer drops
NOT_INPUTS = ("words", "word_count")  # features that tell words, not arguments of a model


class TokenClassification(Task):
    """Rows with `text`, `tokens` and `starts`; labels are a tag a word."""

    name = "token-classification"
    pipeline_tag = "token-classification"
    kind = "tokens"
    model_class = "AutoModelForTokenClassification"
    processor_argument = "tokenizer"
    pipeline_arguments: ClassVar[dict[str, Any]] = {"ignore_labels": []}

    def load_processor(self, spec: ModelSpec) -> Any:
        """The tokenizer, which must tell where in the text its tokens lie.

        Raises:
            UserError: it does not, or see `load_tokenizer`.
        """
        tokenizer = load_tokenizer(self.model_class, spec)
        if not tokenizer.is_fast:
            raise UserError(
                f"model.name: {spec.name} has no fast tokenizer (tokenizer.json), which finds words in texts"
            )
        return tokenizer

    def load_model(self, spec: ModelSpec, labels: Sequence[str], problem_type: ProblemType) -> nn.Module:
        """A token classifier with a new head."""
        return load_classifier(self.model_class, spec, labels, problem_type)

    def encode(self, rows: Dataset, processor: Any) -> list[Features]:
        """Token ids, and the word of each token (-1 for none)."""
        if not len(rows):
            return []
        encoded = processor(list(rows["text"]), truncation=True, return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")
        names = list(encoded)
        found = [dict(zip(names, values, strict=True)) for values in zip(*encoded.values(), strict=True)]
        for features, places, row in zip(found, offsets, rows, strict=True):
            features["words"] = _word_of_each(places, row)
            features["word_count"] = len(row["tokens"])
        return found

    def collate(self, features: Sequence[Features], processor: Any) -> Batch:
        """Padded to the longest of the batch: input_ids, attention_mask (B, T)."""
        inputs = [{name: value for name, value in row.items() if name not in NOT_INPUTS} for row in features]
        return pad_tokens(inputs, processor)

    def pipeline_inputs(self, rows: Dataset, processor: Any) -> list[Any]:
        """Texts."""
        return list(rows["text"])

    def cut(self, rows: Dataset, processor: Any) -> Dataset:
        """Texts of more tokens than the model takes become windows of whole words; a quarter is shared by neighbours.

        Windows carry `first_word`, their place in the row.
        """
        limit = processor.model_max_length
        encoded = processor(list(rows["text"]), return_offsets_mapping=True, verbose=False) if len(rows) else {}
        if not any(len(ids) > limit for ids in encoded.get("input_ids", ())):
            return rows
        room = limit - processor.num_special_tokens_to_add() - 1  # a word without its neighbours may take one more
        made = [
            window
            for row, ids, places in zip(rows, encoded["input_ids"], encoded["offset_mapping"], strict=True)
            for window in (_windows(row, places, room) if len(ids) > limit else [{**row, "first_word": 0}])
        ]
        columns = {name: [window[name] for window in made] for name in made[0]}
        features = rows.features.copy()
        features["first_word"] = Dataset.from_dict({"first_word": [0]}).features["first_word"]
        return Dataset.from_dict(columns, features=features)

    def merge(self, values: Predictions, windows: Dataset, rows: Dataset) -> Predictions:
        """Each word as that window sees it in which it stands farthest from an edge."""
        if windows is rows:
            return values
        owner = owners(windows["id"][:], rows["id"][:])
        result = [np.empty((len(words), values[0].shape[1])) for words in rows["tokens"][:]]
        depth = [np.full(len(words), -1) for words in rows["tokens"][:]]
        for at, row, first in zip(range(len(windows)), owner, windows["first_word"][:], strict=True):
            count = len(values[at])
            here = slice(first, first + count)
            context = np.minimum(np.arange(count), np.arange(count)[::-1])
            deeper = context > depth[row][here]
            result[row][here][deeper] = values[at][deeper]
            depth[row][here][deeper] = context[deeper]
        return ragged(result)

    def align(self, label: Any, features: Features) -> list[int]:
        """Tags (words,) -> tags (T,) of the model's tokens; -1 where there is no word."""
        words = features["words"]
        before = [-1, *words[:-1]]
        return [
            -1 if word < 0 else _inside(label[word]) if word == last else label[word]
            for word, last in zip(words, before, strict=True)
        ]

    def targets(self, labels: Sequence[Any], num_labels: int, problem_type: ProblemType) -> Tensor:
        """Aligned tags -> (B, T, C); tokens without a word, and padding, have no mass."""
        longest = max(len(row) for row in labels)
        tags = torch.tensor([[*row, *[-1] * (longest - len(row))] for row in labels])
        return torch.nn.functional.one_hot(tags.clamp(min=0), num_labels).float() * (tags >= 0).unsqueeze(-1)

    def select(self, logits: np.ndarray, features: Features) -> np.ndarray:
        """(T, C) -> (words, C): those of each word's first token."""
        result = np.zeros((features["word_count"], logits.shape[-1]), dtype=logits.dtype)
        result[:, 0] = SURE
        first: dict[int, int] = {}
        for at, word in enumerate(features["words"]):
            first.setdefault(word, at)
        first.pop(-1, None)
        result[list(first)] = logits[list(first.values())]
        return result

    def length(self, features: Features) -> int:
        """Tokens."""
        return len(features["input_ids"])

    def read(self, answers: Sequence[Any], rows: Dataset, labels: Sequence[str]) -> Predictions:
        """Of each word (words, C) the score of the tag that its first token got; the other tags' are not a number."""
        index = {label: at for at, label in enumerate(labels)}
        result = []
        for answer, row in zip(answers, rows, strict=True):
            values = np.full((len(row["tokens"]), len(labels)), np.nan)
            found: dict[int, Any] = {}
            places = [(token["start"], token["end"]) for token in answer]
            for token, word in zip(answer, _word_of_each(places, row), strict=True):
                found.setdefault(word, token)
            for word in range(len(values)):
                if word in found:
                    values[word, index[found[word]["entity"]]] = found[word]["score"]
                else:
                    values[word, 0] = 1.0
            result.append(values)
        return ragged(result)

    def answer(self, values: np.ndarray, row: dict[str, Any], labels: Sequence[str]) -> Answers:
        """Entities in the order of the text, as a pipeline with an aggregation strategy gives them."""
        tags = np.nanargmax(values, axis=-1)
        text, words, starts = row["text"], row["tokens"], row["starts"]
        found = []
        for start, end, kind in entities(tags):
            first, last = starts[start], starts[end - 1] + len(words[end - 1])
            score = float(np.mean([values[word, tags[word]] for word in range(start, end)]))
            found.append({"label": labels[2 * kind + 1].removeprefix("B-"), "score": score,
                          "start": first, "end": last, "word": text[first:last]})  # fmt: skip
        return found


def _word_of_each(places: Sequence[Sequence[int]], row: dict[str, Any]) -> list[int]:
    """For each token's place (start, end) in the text the word that it is part of, or -1."""
    spans = [(start, start + len(word)) for start, word in zip(row["starts"], row["tokens"], strict=True)]
    words, found = iter(enumerate(spans)), []
    at, (begin, stop) = next(words, (-1, (0, 0)))
    for start, end in places:
        while start >= stop and end > start and at >= 0:
            following = next(words, None)
            if following is None:
                break
            at, (begin, stop) = following
        found.append(at if end > start and start < stop and end > begin else -1)
    return found


def _inside(tag: int) -> int:
    """B-x -> I-x."""
    return tag + 1 if tag % 2 else tag


def _windows(row: dict[str, Any], places: Sequence[Sequence[int]], room: int) -> Iterator[dict[str, Any]]:
    """Windows of whole words with at most `room` tokens; a word of more tokens is a window of its own."""
    words = _word_of_each(places, row)
    sizes = np.bincount([word for word in words if word >= 0], minlength=len(row["tokens"]))
    ends = np.cumsum(sizes)
    begin, number = 0, 0
    while begin < len(sizes):
        used = ends[begin] - sizes[begin]
        stop = max(int(np.searchsorted(ends, used + room, side="right")), begin + 1)
        yield _window(row, begin, stop, number)
        if stop == len(sizes):
            return
        back = int(np.searchsorted(ends, ends[stop - 1] - OVERLAP * room, side="right"))
        begin, number = max(min(back, stop), begin + 1), number + 1


def _window(row: dict[str, Any], begin: int, stop: int, number: int) -> dict[str, Any]:
    first = row["starts"][begin]
    last = row["starts"][stop - 1] + len(row["tokens"][stop - 1])
    cut = {"tokens": row["tokens"][begin:stop], "starts": [start - first for start in row["starts"][begin:stop]],
           "text": row["text"][first:last], "id": f"{row['id']}#{number}", "first_word": begin}  # fmt: skip
    label = {"label": row["label"][begin:stop]} if "label" in row else {}
    return {**row, **cut, **label}

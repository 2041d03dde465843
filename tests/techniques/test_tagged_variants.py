"""Every augmentation keeps tags and words of tagged rows in step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hf_smalldata.data.made import rng_of
from hf_smalldata.evaluation.entities import entities
from hf_smalldata.techniques import REGISTRY, get_technique

VARYING = [name for name in REGISTRY if get_technique(name).__module__.split(".")[2] == "augment"
           and "token-classification" in get_technique(name).tasks]  # fmt: skip


def kinds(tags: list[int]) -> list[int]:
    return sorted(kind for _, _, kind in entities(tags))


def wrong_with_tags(row: dict[str, object], parent: dict[str, object]) -> list[str]:
    """What does not fit between text, words, starts and tags of a variant, as far as it does not."""
    text, tokens, starts, tags = row["text"], row["tokens"], row["starts"], row["label"]
    wrong = []
    if not len(tokens) == len(starts) == len(tags):
        return ["tokens, starts and tags are not as many"]
    if any(text[at : at + len(word)] != word for at, word in zip(starts, tokens, strict=True)):
        wrong.append("a word is not where its start says")
    if any(after < before + len(word) for before, word, after in zip(starts, tokens, starts[1:], strict=False)):
        wrong.append("words overlap")
    if any(tag % 2 == 0 < tag and before not in (tag, tag - 1) for before, tag in pairwise([0, *tags])):
        wrong.append("an I- goes on with nothing of its type")
    if kinds(tags) != kinds(parent["label"]):
        wrong.append("entities of other types")
    return wrong


@pytest.mark.parametrize("name", VARYING)
def test_tags_stay_aligned(name, tokens, masked):
    fills_gaps = replace(tokens, folder=masked.folder, processor=masked.processor)  # as some techniques want
    technique, context = get_technique(name)(), fills_gaps.context()
    parents = {row["id"]: row for row in tokens.rows}
    variants = []
    if "rows" in technique.hooks():
        variants += [row for row in technique.rows(tokens.rows, context) if row.get("source")]
    if "example" in technique.hooks():
        variants += [technique.example({**row, "rng": rng_of(0, row["id"], epoch), "parent": row["id"]})
                     for row in tokens.rows for epoch in range(3)]  # fmt: skip
    assert variants
    assert [wrong for row in variants for wrong in wrong_with_tags(row, parents[row["parent"]])] == []


def test_there_are_techniques_to_check_and_the_check_finds_what_is_wrong(tokens):
    assert {"eda", "mention_replacement", "segment_shuffle"} <= set(VARYING)
    row = next(row for row in tokens.rows if 1 in row["label"] and 3 in row["label"])
    assert wrong_with_tags(row, row) == []
    assert wrong_with_tags({**row, "label": row["label"][1:]}, row) == ["tokens, starts and tags are not as many"]
    assert wrong_with_tags({**row, "text": f"x{row['text']}"}, row) == ["a word is not where its start says"]
    assert "words overlap" in wrong_with_tags({**row, "starts": [0] * len(row["starts"])}, row)
    begun = [2 if tag == 1 else tag for tag in row["label"]]
    assert wrong_with_tags({**row, "label": begun}, row) == ["an I- goes on with nothing of its type"]
    gone = np.where(np.array(row["label"]) > 2, 0, row["label"]).tolist()
    assert wrong_with_tags({**row, "label": gone}, row) == ["entities of other types"]

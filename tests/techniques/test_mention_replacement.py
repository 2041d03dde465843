"""Mention replacement: types, tags and the words around stay; names come from training rows alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset
from pydantic import ValidationError

from hf_smalldata.techniques.augment.mention_replacement import MentionReplacement, mentions, replaced
from hf_smalldata.techniques.augment.words import Word

SENTENCE = [Word("", "in"), Word(" ", "New", 1), Word(" ", "York", 2), Word(",", "Ann", 3), Word(" ", "sang")]
KNOWN = {0: [SENTENCE[1:3], [Word(" ", "Rome", 1)]], 1: [SENTENCE[3:4]]}


def test_mentions_are_kept_by_type_as_often_as_they_are_there():
    found = mentions([SENTENCE, SENTENCE, [Word("", "Rome", 1), Word(" ", "Oslo", 1)]])
    assert [[word.text for word in each] for each in found[0]] == [["New", "York"]] * 2 + [["Rome"], ["Oslo"]]
    assert len(found[1]) == 2


def test_another_mention_of_the_type_takes_the_place_and_the_gap():
    made = replaced(SENTENCE, KNOWN, 1.0, np.random.default_rng(0))
    assert made == [SENTENCE[0], Word(" ", "Rome", 1), *SENTENCE[3:]]  # of Ann's type there is no other
    back = replaced([Word("-", "Rome", 1)], KNOWN, 1.0, np.random.default_rng(0))
    assert back == [Word("-", "New", 1), Word(" ", "York", 2)]


def test_a_mention_is_replaced_with_the_probability_and_drawn_as_often_as_it_is_there():
    rng = np.random.default_rng(0)
    known = {0: [[Word("", "Rome", 1)]] * 3 + [[Word("", "Oslo", 1)]] + [SENTENCE[1:3]] * 4}
    drawn = [replaced(SENTENCE[1:3], known, 0.4, rng)[0].text for _ in range(4000)]
    for name, share in (("New", 0.6), ("Rome", 0.3), ("Oslo", 0.1)):
        assert drawn.count(name) / 4000 == pytest.approx(share, abs=0.03)


def test_mentions_are_seen_beside_the_words_of_other_sentences():
    """What the paper hopes for: context and name are no longer one."""
    rows = Dataset.from_list([
        {"id": str(at), "text": f"{verb} {name}", "tokens": [verb, name], "starts": [0, 6], "label": [0, 1]}
        for at, (verb, name) in enumerate([("visit", "Rome"), ("leave", "Oslo"), ("enjoy", "Bonn")])
    ])  # fmt: skip
    context = SimpleNamespace(seed=0, facts={})
    made = MentionReplacement(probability=1.0, n_aug=6).rows(rows, context)
    assert {tuple(words) for words in made["tokens"]} == {
        (verb, name) for verb in ("visit", "leave", "enjoy") for name in ("Rome", "Oslo", "Bonn")
    }
    assert context.facts["mention_replacement"] == {"made": 6, "same": 12, "empty": 0}


def test_probability_zero_is_the_identity_and_rows_without_mentions_have_no_variants(tokens):
    assert MentionReplacement(probability=0).rows(tokens.rows, tokens.context()) is tokens.rows
    plain = tokens.rows.filter(lambda row: not any(row["label"]))
    assert len(plain)
    assert MentionReplacement().rows(plain, tokens.context()) is plain


def test_a_probability_is_between_0_and_1():
    with pytest.raises(ValidationError, match="probability"):
        MentionReplacement(probability=1.5)
